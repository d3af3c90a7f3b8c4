"""View: the rows that may be drawn at one horizon, and the one way to draw from them uniformly.

A view shows nothing that was committed after its horizon: no row, no successor, no episode's end. It is a stretch of a
list of row numbers (all online rows, all demonstrations), the newest `capacity` of them.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from cloud.store.index import NOWHERE, Index
from user_rl.errors import NothingToDraw
from user_rl.rows import Klass
from user_rl.specs import Array

Accept = Callable[["View", Array], Array]  # row numbers [n] → bool [n]
TRIES = 16  # rounds of guessing, each for the whole count, before the matching rows are listed


@dataclass(frozen=True, eq=False)
class View:
    """Rows `rows[...]` of the index, ascending; `end` is the horizon: rows below it are there."""

    index: Index
    rows: Array  # [n] int64
    end: int

    def __len__(self) -> int:
        return len(self.rows)

    def is_transition(self, rows: Array) -> Array:
        """Whether each row is a step whose successor is here too, bool [n]."""
        after = self.index.next.array[rows]
        return self.index.is_step.array[rows] & (after != NOWHERE) & (after < self.end)

    def has_ended(self, rows: Array) -> Array:
        """Whether the episode of each row is closed within the horizon, bool [n]."""
        return np.asarray(self.index.closed_by.array[self.index.episode.array[rows]] < self.end)

    def has_succeeded(self, rows: Array) -> Array:
        """Whether the episode of each row is closed within the horizon, and in success, bool [n]."""
        return self.has_ended(rows) & self.index.succeeded.array[self.index.episode.array[rows]]

    def draw(self, rng: np.random.Generator, count: int, accept: Accept | None = None) -> Array:
        """`count` row numbers, uniform over the transitions that `accept` takes, with replacement.

        Raises NothingToDraw when there is none.
        """
        if not len(self.rows):
            raise NothingToDraw("no row is here yet; wait for rows")
        found, parts = 0, []
        for _ in range(TRIES):
            tried = self.rows[rng.integers(len(self.rows), size=count + count // 4 + 8)]
            parts.append(tried[self._fits(tried, accept)])
            found += len(parts[-1])
            if found >= count:
                return np.concatenate(parts)[:count]
        pool = self.matching(accept)
        if not len(pool):
            raise NothingToDraw(f"none of {len(self.rows)} rows may be drawn; wait for rows, or ask for less")
        return pool[rng.integers(len(pool), size=count)]

    def matching(self, accept: Accept | None = None) -> Array:
        """Every transition that `accept` takes: row numbers, ascending. Costs a look at every row."""
        return self.rows[self._fits(self.rows, accept)]

    def _fits(self, rows: Array, accept: Accept | None) -> Array:
        good = self.is_transition(rows)
        return good if accept is None else good & accept(self, rows)


def view(index: Index, klass: Klass, end: int, capacity: int | None = None) -> View:
    """The newest `capacity` rows (None: all) of a class among the index's first `end`."""
    rows = index.of_klass[klass].array
    last = int(np.searchsorted(rows, end))
    return View(index, rows[max(0, last - capacity) if capacity else 0 : last], end)
