"""One writer per log: a flock that dies with its process, and an epoch that outvotes a writer that lost its lock.

`log.json` names the log (32 hex digits, made once), its format and the epoch, which each new writer raises, in place,
so that a log on a full disk can be opened and trimmed. The file is smaller than a disk sector, which is written whole
or not at all. `lock` holds the flock and says who has it. A child made by plain fork would inherit the flock: open the
log after forking.
"""

import os
import secrets
from contextlib import ExitStack
from pathlib import Path

import msgspec

from user_rl.errors import StorageBusy, StorageCorrupt, StorageError
from user_rl.files import FileLock, sync_folder, write_atomically
from user_rl.log.durable import translated

FORMAT = 2
IDENTITY_BYTES = 256


class Identity(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """`log.json`."""

    format: int
    log_id: str
    epoch: int


def read_identity(path: Path) -> Identity:
    """Which log lies in this folder; raises StorageError where there is none or one of another format."""
    try:
        identity = msgspec.json.decode((path / "log.json").read_bytes(), type=Identity)
    except FileNotFoundError as error:
        raise StorageError(f"{path}: no log is there (log.json is missing); start its writer first") from error
    except msgspec.MsgspecError as error:
        raise StorageCorrupt(f"{path}/log.json cannot be read: {error}; restore it from a backup") from error
    if identity.format != FORMAT:
        raise StorageError(f"{path}: log format {identity.format}, allowed {FORMAT}; use the release that wrote it")
    return identity


class WriterLock:
    """The right to write into a log, and its new epoch. Raises StorageBusy naming the pid that has it."""

    def __init__(self, path: Path) -> None:
        self.path = path
        with translated(path, 4096):
            self._file = FileLock(path / "lock")
        with ExitStack() as undo, translated(path, 4096):
            undo.callback(self.close)
            self.identity = self._next_identity()
            undo.pop_all()

    def check(self) -> None:
        """Raises StorageBusy if another writer has come since."""
        epoch = read_identity(self.path).epoch
        if epoch != self.identity.epoch:
            raise StorageBusy(
                f"{self.path}: its writer has epoch {epoch} now, ours is {self.identity.epoch}; "
                "close this one, it may not write"
            )

    def close(self) -> None:
        """Gives the right back."""
        self._file.release()

    def _next_identity(self) -> Identity:
        if (self.path / "log.json").exists():
            found = read_identity(self.path)
            identity = Identity(FORMAT, found.log_id, found.epoch + 1)
        elif any(self.path.glob("*-*/data.mdb")):
            raise StorageCorrupt(f"{self.path}: has segments but no log.json; restore it from a backup")
        else:
            identity = Identity(FORMAT, secrets.token_hex(16), 1)
        self._write(self.path / "log.json", msgspec.json.encode(identity).ljust(IDENTITY_BYTES))
        return identity

    def _write(self, file: Path, data: bytes) -> None:
        if not file.exists():
            write_atomically(file, data)
            sync_folder(self.path.parent)
            return
        with file.open("r+b", buffering=0) as existing:
            existing.write(data)
            os.fsync(existing.fileno())
