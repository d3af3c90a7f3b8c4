"""Places: where the chunks of one segment lie in its data file, for reads that go around the map.

A value larger than a page lies on pages of its own, in one piece. LMDB writes these once, when the chunk is committed,
and frees them only with the key, which the log never deletes: so a place holds as long as the file, also while the
segment is still written to, and is looked up once for all threads. Looking up in the map reads all of the chunk.
"""

import os
import threading
from pathlib import Path

from user_rl.log.mapped import address_of, base_of

PAGE = 4096


class Places:
    """Of the segment whose data file is `path`, asked from any thread while a transaction keeps it mapped; until that
    ends a descriptor that was given is good."""

    def __init__(self, path: Path) -> None:
        self._path, self._fd, self._lock = path, -1, threading.Lock()
        self._base: int | None = None  # where the file is mapped
        self._known: dict[int, int] = {}  # first byte by commit number

    def of(self, seq: int) -> tuple[int, int] | None:
        """A descriptor of the file, and the place of the chunk's first byte in it; None before `note`."""
        at = self._known.get(seq)
        return None if at is None else (self._file(), at)

    def note(self, seq: int, value: memoryview) -> None:
        """Takes note of the chunk whose mapped value this is, if it lies on pages of its own."""
        if len(value) > PAGE and self._file() >= 0 and self._base is not None:
            self._known[seq] = address_of(value) - self._base

    def close(self) -> None:
        """Closes the descriptor; what was noted stays, since the file is the same when it is opened again."""
        with self._lock:
            if self._fd >= 0:
                os.close(self._fd)
            self._fd, self._base = -1, None

    def _file(self) -> int:
        with self._lock:
            if self._fd < 0:
                self._fd, self._base = os.open(self._path, os.O_RDONLY | os.O_CLOEXEC), base_of(self._path)
                os.posix_fadvise(self._fd, 0, 0, os.POSIX_FADV_RANDOM)  # else the system reads what nobody asked for
            return self._fd
