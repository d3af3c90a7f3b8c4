"""The log's part of a backup: every segment as it was at one instant, while its writer goes on; and the way back.

One instant, because a stream's rows go to the segments of several classes: copies taken one after the other could hold
rows whose predecessors they lack, which a restored log would never ask for again. What is sealed is copied as it is;
what is still written is copied by LMDB, from read transactions that were all open before any of their writers committed
again. What was dropped (`gone.json`, `dropped/`) is copied as it was at that instant. Pins are not: their holders
choose anew. A restored log goes on at an epoch that no life of the lost one has had.
"""

import secrets
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, BinaryIO

import msgspec

from user_rl.errors import StorageCorrupt, StorageError
from user_rl.files import write_atomically
from user_rl.log.dropped import dropped_files
from user_rl.log.lock import FORMAT, IDENTITY_BYTES, Identity, read_identity
from user_rl.log.segment import Segment, SegmentGone, is_segment_name
from user_rl.log.tally import FILE
from user_rl.log.vault import Index, Kept, Vault, told
from user_rl.log.verify import verify

if TYPE_CHECKING:
    from user_rl.log.segment import Txn

TRIES = 1000  # to find an instant between two commits; a commit's fsync is far longer than a look
RETRIES = 8  # a backup that loses its segments to trim() this often in a row gives up
LEAP = 1_000_000  # more numbers than a run gives between its backup and its loss
LOG = "log/"  # where the log's files stand in a backup


def keep_log(path: Path, vault: Vault) -> list[Kept]:
    """Takes the log in `path` into the vault. Another process may be its writer.

    Raises StorageCorrupt when it is damaged, StorageFull, and StorageBusy where this process is the writer.
    """
    for _ in range(RETRIES):
        try:
            return _keep(path, vault)
        except SegmentGone:
            continue
    raise StorageError(f"{path}: segments were trimmed {RETRIES} times while they were copied; back up again later")


def restore_log(vault: Vault, index: Index, root: Path, *, fork: bool) -> Identity:
    """Writes the log of a backup under `root`, verified, durable but for its folder's name; returns what it is now.

    `fork`: a log of its own beside the one that was backed up. Raises StorageCorrupt naming what is damaged.
    """
    path = root / LOG
    path.mkdir(parents=True)
    for kept in index.files:
        if kept.path.startswith(LOG):
            vault.fetch(kept, root)
    identity = Identity(FORMAT, secrets.token_hex(16) if fork else index.log_id, index.epoch + LEAP)
    write_atomically(path / "log.json", msgspec.json.encode(identity).ljust(IDENTITY_BYTES))
    problems = verify(path)
    if problems:
        raise StorageCorrupt(f"{problems[0]} ({len(problems)} problems in all); use another copy of this backup")
    return identity


@contextmanager
def instant(path: Path) -> "Iterator[tuple[list[Segment], dict[Segment, Txn]]]":
    """(the sealed segments, read transactions on the others), all as they were at one instant."""
    for _ in range(TRIES):
        with ExitStack() as stack:
            names = _names(path)
            segments = [Segment(path / name) for name in names]
            live: dict[Segment, Txn] = {}
            for segment in segments:
                stack.callback(segment.close)
                if segment.footer is None:
                    live[segment] = stack.enter_context(segment.begin())
            if all(segment.last_commit() == txn.id() for segment, txn in live.items()) and _names(path) == names:
                yield [segment for segment in segments if segment.footer], live
                return
    raise StorageError(f"{path}: not one instant without a commit in {TRIES} tries; back up when less is written")


def _names(path: Path) -> list[str]:
    return sorted(entry.name for entry in path.iterdir() if is_segment_name(entry.name))


def _keep(path: Path, vault: Vault) -> list[Kept]:
    identity = read_identity(path)
    with instant(path) as (sealed, live):  # what is live comes first: while it is pinned, its file can only grow
        kept = [_keep_live(segment, txn, vault) for segment, txn in live.items()]
        gone = _gone(path, {segment.path.name for segment in (*sealed, *live)})
    _check_live(path, identity, kept, vault)
    kept += [vault.write(f"{LOG}{name}", partial(_put, data)) for name, data in gone.items()]
    return kept + [file for segment in sealed for file in _keep_sealed(segment, vault)]


def _put(data: bytes, into: BinaryIO) -> None:
    into.write(data)


def _gone(path: Path, names: set[str]) -> dict[str, bytes]:
    """The files that say what is gone, while all these segments are there; raises SegmentGone."""
    files = [path / FILE, *dropped_files(path)]
    found = {str(file.relative_to(path)): file.read_bytes() for file in files if file.is_file()}
    for name in names:
        if not (path / name).is_dir():
            raise SegmentGone(f"{path / name}: was dropped while it was copied; ask again")
    return found


def _keep_live(segment: Segment, txn: "Txn", vault: Vault) -> Kept:
    return vault.write(
        f"{LOG}{segment.path.name}/data.mdb", lambda into: segment.copy(txn, into.fileno()),
        need_bytes=segment.used_bytes(),
    )  # fmt: skip


def _keep_sealed(segment: Segment, vault: Vault) -> list[Kept]:
    footer, name = segment.footer, f"{LOG}{segment.path.name}"
    assert footer is not None, "it is sealed"
    try:
        return [
            vault.keep(f"{name}/data.mdb", segment.path / "data.mdb", sealed=(footer.bytes, footer.xxh3_128)),
            vault.keep(f"{name}/footer.json", segment.path / "footer.json"),
        ]
    except FileNotFoundError as error:
        raise SegmentGone(f"{segment.path}: was trimmed while it was copied; ask again") from error


def _check_live(path: Path, identity: Identity, kept: list[Kept], vault: Vault) -> None:
    """What is still written has no footer to be held against: its copies are verified as a log of their own."""
    with told(vault.root, 0), TemporaryDirectory(dir=vault.root, prefix=".check-") as name:
        (folder := Path(name, LOG)).mkdir()
        (folder / "log.json").write_bytes(msgspec.json.encode(identity))
        for file in kept:
            (link := Path(name, file.path)).parent.mkdir()
            link.symlink_to(vault.file(file).resolve())
        if problems := verify(folder):
            raise StorageCorrupt(
                f"{problems[0].replace(str(folder), str(path))}; what was backed up before is untouched"
            )
