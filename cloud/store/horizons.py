"""Horizons: which commit was the newest that a draw saw, written down before the draw is used.

Draw n depends on (seed, n, horizon of n). The file holds one little-endian u64 per draw, at 8 n: a killed process
repeats its draws exactly. It is not synced: after a power cut the last draws are made again, with what is there then.
"""

import os
from pathlib import Path
from struct import Struct

from user_rl.errors import StorageError

_SEQ = Struct("<Q")


class Horizons:
    """The journal of one run's draws; `path` None keeps none."""

    def __init__(self, path: Path | None) -> None:
        self._fd: int | None = None
        if path is not None:
            try:
                self._fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
            except OSError as error:
                raise StorageError(f"{path}: {error.strerror}; make its folder writable") from error

    def of(self, number: int, newest: int) -> int:
        """The commit that draw `number` sees: the one it saw before, else `newest`."""
        if self._fd is None:
            return newest
        data = os.pread(self._fd, _SEQ.size, number * _SEQ.size)
        known = _SEQ.unpack(data)[0] if len(data) == _SEQ.size else 0
        if known:
            return min(int(known), newest)
        try:
            os.pwrite(self._fd, _SEQ.pack(newest), number * _SEQ.size)
        except OSError:  # a full disk: the draw goes on, only its repetition would differ
            return newest
        return newest

    def close(self) -> None:
        """Closes the file."""
        if self._fd is not None:
            os.close(self._fd)
            self._fd = None
