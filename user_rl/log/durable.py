"""Folders that are whole or gone, and the disk's refusals in the operator's terms.

LMDB reports a full disk as "Input/output error", because its write came back short; only asking the file system for the
bytes tells a full disk from a broken one.
"""

import errno
import os
import resource
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import lmdb

from user_rl.errors import StorageBusy, StorageError, StorageFull
from user_rl.files import sync_folder

_FULL = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}


class SegmentFull(StorageFull):
    """A segment's map has no room, whatever the disk has: go on in another."""


def drop_folder(path: Path) -> None:
    """Deletes a folder so that a crash leaves it whole or hidden (`.old-`), never half."""
    hidden = path.with_name(f".old-{path.name}")
    path.rename(hidden)
    sync_folder(path.parent)
    shutil.rmtree(hidden)


def sweep(path: Path) -> None:
    """Removes the folders that a crash left half-made (`.new-`) or half-deleted (`.old-`), and parts of files."""
    for entry in (*path.glob(".new-*"), *path.glob(".old-*")):
        shutil.rmtree(entry)
    for entry in (*path.glob(".*.part"), *path.glob("*/.*.part")):
        entry.unlink()


@contextmanager
def translated(path: Path, need_bytes: int) -> Iterator[None]:
    """Turns what LMDB and the file system raise into StorageFull or StorageError. `path` is the folder written to."""
    try:
        yield
    except lmdb.MapFullError as error:
        raise SegmentFull(f"{path}: its map has no room for {need_bytes} bytes; make segment_bytes larger") from error
    except lmdb.Error as error:
        if "already open" in str(error):
            raise StorageBusy(
                f"{path}: this process has it open already; read through its Log, or in another process"
            ) from error
        if need_bytes and is_full(path, need_bytes):
            raise _full(path, need_bytes) from error
        raise StorageError(f"{path}: LMDB refused {need_bytes} bytes: {error}; look at the disk") from error
    except OSError as error:
        if error.errno in _FULL:
            raise _full(path, need_bytes) from error
        raise StorageError(f"{path}: the disk refused {need_bytes} bytes: {error}; look at the disk") from error


def _full(path: Path, need_bytes: int) -> StorageFull:
    free = shutil.disk_usage(path if path.exists() else path.parent).free
    return StorageFull(
        f"{path}: no space for {need_bytes} bytes, {free} are free; "
        "free space on that disk, or trim acknowledged rows, then commit again"
    )


def is_full(path: Path, need_bytes: int) -> bool:
    """Whether the file system denies `need_bytes` now: asked by allocating them in a file that is gone at once."""
    limit, _ = resource.getrlimit(resource.RLIMIT_FSIZE)
    largest = max((file.stat().st_size for file in path.glob("*.mdb")), default=0)
    if limit != resource.RLIM_INFINITY and largest + need_bytes > limit:
        return True
    try:
        number = os.open(path, os.O_TMPFILE | os.O_WRONLY)
    except OSError as error:
        return error.errno in _FULL
    try:
        os.posix_fallocate(number, 0, max(need_bytes, 1))
    except OSError as error:
        return error.errno in _FULL
    finally:
        os.close(number)
    return False
