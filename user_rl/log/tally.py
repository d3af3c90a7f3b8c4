"""Tally: what a log had and has no more, because retention dropped it or quarantine took it: `gone.json`.

It is written in place and smaller than a disk sector, like `log.json`, so that it can be written on a full disk. The
newest entry counts only once its segment has left: a death between the two writes counts nothing twice.
"""

import os
from pathlib import Path

import msgspec

from user_rl.errors import StorageCorrupt
from user_rl.files import write_atomically
from user_rl.log.durable import translated
from user_rl.log.segment import Footer
from user_rl.rows import Klass

FILE, FILE_BYTES = "gone.json", 448


class Count(msgspec.Struct, frozen=True):
    """Rows that are gone; `steps` are the online ones without the last rows of episodes."""

    segments: int = 0
    rows: int = 0
    steps: int = 0
    bytes: int = 0

    def __add__(self, other: "Count") -> "Count":
        return Count(*(getattr(self, name) + getattr(other, name) for name in self.__struct_fields__))


class _File(msgspec.Struct, frozen=True):
    total: Count = Count()
    leaving: str = ""  # the segment of `newest`
    newest: Count = Count()


class Tally:
    """The tally of the log at `path`. Anyone reads; the log's writer adds."""

    def __init__(self, path: Path) -> None:
        self._path, self._file = path, path / FILE

    def prepare(self) -> None:
        """Makes the file while the disk has room for it."""
        if not self._file.exists():
            self._write(_File())

    def count(self) -> Count:
        """What is gone by now."""
        return self._settled(self._read())

    def add(self, segment: str, count: Count) -> None:
        """Notes what goes with a segment that is about to leave."""
        self._write(_File(self._settled(self._read()), segment, count))

    def _settled(self, found: _File) -> Count:
        left = bool(found.leaving) and not (self._path / found.leaving).exists()
        return found.total + found.newest if left else found.total

    def _read(self) -> _File:
        try:
            return msgspec.json.decode(self._file.read_bytes(), type=_File)
        except FileNotFoundError:
            return _File()
        except msgspec.MsgspecError as error:
            raise StorageCorrupt(f"{self._file} cannot be read: {error}; restore it from a backup") from error

    def _write(self, content: _File) -> None:
        data = msgspec.json.encode(content).ljust(FILE_BYTES)
        with translated(self._path, 4096):
            if not self._file.exists():
                write_atomically(self._file, data)
                return
            with self._file.open("r+b", buffering=0) as file:
                file.write(data)
                os.fsync(file.fileno())


def count_of(footer: Footer | None, klass: Klass) -> Count:
    """What leaves with a sealed segment, as far as its footer can be read."""
    if footer is None:
        return Count(segments=1)
    return Count(1, footer.rows, footer.steps if klass == Klass.ONLINE else 0, footer.bytes)
