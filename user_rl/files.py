"""Files that are whole or not there, folders that change places, and locks that name their holder."""

import ctypes
import fcntl
import os
import shutil
from pathlib import Path

from user_rl.clock import Clock, SystemClock
from user_rl.errors import StorageBusy, StorageError

POLL_S = 0.02
AT_FDCWD, RENAME_EXCHANGE = -100, 2  # linux/fcntl.h, linux/fs.h


def write_atomically(path: Path, data: bytes, *, mode: int = 0o644) -> None:
    """`path` holds `data` when this returns, through power cuts; until then it holds what it held before."""
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f".{path.name}.{os.getpid()}.part")
    fd = os.open(part, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, mode)
    try:
        with os.fdopen(fd, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        part.replace(path)
    finally:
        part.unlink(missing_ok=True)  # it is there only when something went wrong
    sync_folder(path.parent)


def sync_folder(folder: Path) -> None:
    """Makes renames and new names inside `folder` durable."""
    fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


def sync_file(path: Path) -> None:
    """Makes what was written to a file durable."""
    fd = os.open(path, os.O_RDONLY)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


def exchange(one: Path, other: Path) -> None:
    """Two names change what they stand for at one instant; durable once their folders are synced.

    Raises StorageError where the file system cannot.
    """
    libc = ctypes.CDLL(None, use_errno=True)
    failed = libc.renameat2(AT_FDCWD, os.fsencode(one), AT_FDCWD, os.fsencode(other), RENAME_EXCHANGE)
    if failed:
        why = os.strerror(ctypes.get_errno())
        raise StorageError(f"{other}: cannot be replaced at once here: {why}; use a local disk, or a new name")


def free_bytes(path: Path) -> int | None:
    """What its disk has left for this user; None while the disk does not say."""
    try:
        return shutil.disk_usage(path).free
    except OSError:
        return None


class FileLock:
    """An exclusive lock on `path`, freed by the kernel when its holder dies; the file names the holder's pid."""

    def __init__(self, path: Path, *, wait_s: float = 0.0, clock: Clock | None = None) -> None:
        """Takes the lock, waiting up to `wait_s`; raises StorageBusy naming the holder."""
        clock = clock or SystemClock()
        path.parent.mkdir(parents=True, exist_ok=True)
        self._fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
        deadline_s = clock.now_s() + wait_s
        while not self._try():
            if clock.now_s() >= deadline_s:
                holder = os.pread(self._fd, 32, 0).decode(errors="replace").strip() or "unknown"
                os.close(self._fd)
                raise StorageBusy(
                    f"{path.parent} is held by process {holder}, allowed one; stop it or wait for its end"
                )
            clock.sleep_until(clock.now_s() + POLL_S)
        try:
            own = f"{os.getpid()}\n".encode()
            os.ftruncate(self._fd, os.pwrite(self._fd, own, 0))  # in this order a full disk has room for it
        except OSError:
            self.release()
            raise

    @property
    def fd(self) -> int:
        """What a child may inherit: the lock is then held until it has ended too."""
        return self._fd

    def release(self) -> None:
        """Lets go; safe to call twice."""
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1

    def _try(self) -> bool:
        try:
            fcntl.flock(self._fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        return True
