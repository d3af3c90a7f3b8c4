"""Assemble: from drawn row numbers to a batch, in buffers that are made once.

A buffer holds records: those of the observations that are wanted, then those that follow. Pictures are views of it;
vectors, which lie at odd addresses inside a record, are copied out.
"""

from dataclasses import dataclass
from typing import Protocol

import numpy as np

from cloud.batch import Batch, Values
from cloud.store.cache import Cache
from cloud.store.index import Index
from cloud.store.records import Records
from cloud.store.shapes import Shaped
from user_rl.rows import Klass
from user_rl.specs import Array, Box


@dataclass(frozen=True, eq=False)
class Wanted:
    """One batch before it is read."""

    shaped: Shaped
    weight: Array | None  # [B]; None: all 1
    known: int  # rows in the index when it was drawn
    oldest: int  # the first online row that this and later draws can take

    @property
    def rows(self) -> Array:
        """The rows whose observations are wanted."""
        return np.concatenate([self.shaped.observed.ravel(), self.shaped.after])


class Making(Protocol):
    """Reads a drawn batch: from memory, or from a device. One thread at a time."""

    def make(self, number: int, wanted: Wanted, later: list[Wanted]) -> Batch:
        """Batch `number`; its arrays are used again some batches later."""

    def evict(self, rows: Array) -> None:
        """Frees what is kept of `rows`; not while a batch is made."""


class Passed:
    """Follows the rows that can be drawn no more, but for those under a person's hand, which stay demonstrations."""

    def __init__(self, index: Index) -> None:
        self._index, self._count = index, 0

    def until(self, oldest: int) -> Array:
        """Those that have become so since the last call, when `oldest` is the first online row that can be drawn."""
        online = self._index.of_klass[Klass.ONLINE].array
        count = max(self._count, int(np.searchsorted(online, oldest)))
        rows, self._count = online[self._count : count], count
        return np.asarray(rows[~self._index.intervened.array[rows]])


class Assembler:
    """Reads batches into `count` buffers in turn. One thread at a time. See Making."""

    def __init__(self, cache: Cache, records: Records, index: Index, count: int) -> None:
        self._cache, self._records, self._schema, self._passed = cache, records, records.schema, Passed(index)
        self._buffers: list[Array] = [np.zeros(0, self._schema.dtype) for _ in range(count)]
        self._vectors: list[dict[str, Array]] = [{} for _ in range(count)]

    def make(self, number: int, wanted: Wanted, later: list[Wanted]) -> Batch:
        turn, shaped, rows = number % len(self._buffers), wanted.shaped, wanted.rows
        if len(self._buffers[turn]) != len(rows):
            self._buffers[turn], self._vectors[turn] = np.zeros(len(rows), self._schema.dtype), {}
        records = self._buffers[turn]
        self._cache.evict(self._passed.until(wanted.oldest))
        self._cache.gather(rows, records, known=wanted.known, soon=[each.rows for each in later])
        here, after = records[: shaped.observed.size], records[shaped.observed.size :]
        return batch_of(
            wanted,
            observation=self._observation(here, turn, "here", shaped.observed.shape),
            action=self._action(here, turn, shaped),
            next_observation=self._observation(after, turn, "after", shaped.after.shape),
        )

    def evict(self, rows: Array) -> None:
        self._cache.evict(rows)

    def _observation(self, records: Array, turn: int, side: str, shape: tuple[int, ...]) -> dict[str, Array]:
        found = {
            name: self._vector(records, turn, f"{side}.{name}") if isinstance(spec, Box) else records[name]
            for name, spec in self._schema.observation.items()
        }
        return {name: x.reshape(*shape, *x.shape[1:]) for name, x in found.items()} if len(shape) > 1 else found

    def _action(self, here: Array, turn: int, shaped: Shaped) -> Array:
        if shaped.acted.shape == shaped.observed.shape:
            action = self._vector(here, turn, "here.action")
        else:
            action = other_actions(self._records, shaped)
        return action.reshape(*shaped.acted.shape, -1)

    def _vector(self, records: Array, turn: int, key: str) -> Array:
        kept, column = self._vectors[turn], records[key.split(".", 1)[1]]
        if key not in kept:
            kept[key] = np.empty(column.shape, column.dtype)
        np.copyto(kept[key], column)
        return kept[key]


def batch_of(
    wanted: Wanted, *, observation: dict[str, Values], action: Values, next_observation: dict[str, Values]
) -> Batch:
    """The batch of what was read and what was known before."""
    shaped = wanted.shaped
    several = shaped.mask.shape[1] > 1
    return Batch(
        observation=observation,
        action=action,
        reward=shaped.reward,
        done=shaped.done,
        next_observation=next_observation,
        discount=shaped.discount if several or (shaped.length > 1).any() else None,
        mask=shaped.mask if several else None,
        weight=wanted.weight,
    )


def other_actions(records: Records, shaped: Shaped) -> Array:
    """The actions of rows whose observations are not wanted, [n, A]: only that field is read."""
    rows, inverse = np.unique(shaped.acted, return_inverse=True)
    found: Array = records.plain(rows, "action")[inverse.ravel()]
    return found
