"""View: the rows that may be drawn at one horizon, and the one way to draw from them uniformly.

A view shows nothing that was committed after its horizon: no row, no successor, no episode's end. It is a stretch of a
list of row numbers (all online rows, all demonstrations), the newest `capacity` of them; `only` says which of them fit.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import Protocol

import numpy as np

from cloud.store.index import NOWHERE, Index
from user_rl.errors import NothingToDraw
from user_rl.rows import Klass
from user_rl.specs import Array

Accept = Callable[["View", Array], Array]  # row numbers [n] → bool [n]


class LateColumns(Protocol):
    """What has been written about rows since, as of one moment: it must answer the same for ever."""

    def mask(self, column: str, rows: Array) -> Array:
        """Whether each row number of `rows` [n] has a value in `column`, bool [n]."""

    def succeeded(self, rows: Array, own: Array) -> Array:
        """Whether the episode of each row succeeded, bool [n]; `own` is what the rows themselves say."""

    def kept(self, rows: Array) -> Array:
        """Whether the episode of each row was not discarded, bool [n]."""


TRIES = 64  # guesses for each row wanted, before the matching rows are listed
BLOCK = 256  # rows looked at first for one that may be drawn; then twice as many


@dataclass(frozen=True, eq=False)
class View:
    """Rows `rows[...]` of the index; `end` is the horizon: rows below it are there."""

    index: Index
    rows: Array  # [n] int64, ascending
    end: int
    only: Accept | None = None  # None: every transition
    late: LateColumns | None = None

    def __len__(self) -> int:
        return len(self.rows)

    def is_transition(self, rows: Array) -> Array:
        """Whether each row is a step whose successor is here too, bool [n]."""
        after = self.index.next.array[rows]
        return np.asarray(self.index.is_step.array[rows] & (after != NOWHERE) & (after < self.end))

    def has_ended(self, rows: Array) -> Array:
        """Whether the episode of each row is closed within the horizon, bool [n]."""
        return np.asarray(self.index.closed_by.array[self.index.episode.array[rows]] < self.end)

    def has_succeeded(self, rows: Array) -> Array:
        """Whether the episode of each row is closed within the horizon, and in success, bool [n]."""
        own = self.index.succeeded.array[self.index.episode.array[rows]]
        return self.has_ended(rows) & (own if self.late is None else self.late.succeeded(rows, own))

    def fits(self, rows: Array, accept: Accept | None = None) -> Array:
        """Whether each row is a transition that `only` and `accept` take, bool [n]."""
        good = self.is_transition(rows)
        for each in (self.only, accept):
            good = good if each is None else good & each(self, rows)
        return good

    def draw(self, rng: np.random.Generator, count: int, accept: Accept | None = None) -> Array:
        """`count` row numbers, uniform over the transitions that `accept` takes, with replacement.

        Raises NothingToDraw when there is none.
        """
        if not len(self.rows):
            raise NothingToDraw("no row is here yet; wait for rows")
        found, guesses, parts, size = 0, 0, [], count + count // 4 + 8
        while guesses + size <= TRIES * (count + 64):
            tried = self.rows[rng.integers(len(self.rows), size=size)]
            parts.append(tried[self.fits(tried, accept)])
            found, guesses = found + len(parts[-1]), guesses + size
            if found >= count:
                return np.concatenate(parts)[:count]
            size = (count - found) * guesses * 5 // (4 * max(1, found)) + 8
        pool = self.listed if accept is None else self.matching(accept)
        if not len(pool):
            raise NothingToDraw(f"none of {len(self.rows)} rows may be drawn; wait for rows, or ask for less")
        return pool[rng.integers(len(pool), size=count)]

    def matching(self, accept: Accept | None = None) -> Array:
        """Every transition that `accept` takes: row numbers, ascending. Costs a look at every row."""
        return self.rows[self.fits(self.rows, accept)]

    @cached_property
    def listed(self) -> Array:
        """`matching()`, kept."""
        return self.matching()

    @cached_property
    def can_draw(self) -> bool:
        """Whether any row may be drawn; as a rule one of the first tells."""
        start, size = 0, BLOCK
        while start < len(self.rows):
            if self.fits(self.rows[start : start + size]).any():
                return True
            start, size = start + size, 2 * size
        return False


def view(index: Index, klass: Klass, end: int, capacity: int | None = None) -> View:
    """The newest `capacity` rows (None: all) of a class among the index's first `end`."""
    return view_of(index, index.of_klass[klass].array, end, capacity)


def view_of(index: Index, rows: Array, end: int, capacity: int | None = None) -> View:
    """The newest `capacity` of the row numbers `rows`, ascending, that lie below `end`."""
    last = int(np.searchsorted(rows, end))
    return View(index, rows[max(0, last - capacity) if capacity else 0 : last], end)
