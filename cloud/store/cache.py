"""Cache: decoded rows in one slab of memory, in front of the log; the same rows whether they were in it or not.

What comes next is known (`cloud.store.ahead` draws ahead), so a row is taken in when a slot is free, or when it is
needed again before the row that it drives out, which is one that no drawn batch will use. Under uniform drawing nothing
better can be known of two rows that are not in the drawn batches, and a cache that is full then stays as it is.
"""

from collections.abc import Sequence

import numpy as np

from cloud.store.growing import Growing
from cloud.store.records import Records, bytes_of
from user_rl.specs import Array

NOWHERE = -1
SMALL_ROW = 4096  # bytes; below it a loop costs more than copies in vain


class Cache:
    """`slots` decoded rows. One thread gathers; `hits` and `misses` count rows."""

    def __init__(self, records: Records, slots: int) -> None:
        self._records, self.slots = records, slots
        self._slab: Array = np.zeros(
            slots, records.schema.dtype
        )  # the system hands out its pages when they are written
        self._bytes = bytes_of(self._slab)
        self._slot_of = Growing(np.int32)  # by row
        self._row_of = np.full(slots, NOWHERE, np.int64)
        self._free = list(range(slots - 1, -1, -1))
        self.hits = self.misses = 0

    def gather(self, rows: Array, out: Array, *, known: int, soon: Sequence[Array] = ()) -> None:
        """Writes the records of `rows` [n] to `out` [n]. `known`: rows in the index; `soon`: those of later draws."""
        self._slot_of.extend(np.full(known - len(self._slot_of), NOWHERE, np.int32))
        slots = self._slot_of.array[rows]
        missing = np.flatnonzero(slots == NOWHERE)
        self.hits, self.misses = self.hits + len(rows) - len(missing), self.misses + len(missing)
        self._copy(slots, out)
        if len(missing):
            self._read(rows, missing, out, soon)

    def evict(self, rows: Array) -> None:
        """Frees the slots of `rows`: those that can be drawn no more."""
        rows = rows[rows < len(self._slot_of)]
        slots = self._slot_of.array[rows]
        self._slot_of.array[rows] = NOWHERE
        freed = slots[slots != NOWHERE]
        self._row_of[freed] = NOWHERE
        self._free += freed.tolist()

    def _copy(self, slots: Array, out: Array) -> None:
        """The rows that are in the slab; in one call where that is cheaper, for what it gets wrong is read later."""
        hit = np.flatnonzero(slots != NOWHERE)
        target = bytes_of(out)
        if len(hit) and (target.shape[1] < SMALL_ROW or 2 * len(hit) > len(slots)):
            np.take(self._bytes, slots, axis=0, out=target, mode="clip")
            return
        for place, slot in zip(hit.tolist(), slots[hit].tolist(), strict=True):
            target[place] = self._bytes[slot]

    def _read(self, rows: Array, missing: Array, out: Array, soon: Sequence[Array]) -> None:
        """Every missing row once, in key order, straight to its first place; copies for its other places, its slot."""
        wanted, first, inverse = np.unique(rows[missing], return_index=True, return_inverse=True)
        places = missing[first]
        self._records.fetch(wanted, out, places)
        target = bytes_of(out)
        again = np.setdiff1d(np.arange(len(missing)), first)
        for place, source in zip(missing[again].tolist(), places[inverse[again]].tolist(), strict=True):
            target[place] = target[source]
        self._admit(wanted, places, target, soon)

    def _admit(self, rows: Array, places: Array, source: Array, soon: Sequence[Array]) -> None:
        if len(self._free) < len(rows):
            rows, places = self._make_room(rows, places, soon)
        for row, place in zip(rows.tolist(), places.tolist(), strict=True):
            slot = self._free.pop()
            self._bytes[slot] = source[place]
            self._slot_of.array[row] = slot
            self._row_of[slot] = row

    def _make_room(self, rows: Array, places: Array, soon: Sequence[Array]) -> tuple[Array, Array]:
        """Those of `rows` that get a slot: as many as are free, and those needed soon in place of rows that are not."""
        later = np.concatenate([np.zeros(0, np.int64), *soon])
        needed = np.isin(rows, later)
        order = np.argsort(~needed, kind="stable")
        free, wanted = len(self._free), int(np.count_nonzero(needed))
        if wanted > free and self.slots:
            held = np.flatnonzero((self._row_of != NOWHERE) & ~np.isin(self._row_of, later))[: wanted - free]
            self.evict(self._row_of[held])
        chosen = np.sort(order[: len(self._free)])
        return rows[chosen], places[chosen]
