"""Horizons: what each draw saw of the log, written down before the draw is used.

Draw n depends on (seed, n, horizon of n). The file begins with MAGIC; draw n has 16 bytes after it, at 16 n: two
little-endian u64, the newest commit and the number of a line, from 1, in the file beside it, `NAME.seen`: JSON, one
line for whatever else was seen, added when that changes. A killed process repeats its draws exactly. Nothing is synced:
after a power cut the last draws are made again, with what is there then.
"""

import logging
import os
from dataclasses import dataclass
from pathlib import Path
from struct import Struct

import msgspec

from user_rl.errors import StorageError

log = logging.getLogger(__name__)

MAGIC = b"USER-RL draws 2\n"
_DRAW = Struct("<QQ")


class Seen(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What a draw saw, beside the newest commit."""

    first: int = 0  # the first commit whose online rows were still there
    lost: tuple[tuple[int, int], ...] = ()  # commits that could not be read, from and to
    columns: dict[str, int] = {}  # late column -> its newest commit
    version: int = 0  # of the weights that it was made for; 0: not written down


@dataclass(frozen=True)
class Horizon:
    """The newest commit that a draw saw, and the rest."""

    seq: int
    seen: Seen = Seen()  # noqa: RUF009  # frozen


class Horizons:
    """The journal of one run's draws; `path` None keeps none. One owner."""

    def __init__(self, path: Path | None) -> None:
        self._draws = self._lines = -1  # file descriptors
        self._seen: list[Seen] = []  # by line
        self._numbers: dict[bytes, int] = {}
        if path is not None:
            try:
                self._open(path)
            except OSError as error:
                raise StorageError(f"{path}: {error.strerror}; make its folder writable") from error

    def of(self, number: int) -> Horizon | None:
        """What draw `number` saw; None: it was not made yet."""
        if self._draws < 0:
            return None
        data = os.pread(self._draws, _DRAW.size, len(MAGIC) + number * _DRAW.size)
        seq, line = _DRAW.unpack(data) if len(data) == _DRAW.size else (0, 0)
        return Horizon(seq, self._seen[line - 1]) if 0 < line <= len(self._seen) else None

    def keep(self, number: int, horizon: Horizon) -> None:
        """Writes down what draw `number` sees."""
        if self._draws < 0:
            return
        try:
            draw = _DRAW.pack(horizon.seq, self._line(horizon.seen))
            os.pwrite(self._draws, draw, len(MAGIC) + number * _DRAW.size)
        except OSError as error:  # a full disk: the draw goes on, only its repetition may differ
            log.debug("draw %d is not written down: %s", number, error)

    def close(self) -> None:
        """Closes the files."""
        for fd in (self._draws, self._lines):
            if fd >= 0:
                os.close(fd)
        self._draws = self._lines = -1

    def _open(self, path: Path) -> None:
        flags = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC
        self._draws = os.open(path, flags, 0o644)
        self._lines = os.open(path.with_name(path.name + ".seen"), flags | os.O_APPEND, 0o644)
        if os.pread(self._draws, len(MAGIC), 0) != MAGIC:
            os.ftruncate(self._draws, 0)
            os.ftruncate(self._lines, 0)
            os.pwrite(self._draws, MAGIC, 0)
        self._read_lines()

    def _read_lines(self) -> None:
        size, whole = os.fstat(self._lines).st_size, 0
        for line in os.pread(self._lines, size, 0).splitlines(keepends=True):
            try:
                seen = msgspec.json.decode(line, type=Seen)
            except msgspec.MsgspecError:
                break
            if not line.endswith(b"\n"):
                break
            self._seen.append(seen)
            self._numbers[line] = len(self._seen)
            whole += len(line)
        os.ftruncate(self._lines, whole)  # a torn line and what follows it

    def _line(self, seen: Seen) -> int:
        """The number of the line that says this; written first where there is none."""
        line = msgspec.json.encode(seen) + b"\n"
        if line not in self._numbers:
            before = os.fstat(self._lines).st_size
            if os.write(self._lines, line) != len(line):  # a full disk
                os.ftruncate(self._lines, before)
                raise OSError("a line is cut")
            self._seen.append(seen)
            self._numbers[line] = len(self._seen)
        return self._numbers[line]
