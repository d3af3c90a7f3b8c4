"""Extents: dense arrays over (stream, id), all streams in one slab, so that a batch over many is one gather.

Each stream has a run of places for a run of ids; a run that outgrows its places moves to the slab's end with twice as
many. At most three quarters of the slab are places that nobody uses.
"""

import numpy as np

from user_rl.errors import StorageFull
from user_rl.specs import Array

FIRST = 256  # places of a new stream


class Extents:
    """Maps (stream number, id) to places of parallel arrays. One owner, no lock."""

    def __init__(self, columns: dict[str, Array], *, max_bytes: int) -> None:
        """`columns`: empty arrays that give each array's dtype and shape. Raises StorageFull beyond `max_bytes`."""
        self.arrays = {name: np.zeros((0, *like.shape[1:]), like.dtype) for name, like in columns.items()}
        self._row_bytes = sum(a.dtype.itemsize * int(np.prod(a.shape[1:])) for a in self.arrays.values())
        self._max_bytes = max_bytes
        self._used = 0
        self._start = np.zeros(0, np.int64)  # [S] the first place of a stream
        self._first = np.zeros(0, np.int64)  # [S] its id
        self._length = np.zeros(0, np.int64)  # [S] places

    def places(self, numbers: Array | int, ids: Array) -> tuple[Array, Array]:
        """(places [n], there [n]): where the arrays have each id, and whether they do; place 0 where they do not."""
        numbers = np.broadcast_to(np.asarray(numbers), ids.shape)
        known = (numbers >= 0) & (numbers < len(self._start))
        numbers = np.where(known, numbers, 0) if len(self._start) else np.zeros_like(numbers)
        if not len(self._start):
            return np.zeros(len(ids), np.int64), np.zeros(len(ids), bool)
        offset = ids - self._first[numbers]
        there = known & (offset >= 0) & (offset < self._length[numbers])
        return np.where(there, self._start[numbers] + offset, 0), there

    def cover(self, number: int, low: int, high: int) -> None:
        """Makes places for the ids `low`..`high` of a stream."""
        self._know(number)
        first, length = int(self._first[number]), int(self._length[number])
        if length and first <= low and high < first + length:
            return
        if length:
            low, high = min(low, first), max(high, first + length - 1)
        wanted = max(FIRST, 2 * length, high - low + 1)
        spare = wanted - (high - low + 1)
        if length and low < first:  # it grows downwards: leave the room there
            low = max(0, low - spare)
        start = self._reserve(wanted)
        if length:
            old, new = int(self._start[number]), start + first - low
            for array in self.arrays.values():
                array[new : new + length] = array[old : old + length]
        self._start[number], self._first[number], self._length[number] = start, low, wanted

    def counted(self, name: str) -> int:
        """How many places in use hold something other than 0 in the array `name`."""
        array = self.arrays[name]
        runs = zip(self._start.tolist(), self._length.tolist(), strict=True)
        return sum(int(np.count_nonzero(array[start : start + length])) for start, length in runs)

    def _know(self, number: int) -> None:
        if number >= len(self._start):
            more = number + 1 - len(self._start)
            self._start, self._first, self._length = (
                np.concatenate([a, np.zeros(max(more, len(a)), np.int64)])
                for a in (self._start, self._first, self._length)
            )

    def _reserve(self, count: int) -> int:
        start, end = self._used, self._used + count
        size = len(next(iter(self.arrays.values())))
        if end > size:
            bound = self._max_bytes // self._row_bytes
            if end > bound:
                raise StorageFull(
                    f"late values of {end} ids: {end * self._row_bytes} bytes of memory, allowed {self._max_bytes}; "
                    "prune the column, or give its reader more memory_bytes"
                )
            size = max(end, min(2 * size, bound))
            for name, array in self.arrays.items():
                grown = np.zeros((size, *array.shape[1:]), array.dtype)
                grown[:start] = array[:start]
                self.arrays[name] = grown
        self._used = end
        return start
