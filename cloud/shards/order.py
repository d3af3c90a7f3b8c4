"""The order in which a learner took in the commits of several logs, written down, so that it is the same for ever.

`RUN/order` begins with MAGIC; then 16 bytes for each stretch: a shard and the last commit of its log that belongs to
the stretch (two little-endian u64). Commits count on from stretch to stretch, so each commit of each log has one number
in the run's order, which no restart, retention or lost chunk changes. A stretch is written before it is used, and
synced before a checkpoint names it; after a power cut the order goes on from what is there.
"""

import os
from pathlib import Path
from struct import Struct
from typing import NamedTuple

import numpy as np

from cloud.store.growing import Growing
from user_rl.errors import StorageError

MAGIC = b"USER-RL order 1\n"
_STRETCH = Struct("<QQ")


class Stretch(NamedTuple):
    """Commits after `after` to `last` of a shard's log; in the run's order they end with number `end`."""

    shard: int
    after: int
    last: int
    end: int

    def number(self, seq: int) -> int:
        """What a commit of the shard's log is in the run's order."""
        return self.end - (self.last - seq)


class Order:
    """The journal. One owner."""

    def __init__(self, path: Path | None) -> None:
        """`path` None keeps it in memory. Raises StorageError where it cannot be opened."""
        self._shards, self._afters = Growing(np.int32), Growing(np.int64)
        self._of_shard, self._ends = Growing(np.int64), Growing(np.int64)  # Stretch.last, Stretch.end
        self._lasts: dict[int, int] = {}  # by shard, the newest
        self._path, self._fd = path, -1
        if path is not None:
            try:
                self._open(path)
            except OSError as error:
                raise StorageError(f"{path}: {error.strerror}; make its folder writable") from error

    def last(self, shard: int) -> int:
        """The newest commit of a shard's log that has its place; 0: none."""
        return self._lasts.get(shard, 0)

    @property
    def end(self) -> int:
        """The highest number that was given."""
        return int(self._ends.array[-1]) if len(self._ends) else 0

    def after(self, number: int) -> Stretch | None:
        """The first stretch that has commits after `number`; None: there is none."""
        place = int(np.searchsorted(self._ends.array, number, side="right"))
        return self._stretch(place) if place < len(self._ends) else None

    def at(self, number: int) -> dict[int, int]:
        """By shard, the newest commit of its log up to `number`."""
        whole = int(np.searchsorted(self._ends.array, number, side="right"))
        found = {
            shard: int(self._of_shard.array[places[-1]])
            for shard in self._lasts
            if len(places := np.flatnonzero(self._shards.array[:whole] == shard))
        }
        cut = self.after(number)
        if cut is not None and (upto := cut.last - (cut.end - number)) > cut.after:
            found[cut.shard] = upto
        return found

    def number(self, shard: int, seq: int) -> int:
        """What a commit of a shard's log is; what has no place yet comes after `end`."""
        places = np.flatnonzero((self._shards.array == shard) & (self._of_shard.array >= seq))
        return self._stretch(int(places[0])).number(seq) if len(places) else self.end + 1

    def add(self, shard: int, last: int) -> Stretch:
        """Gives the next numbers to the commits of a shard's log up to `last`. Raises StorageError on a full disk."""
        if self._fd >= 0:
            self._write(_STRETCH.pack(shard, last))
        return self._take(shard, last)

    def sync(self) -> None:
        """What was added survives a power cut when this returns."""
        if self._fd >= 0:
            os.fsync(self._fd)

    def close(self) -> None:
        """Closes the file."""
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1

    def _take(self, shard: int, last: int) -> Stretch:
        after = self.last(shard)
        stretch = Stretch(shard, after, last, self.end + last - after)
        for column, value in zip((self._shards, self._afters, self._of_shard, self._ends), stretch, strict=True):
            column.extend(np.array([value]))
        self._lasts[shard] = last
        return stretch

    def _stretch(self, place: int) -> Stretch:
        columns = (self._shards, self._afters, self._of_shard, self._ends)
        return Stretch(*(int(column.array[place]) for column in columns))

    def _open(self, path: Path) -> None:
        self._fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o644)
        size = os.fstat(self._fd).st_size
        data = os.pread(self._fd, size, 0)
        if not data.startswith(MAGIC):
            os.ftruncate(self._fd, 0)
            self._write(MAGIC)
            return
        whole = (size - len(MAGIC)) // _STRETCH.size * _STRETCH.size
        for at in range(len(MAGIC), len(MAGIC) + whole, _STRETCH.size):
            shard, last = _STRETCH.unpack_from(data, at)
            if last <= self.last(shard):  # zeros of a page that a power cut left empty, and what follows them
                whole = at - len(MAGIC)
                break
            self._take(shard, last)
        os.ftruncate(self._fd, len(MAGIC) + whole)

    def _write(self, data: bytes) -> None:
        before = os.fstat(self._fd).st_size
        try:
            written = os.write(self._fd, data)
        except OSError:
            written = 0
        if written == len(data):
            return
        if written:
            os.ftruncate(self._fd, before)
        raise StorageError(f"{self._path}: cannot be written; free some space, the learner goes on then")
