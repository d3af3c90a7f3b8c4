"""Files and folders that appear whole or not at all, whatever dies in between.

The order is always: write a temporary name, fsync it, rename it, fsync the folder that holds it. `Disk` is the five
operations that matter to a power cut, so that a test can record them and replay every prefix.
"""

import errno
import os
import shutil
from collections.abc import Mapping
from pathlib import Path

from user_rl.errors import StorageError, StorageFull
from user_rl.files import sync_folder

TEMPORARY = ".tmp"  # the suffix of what is not there yet


class Disk:
    """The operations whose order decides what a power cut leaves."""

    def make_folder(self, path: Path) -> None:
        path.mkdir(parents=True, exist_ok=True)

    def write(self, path: Path, data: bytes) -> None:
        """Writes and fsyncs the file."""
        with open(path, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())

    def rename(self, source: Path, target: Path) -> None:
        os.replace(source, target)

    def sync_folder(self, path: Path) -> None:
        """Makes the names in `path` durable."""
        sync_folder(path)

    def remove(self, path: Path) -> None:
        """Removes a file or a whole folder; nothing there is fine."""
        if path.is_dir():
            shutil.rmtree(path)
        else:
            path.unlink(missing_ok=True)


def put_file(disk: Disk, path: Path, data: bytes) -> None:
    """Replaces `path` by `data`, durably; raises StorageFull or StorageError and leaves the old one."""
    temporary = path.with_name(path.name + TEMPORARY)
    try:
        disk.write(temporary, data)
        disk.rename(temporary, path)
        disk.sync_folder(path.parent)
    except OSError as error:
        raise storage_error(path, len(data), error) from error


def put_folder(disk: Disk, path: Path, files: Mapping[str, bytes]) -> None:
    """Makes the new folder `path` holding `files`, durably; raises StorageFull or StorageError and leaves nothing."""
    temporary = path.with_name(path.name + TEMPORARY)
    try:
        disk.remove(temporary)
        disk.make_folder(temporary)
        for name, data in files.items():
            disk.write(temporary / name, data)
        disk.sync_folder(temporary)
        disk.rename(temporary, path)
        disk.sync_folder(path.parent)
    except OSError as error:
        disk.remove(temporary)
        raise storage_error(path, sum(map(len, files.values())), error) from error


def remove_temporaries(disk: Disk, folder: Path) -> None:
    """Drops what a killed process was writing in `folder`."""
    for path in folder.glob(f"*{TEMPORARY}"):
        disk.remove(path)


def storage_error(path: Path, size: int, error: OSError) -> StorageError:
    """The error of ours for a failed write of `size` bytes to `path`."""
    if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
        return StorageFull(f"{path}: no space for {size} bytes; free some, what was there before is untouched")
    return StorageError(f"{path}: {error.strerror} writing {size} bytes; mend the disk, then start again")
