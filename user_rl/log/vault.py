"""Vault: a folder that holds the newest backup of something, whole at every instant, and copies only what is new.

`data/HASH` are files named by the xxh3_128 of their bytes, never changed; `backup.json` names those that make up the
backup. The order is: every new file (temporary name, fsync, rename), their folder, then the index in one rename, then
what the new index does not name is removed. So a death at any instant leaves the backup before, or this one.
"""

import errno
import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO

import lmdb
import msgspec
import xxhash

from user_rl.errors import StorageCorrupt, StorageError, StorageFull
from user_rl.files import FileLock, sync_folder, write_atomically
from user_rl.log.durable import is_full
from user_rl.log.segment import hash_file

FORMAT = 1
BLOCK_BYTES = 2**20
_FULL = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}

Tell = Callable[[int], None]  # bytes that were dealt with since the last call


class Kept(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One file of a backup: where it belongs, and the bytes it has."""

    path: str
    size: int
    xxh3_128: str


class Index(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """`backup.json`."""

    format: int = FORMAT
    run: str
    log_id: str
    epoch: int  # of the log's writer
    made: str  # UTC, for people
    files: list[Kept]


class Vault:
    """One backup's folder. One process at a time; raises StorageBusy naming the other."""

    def __init__(self, root: Path, *, create: bool = True, tell: Tell = lambda _: None) -> None:
        """`create=False`: to read a backup; it may then lie where nothing can be written."""
        self.root, self._data, self._tell = root, root / "data", tell
        self.copied_files, self.copied_bytes = 0, 0  # that were not here yet
        self._lock: FileLock | None = None
        if create:
            with told(root, 0):
                self._data.mkdir(parents=True, exist_ok=True)
                sync_folder(root.parent)
        if os.access(root, os.W_OK):
            self._lock = FileLock(root / "lock")
            for part in (*self._data.glob("*.part"), *root.glob(".*.part")):
                part.unlink()
            for folder in root.glob(".check-*"):
                shutil.rmtree(folder)

    def check_same(self, run: str, log_id: str) -> None:
        """Raises StorageError when this folder holds the backup of something else."""
        index = read_index(self.root)
        if index is not None and (index.run, index.log_id) != (run, log_id):
            raise StorageError(
                f"{self.root}: holds the backup of run {index.run} (log {index.log_id[:8]}), given was {run} "
                f"(log {log_id[:8]}); give another folder"
            )

    def file(self, kept: Kept) -> Path:
        """Where its bytes lie."""
        return self._data / kept.xxh3_128

    def keep(self, path: str, source: Path, *, sealed: tuple[int, str] | None = None) -> Kept:
        """Takes `source` in as `path`. FileNotFoundError: it is gone. Raises StorageFull, or StorageCorrupt when it
        is not what was `sealed` (size and hash); what is sealed and here already, as its bytes say, is not copied."""
        if sealed is not None and self._has(*sealed):
            return Kept(path, *sealed)
        with source.open("rb") as file:
            return self.write(path, lambda into: self._copy(file, into), sealed=sealed, name=source)

    def write(
        self, path: str, fill: Callable[[BinaryIO], object], *,
        sealed: tuple[int, str] | None = None, name: Path | None = None, need_bytes: int = 0,
    ) -> Kept:  # fmt: skip
        """Takes in as `path` what `fill` writes into the file that it is given."""
        part = self._data / f"{os.getpid()}.part"
        try:
            with told(self.root, need_bytes), part.open("wb") as into:
                fill(into)
                into.flush()
                os.fsync(into.fileno())
            size, digest = hash_file(part)
            if sealed not in (None, (size, digest)):
                raise StorageCorrupt(
                    f"{name or path}: {size} bytes with hash {digest}, sealed were {sealed}; the backup before is "
                    "untouched: restore this file from it"
                )
            if not self._has(size, digest):
                with told(self.root, 0):
                    part.replace(self._data / digest)
                self.copied_files, self.copied_bytes = self.copied_files + 1, self.copied_bytes + size
        finally:
            part.unlink(missing_ok=True)
        return Kept(path, size, digest)

    def commit(self, index: Index) -> None:
        """From now on this is the backup; what only the one before named is removed."""
        with told(self.root, 0):
            sync_folder(self._data)
            write_atomically(self.root / "backup.json", msgspec.json.format(msgspec.json.encode(index)))
        self._tell(0)
        named = {kept.xxh3_128 for kept in index.files}
        for file in self._data.iterdir():
            if file.name not in named:
                file.unlink()
                self._tell(0)

    def fetch(self, kept: Kept, root: Path) -> None:
        """Writes a file of the backup under `root`, durably but for its folder's name; checks every byte.

        Raises StorageCorrupt, StorageFull.
        """
        source, target, digest = self.file(kept), root / kept.path, xxhash.xxh3_128()
        self.copied_files, self.copied_bytes = self.copied_files + 1, self.copied_bytes + kept.size
        try:
            with source.open("rb") as file, told(root, kept.size):
                target.parent.mkdir(parents=True, exist_ok=True)
                with target.open("xb") as into:
                    self._copy(file, into, digest)
                    into.flush()
                    os.fsync(into.fileno())
        except FileNotFoundError as error:
            raise StorageCorrupt(f"{source}: {kept.path} is missing; use another copy of this backup") from error
        if (target.stat().st_size, digest.hexdigest()) != (kept.size, kept.xxh3_128):
            raise StorageCorrupt(
                f"{source}: {kept.path} has {target.stat().st_size} bytes with hash {digest.hexdigest()}, kept were "
                f"{kept.size} with {kept.xxh3_128}; use another copy of this backup"
            )

    def close(self) -> None:
        """Lets another process in."""
        if self._lock is not None:
            self._lock.release()

    def __enter__(self) -> "Vault":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _has(self, size: int, digest: str) -> bool:
        """Whether these bytes are here, as reading them says."""
        with suppress(FileNotFoundError):
            if hash_file(self._data / digest) == (size, digest):
                self._tell(size)
                return True
        return False

    def _copy(self, file: BinaryIO, into: BinaryIO, digest: "xxhash.xxh3_128 | None" = None) -> None:
        while block := file.read(BLOCK_BYTES):
            into.write(block)
            if digest is not None:
                digest.update(block)
            self._tell(len(block))


def read_index(root: Path) -> Index | None:
    """The newest backup in a folder, None before the first."""
    path = root / "backup.json"
    try:
        index = msgspec.json.decode(path.read_bytes(), type=Index)
    except FileNotFoundError:
        return None
    except msgspec.MsgspecError as error:
        raise StorageCorrupt(f"{path} cannot be read: {error}; use another copy of this backup") from error
    for kept in index.files:
        if not kept.xxh3_128.isalnum() or Path(kept.path).is_absolute() or ".." in Path(kept.path).parts:
            raise StorageCorrupt(f"{path}: names {kept.path!r}, allowed are files inside a run; use another copy")
    if index.format != FORMAT:
        raise StorageError(f"{path}: backup format {index.format}, allowed {FORMAT}; use the release that wrote it")
    return index


@contextmanager
def told(folder: Path, need_bytes: int) -> Iterator[None]:
    """Turns what a full or broken disk raises into StorageFull or StorageError."""
    try:
        yield
    except FileNotFoundError:
        raise
    except (OSError, lmdb.Error) as error:
        full = isinstance(error, OSError) and error.errno in _FULL
        if full or (isinstance(error, lmdb.Error) and is_full(folder, max(need_bytes, BLOCK_BYTES))):
            free = shutil.disk_usage(folder).free
            raise StorageFull(
                f"{folder}: no space, {free} bytes are free; free some or give a folder on another disk; "
                "what was backed up before is untouched"
            ) from error
        raise StorageError(f"{folder}: {error}; mend the disk or give another folder") from error
