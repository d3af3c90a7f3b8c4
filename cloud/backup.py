"""Backup of a run: what it learned, its weights, its log, as one consistent whole while the run goes on.

The manifest and the checkpoint that it names are copied first, then the weights, then the log, so that the log holds at
least what the manifest counts on. Left out is what a run makes again or is not its own: processes' logs, the baseline,
simulated cells (a robot's spool is its own copy of what it recorded).
"""

import hashlib
from contextlib import closing, suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import msgspec

from cloud.manifest import FOLDER, MANIFEST, STATE, RunManifest, read_manifest
from cloud.run import RunFolder
from cloud.schema_file import NAME as SCHEMA
from cloud.shards.reader import check_one_log
from cloud.weights import COUNTER, WEIGHTS
from user_rl.columns.backup import keep_columns
from user_rl.errors import StorageCorrupt, StorageError
from user_rl.log.backup import keep_log
from user_rl.log.lock import read_identity
from user_rl.log.vault import Index, Kept, Tell, Vault
from user_rl.versions import Version

RETRIES = 8  # a run that prunes what its manifest named this often in a row is read no further
PLAIN = ("config.json", SCHEMA, "leases.json", "status.json", "report.json", "learning_curve.png")
METRICS = "metrics.jsonl"


@dataclass(frozen=True, kw_only=True)
class Summary:
    """What a backup holds and where the run lies."""

    run: str
    folder: str
    backup: str
    made: str  # UTC
    files: int
    bytes: int
    copied_files: int  # that were not there yet
    copied_bytes: int
    updates: int
    weight_versions: int


def summarise(index: Index, vault: Vault, folder: RunFolder) -> Summary:
    """The figures of one backup or restore."""
    manifest = next((vault.file(kept) for kept in index.files if kept.path == MANIFEST), None)
    state = msgspec.json.decode(manifest.read_bytes(), type=RunManifest).state if manifest else None
    return Summary(
        run=folder.name, folder=str(folder.root), backup=str(vault.root.resolve()), made=index.made,
        files=len(index.files), bytes=sum(kept.size for kept in index.files), copied_files=vault.copied_files,
        copied_bytes=vault.copied_bytes, updates=state.updates if state else 0,
        weight_versions=sum(Path(kept.path).name == WEIGHTS for kept in index.files),
    )  # fmt: skip


def size_bytes(folder: RunFolder) -> int:
    """About what a backup of this run deals with."""
    parts = [folder.log.glob("*-*/data.mdb"), folder.weights.glob("*/*"), (folder.root / FOLDER).glob("*/*")]
    sizes = 0
    for file in (file for part in parts for file in part):
        with suppress(FileNotFoundError):
            sizes += file.stat().st_blocks * 512
    return sizes


def back_up(folder: RunFolder, target: Path, *, tell: Tell = lambda _: None) -> Summary:
    """Makes `target` hold this run as it is now; what it held before is there until then.

    Raises StorageFull, StorageBusy, StorageCorrupt where the run is damaged, StorageError where `target` holds another.
    """
    check_one_log(folder, "a backup")
    identity = read_identity(folder.log)
    with closing(Vault(target, tell=tell)) as vault:
        vault.check_same(folder.name, identity.log_id)
        files = _keep_plain(folder, vault) + _keep_learned(folder, vault)
        files += keep_log(folder.log, vault) + keep_columns(folder.root / "columns", vault)
        index = Index(
            run=folder.name, log_id=identity.log_id, epoch=identity.epoch,
            made=datetime.now(UTC).isoformat(timespec="seconds"), files=files,
        )  # fmt: skip
        vault.commit(index)
        return summarise(index, vault, folder)


def _keep_plain(folder: RunFolder, vault: Vault) -> list[Kept]:
    kept = [vault.keep(name, folder.root / name) for name in PLAIN if (folder.root / name).is_file()]
    if folder.metrics.is_file():
        lines = folder.metrics.read_bytes()
        whole = lines[: lines.rfind(b"\n") + 1]
        kept.append(vault.write(METRICS, lambda into: into.write(whole)))
    return kept


def _keep_learned(folder: RunFolder, vault: Vault) -> list[Kept]:
    """The manifest, the checkpoint that it names, and the weights; again if the learner pruned them meanwhile."""
    for _ in range(RETRIES):
        manifest = read_manifest(folder.root)
        kept = _keep_checkpoint(folder, vault, manifest) if manifest else []
        if kept is not None:
            weights = _keep_weights(folder, vault)
            named = f"weights/{manifest.state.weight_number:08d}/{WEIGHTS}" if manifest else ""
            if any(file.path == named for file in weights) or manifest == read_manifest(folder.root):
                return kept + weights
    raise StorageError(f"{folder.root}: its learner saved {RETRIES} times while it was copied; back up again later")


def _keep_checkpoint(folder: RunFolder, vault: Vault, manifest: RunManifest) -> list[Kept] | None:
    """None: pruned by now, there is a newer one."""
    path = f"{FOLDER}/{manifest.checkpoint:08d}/{STATE}"
    try:
        state = vault.keep(path, folder.root / path)
    except FileNotFoundError as error:
        if read_manifest(folder.root) != manifest:
            return None
        raise StorageCorrupt(f"{folder.root / path}: is missing and {MANIFEST} names it; restore the run") from error
    check_hash(vault.file(state), folder.root / path, manifest.sha256)
    text = msgspec.json.format(msgspec.json.encode(manifest))
    return [vault.write(MANIFEST, lambda into: into.write(text)), state]


def _keep_weights(folder: RunFolder, vault: Vault) -> list[Kept]:
    kept: list[Kept] = []
    if folder.weights.is_dir():
        for path in sorted(p for p in folder.weights.iterdir() if len(p.name) == 8 and p.name.isdigit()):
            kept += _keep_version(path, vault)
    if (folder.weights / COUNTER).is_file():  # after the versions: it is never behind them
        kept.append(vault.keep(f"weights/{COUNTER}", folder.weights / COUNTER))
    return kept


def _keep_version(path: Path, vault: Vault) -> list[Kept]:
    """Nothing if it was pruned meanwhile."""
    try:
        kept = [vault.keep(f"weights/{path.name}/{name}", path / name) for name in ("manifest.json", WEIGHTS)]
    except FileNotFoundError:
        return []
    version = msgspec.json.decode(vault.file(kept[0]).read_bytes(), type=Version)
    check_hash(vault.file(kept[1]), path / WEIGHTS, version.sha256)
    return kept


def check_hash(copy: Path, original: Path, sha256: str) -> None:
    """Raises StorageCorrupt, in the original's name, when the copy has another hash."""
    with copy.open("rb") as file:
        if hashlib.file_digest(file, "sha256").hexdigest() != sha256:
            raise StorageCorrupt(
                f"{original}: its hash is not {sha256[:16]}, which its manifest names; what was backed up before is "
                "untouched: restore it"
            )
