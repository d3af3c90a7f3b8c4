"""Sampler: draws the rows of a batch. `cloud.store.kits.check_sampler` is its contract.

A draw is a function of (seed, n, horizon of n) alone: the generator is made by the caller from (seed, n), and what a
sampler looks at, it sees through the views of its `Moment`.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from enum import StrEnum
from typing import Protocol, runtime_checkable

import numpy as np

from cloud.store.index import Index
from cloud.store.view import Accept, View, view_of
from cloud.store.view import LateColumns as LateColumns
from user_rl.rows import Klass
from user_rl.specs import Array

State = dict[str, Array]  # flat, numbers only: goes into a checkpoint as it is


class Pool(StrEnum):
    """Which rows a sampler looks at."""

    ONLINE = "online"
    DEMONSTRATIONS = "demonstrations"
    INTERVENTIONS = "interventions"  # online steps under a person's hand
    SHOWN = "shown"  # demonstrations and interventions


class Gate(Protocol):
    """A condition on rows, put around another sampler. Compared by value."""

    @property
    def lasting(self) -> bool:
        """Whether a row that fits once fits at every later moment of the same `stamp`."""

    def narrow(self, seen: View) -> View:
        """Fewer rows, ascending, without losing one that fits, where that is quick; other pools' rows may come in."""

    def accept(self, seen: View, rows: Array, late: LateColumns | None) -> Array:
        """Whether each of `rows` [n] fits, bool [n]."""


@dataclass(frozen=True, eq=False, kw_only=True)
class Moment:
    """When a draw is made: all that it may depend on, beside its generator."""

    index: Index
    end: int  # the horizon: rows below it are there
    number: int  # of the draw, n
    count: int = 1  # samples that are wanted
    version: int = 0  # of the weights expected when the batch is consumed
    capacity_rows: int | None = None  # the newest online rows that may be drawn; None: all
    online_from: int = 0  # online rows below it are gone from the log
    late: LateColumns | None = None
    stamp: object = None  # another one: rows may fit that did not, or the other way round
    gates: tuple[Gate, ...] = ()
    views: dict[object, View] = field(default_factory=dict)  # made once per horizon, see `after`

    def after(self, number: int, version: int) -> "Moment":
        """Another draw at the same horizon, which shares the views: making them costs."""
        return replace(self, number=number, version=version)

    def asking(self, count: int) -> "Moment":
        """The same moment, for `count` samples."""
        return replace(self, count=count)

    def within(self, gate: Gate) -> "Moment":
        """The same moment, where only rows that fit the gate are seen."""
        return replace(self, gates=(*self.gates, gate))

    @property
    def online(self) -> View:
        return self.of(Pool.ONLINE)

    @property
    def demonstrations(self) -> View:
        return self.of(Pool.DEMONSTRATIONS)

    @property
    def intervened(self) -> View:
        return self.of(Pool.INTERVENTIONS)

    def of(self, pool: Pool) -> View:
        """The rows of a pool that may be drawn now."""
        key = (pool, self.gates)
        if key not in self.views:
            seen = self.window(pool)
            for gate in self.gates:
                seen = gate.narrow(seen)
            self.views[key] = replace(seen, only=self._only(pool)) if self.gates else seen
        return self.views[key]

    def window(self, pool: Pool) -> View:
        """The rows of a pool within the horizon and the capacity, whatever the gates."""
        if (pool, ()) not in self.views:
            capacity = self.capacity_rows if pool is Pool.ONLINE else None
            seen = replace(view_of(self.index, listed(self.index, pool), self.end, capacity), late=self.late)
            self.views[pool, ()] = seen if pool is Pool.DEMONSTRATIONS else self._still_there(seen)
        return self.views[pool, ()]

    def _only(self, pool: Pool) -> Accept:
        gates, late, first = self.gates, self.late, self.online_from  # not self: it holds the views

        def only(seen: View, rows: Array) -> Array:
            good = _is_of(pool, seen.index, rows, first)
            for gate in gates:
                good &= gate.accept(seen, rows, late)
            return good

        return only

    def _still_there(self, seen: View) -> View:
        first = int(np.searchsorted(seen.rows, self.online_from))
        if not first:
            return seen
        old = seen.rows[:first]
        kept = old[self.index.klass.array[old] == Klass.DEMONSTRATION]  # never evicted
        return replace(seen, rows=np.concatenate([kept, seen.rows[first:]]) if len(kept) else seen.rows[first:])


@dataclass(frozen=True, eq=False)
class Drawn:
    """What one draw says: which rows, and what each counts."""

    rows: Array  # [B] int64, the first step of each sample, by row number
    weights: Array  # [B] float32, of importance; 1 where the draw is uniform


class Sampler(Protocol):
    """Draws rows. One owner; draws are asked for with growing numbers."""

    def can_draw(self, at: Moment) -> bool:
        """Whether `draw` would find as many as `at.count`, once or more than once each; cheap, and changes nothing."""

    def draw(self, at: Moment, rng: np.random.Generator, count: int) -> Drawn:
        """Exactly `count` samples, with replacement. Raises NothingToDraw when there is none."""


@runtime_checkable
class Learning(Protocol):
    """A sampler that remembers: what it has learned from the learner, or handed out, is part of the learner's state."""

    @property
    def heeds(self) -> bool:
        """Whether it learns: priorities are for it, and its weights count."""

    def update(self, number: int, rows: Array, priorities: Array) -> None:
        """The priorities [B] that draw `number`, whose rows [B] these are, has brought; from any thread.

        They act at draw `number` + K exactly. Raises SpecError for a draw that was not made, or is given twice.
        """

    def take_back(self, number: int) -> None:
        """The draws from `number` on, one of the last K, are as if they had not been made; they are made again."""

    def state_dict(self, number: int) -> State:
        """The state just before draw `number`: the next one, or one of the last K. Raises SpecError for another."""

    def load_state_dict(self, state: Mapping[str, Array]) -> None:
        """Goes on from `state`, whatever the rows' numbers are by now. Raises SpecError for a foreign state."""


def listed(index: Index, pool: Pool) -> Array:
    """Every row of a pool, by number, ascending."""
    rows = {
        Pool.ONLINE: index.of_klass[Klass.ONLINE], Pool.DEMONSTRATIONS: index.of_klass[Klass.DEMONSTRATION],
        Pool.INTERVENTIONS: index.under_hand, Pool.SHOWN: index.shown,
    }  # fmt: skip
    return rows[pool].array


def plain(rows: Array) -> Drawn:
    """A draw in which every row counts the same."""
    return Drawn(rows, np.ones(len(rows), np.float32))


def _is_of(pool: Pool, index: Index, rows: Array, first: int) -> Array:
    """Whether rows are of the pool, online rows from `first` on, bool [n]."""
    online = index.klass.array[rows] == Klass.ONLINE
    if pool is Pool.DEMONSTRATIONS:
        return np.asarray(~online)
    there = online & (rows >= first)
    if pool is not Pool.ONLINE:
        there &= index.intervened.array[rows]
    return np.asarray(there | ~online if pool is Pool.SHOWN else there)
