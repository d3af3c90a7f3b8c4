"""Restore of a run from its backup: every byte is checked before the run appears under its name, in one rename.

It is the run as it was, with two numbers beyond any that the lost one can have given since: the log's epoch, and the
next weight version, because robots that hold a lost version take only a higher one. The handshake does the rest: the
gateway says which row it has last, robots send again what their spools still hold, and what they do not is a gap.
"""

import shutil
from contextlib import closing
from pathlib import Path

from cloud.backup import Summary, check_hash, summarise
from cloud.manifest import FOLDER, MANIFEST, STATE, read_manifest
from cloud.run import RunFolder, read_json, write_json
from cloud.weights import COUNTER, WEIGHTS, WeightStore
from user_rl.errors import ConfigError, StorageCorrupt
from user_rl.files import FileLock, sync_folder, write_atomically
from user_rl.log.backup import LEAP, LOG, restore_log
from user_rl.log.segment import segments_in
from user_rl.log.vault import Index, Tell, Vault, read_index, told
from user_rl.versions import read_version, version_folder


def index_of(source: Path) -> Index:
    """What the backup in `source` holds; raises ConfigError where there is none."""
    index = read_index(source)
    if index is None:
        raise ConfigError(f"{source}: no backup is there (backup.json is missing); give the folder of a backup")
    return index


def restore(source: Path, runs: Path, *, name: str | None = None, tell: Tell = lambda _: None) -> Summary:
    """Brings the run of a backup back as `runs`/`name`, its own name if None; every byte is checked before it appears.

    Another name makes another run: its leases are not copied and its log is a log of its own. Raises ConfigError where
    there is no backup or the name is taken, StorageCorrupt where the backup is damaged.
    """
    with closing(Vault(source, create=False, tell=tell)) as vault:
        index = index_of(source)
        folder = RunFolder((runs / _check_name(name or index.run)).resolve())
        _check_free(folder)
        work = folder.root.with_name(f".restoring-{folder.name}")
        with told(runs, 0), closing(_Work(work)):
            part = RunFolder(work / "run" / folder.name)
            _fetch(vault, index, part, fork=folder.name != index.run)
            _check_free(folder)
            part.root.rename(folder.root)
            sync_folder(folder.root.parent)
        return summarise(index, vault, folder)


class _Work:
    """The folder in which a run is put together; nothing looks for runs so deep."""

    def __init__(self, path: Path) -> None:
        self._path, self._lock = path, FileLock(path / "lock")
        shutil.rmtree(path / "run", ignore_errors=True)

    def close(self) -> None:
        shutil.rmtree(self._path)
        self._lock.release()


def _fetch(vault: Vault, index: Index, part: RunFolder, *, fork: bool) -> None:
    """The whole run in `part`, checked and durable."""
    for kept in index.files:
        if not kept.path.startswith(LOG) and not (fork and kept.path == part.leases.name):
            vault.fetch(kept, part.root)
    restore_log(vault, index, part.root, fork=fork)
    _check_learned(part)
    _begin_anew(part, fork=fork)
    for folder in sorted((p for p in part.root.rglob("*") if p.is_dir()), reverse=True):
        sync_folder(folder)
    sync_folder(part.root)


def _begin_anew(part: RunFolder, *, fork: bool) -> None:
    """What must not go on as it was: the weights' numbers, whose processes run it, and in a fork its name."""
    if part.weights.is_dir():
        write_atomically(part.weights / COUNTER, str(WeightStore(part.weights).highest() + LEAP).encode())
    if status := read_json(part.status):
        write_json(part.status, {k: v for k, v in status.items() if k not in ("driver_pid", "edge_pids")})
    if fork:
        kept = read_json(part.config)
        write_json(part.config, kept | {"tree": kept.get("tree", {}) | {"run": part.name}})


def _check_learned(part: RunFolder) -> None:
    """The hashes inside of what was copied, and that the log holds what the manifest counts on."""
    for number in WeightStore(part.weights).numbers():
        version = read_version(version_folder(part.weights, number))
        check_hash(weights := version_folder(part.weights, number) / WEIGHTS, weights, version.sha256)
    manifest = read_manifest(part.root)
    if manifest is None:
        return
    check_hash(state := part.root / FOLDER / f"{manifest.checkpoint:08d}" / STATE, state, manifest.sha256)
    segments = segments_in(part.log)
    seq = max((segment.last_seq() for segment in segments), default=0)
    for segment in segments:
        segment.close()
    if seq < manifest.state.log_seq:
        raise StorageCorrupt(
            f"{part.log}: ends at commit {seq}, {MANIFEST} counts on {manifest.state.log_seq}; "
            "use another copy of this backup"
        )


def _check_name(name: str) -> str:
    if name.startswith(".") or Path(name).name != name:
        raise ConfigError(f"run {name!r}: allowed is one folder's name; choose such a one with --as")
    return name


def _check_free(folder: RunFolder) -> None:
    if folder.root.exists():
        raise ConfigError(
            f"run {folder.name}: exists already in {folder.root.parent}, allowed is a free name; "
            "choose another with --as, or move that folder away"
        )
