"""Slots: which row lies in which place of a cache, and which row makes room for another.

What comes next is known (`cloud.store.ahead` draws ahead), so a row is taken in when a slot is free, or when it is
needed again before the row that it drives out, which is one that no drawn batch will use. Under uniform drawing nothing
better can be known of two rows that are not in the drawn batches, and a cache that is full then stays as it is.
"""

from collections.abc import Sequence

import numpy as np

from cloud.store.growing import Growing
from user_rl.specs import Array

NOWHERE = -1


class Slots:
    """`count` places. One owner."""

    def __init__(self, count: int) -> None:
        self.count = count
        self._slot_of = Growing(np.int32)  # by row
        self._row_of = np.full(count, NOWHERE, np.int64)
        self._free = list(range(count - 1, -1, -1))

    def know(self, rows: int) -> None:
        """There are so many rows now."""
        self._slot_of.extend(np.full(max(0, rows - len(self._slot_of)), NOWHERE, np.int32))

    def of(self, rows: Array) -> Array:
        """The slot of each of `rows` [n]; NOWHERE."""
        return np.asarray(self._slot_of.array[rows])

    def evict(self, rows: Array) -> None:
        """Frees the slots of `rows`."""
        rows = rows[rows < len(self._slot_of)]
        slots = self._slot_of.array[rows]
        self._slot_of.array[rows] = NOWHERE
        freed = np.unique(slots[slots != NOWHERE])
        self._row_of[freed] = NOWHERE
        self._free += freed.tolist()

    def admit(self, rows: Array, soon: Sequence[Array]) -> tuple[Array, Array]:
        """(which of `rows` [n], distinct and in no slot, are taken in; their slots). `soon`: rows of later draws."""
        chosen = np.arange(len(rows)) if len(self._free) >= len(rows) else self._make_room(rows, soon)
        slots = np.array([self._free.pop() for _ in range(len(chosen))], np.int64)
        self._slot_of.array[rows[chosen]] = slots
        self._row_of[slots] = rows[chosen]
        return chosen, slots

    def _make_room(self, rows: Array, soon: Sequence[Array]) -> Array:
        """As many of `rows` as are free, and those needed soon in place of rows that are not."""
        later = np.concatenate([np.zeros(0, np.int64), *soon])
        needed = np.isin(rows, later)
        order = np.argsort(~needed, kind="stable")
        free, wanted = len(self._free), int(np.count_nonzero(needed))
        if wanted > free and self.count:
            held = np.flatnonzero((self._row_of != NOWHERE) & ~np.isin(self._row_of, later))[: wanted - free]
            self.evict(self._row_of[held])
        return np.sort(order[: len(self._free)])
