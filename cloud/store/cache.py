"""Cache: decoded rows in one slab of memory, in front of the log; the same rows whether they were in it or not."""

from collections.abc import Sequence

import numpy as np

from cloud.store.records import Records, bytes_of
from cloud.store.slots import NOWHERE, Slots
from user_rl.specs import Array

SMALL_ROW = 4096  # bytes; below it a loop costs more than copies in vain


class Cache:
    """`slots` decoded rows. One thread gathers; `hits` and `misses` count rows."""

    def __init__(self, records: Records, slots: int) -> None:
        self._records, self.slots = records, slots
        self._slab: Array = np.zeros(
            slots, records.schema.dtype
        )  # the system hands out its pages when they are written
        self._bytes = bytes_of(self._slab)
        self._slots = Slots(slots)
        self.hits = self.misses = 0

    def gather(self, rows: Array, out: Array, *, known: int, soon: Sequence[Array] = ()) -> None:
        """Writes the records of `rows` [n] to `out` [n]. `known`: rows in the index; `soon`: those of later draws."""
        self._slots.know(known)
        slots = self._slots.of(rows)
        missing = np.flatnonzero(slots == NOWHERE)
        self._copy(slots, out)
        if len(missing):
            self._read(rows, missing, out, soon)
        self.hits, self.misses = self.hits + len(rows) - len(missing), self.misses + len(missing)

    def evict(self, rows: Array) -> None:
        """Frees the slots of `rows`: those that can be drawn no more."""
        self._slots.evict(rows)

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
        chosen, slots = self._slots.admit(wanted, soon)
        for place, slot in zip(places[chosen].tolist(), slots.tolist(), strict=True):
            self._bytes[slot] = target[place]
