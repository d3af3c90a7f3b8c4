"""Assemble: from drawn row numbers to a batch, in buffers that are made once.

A buffer holds records: those of the observations that are wanted, then those that follow. Pictures are views of it;
vectors, which lie at odd addresses inside a record, are copied out.
"""

from dataclasses import dataclass

import numpy as np

from cloud.batch import Batch
from cloud.store.cache import Cache
from cloud.store.records import Records
from cloud.store.shapes import Shaped
from user_rl.rows import Schema
from user_rl.specs import Array, Box


@dataclass(frozen=True, eq=False)
class Wanted:
    """One batch before it is read."""

    shaped: Shaped
    weight: Array | None  # [B]; None: all 1
    known: int  # rows in the index when it was drawn
    gone: Array  # rows that no later draw can take

    @property
    def rows(self) -> Array:
        """The rows whose observations are wanted."""
        return np.concatenate([self.shaped.observed.ravel(), self.shaped.after])


class Assembler:
    """Reads batches into `count` buffers in turn. One thread at a time."""

    def __init__(self, cache: Cache, records: Records, schema: Schema, count: int) -> None:
        self._cache, self._records, self._schema = cache, records, schema
        self._buffers: list[Array] = [np.zeros(0, schema.dtype) for _ in range(count)]
        self._vectors: list[dict[str, Array]] = [{} for _ in range(count)]

    def make(self, number: int, wanted: Wanted, later: list[Wanted]) -> Batch:
        """Batch `number`; its arrays are used again `count` batches later."""
        turn, shaped, rows = number % len(self._buffers), wanted.shaped, wanted.rows
        if len(self._buffers[turn]) != len(rows):
            self._buffers[turn], self._vectors[turn] = np.zeros(len(rows), self._schema.dtype), {}
        records = self._buffers[turn]
        self._cache.evict(wanted.gone)
        self._cache.gather(rows, records, known=wanted.known, soon=[each.rows for each in later])
        here, after = records[: shaped.observed.size], records[shaped.observed.size :]
        several = shaped.mask.shape[1] > 1
        return Batch(
            observation=self._observation(here, turn, "here", shaped.observed.shape),
            action=self._action(here, turn, shaped),
            reward=shaped.reward,
            done=shaped.done,
            next_observation=self._observation(after, turn, "after", shaped.after.shape),
            discount=shaped.discount if several or (shaped.length > 1).any() else None,
            mask=shaped.mask if several else None,
            weight=wanted.weight,
        )

    def _observation(self, records: Array, turn: int, side: str, shape: tuple[int, ...]) -> dict[str, Array]:
        found = {
            name: self._vector(records, turn, f"{side}.{name}") if isinstance(spec, Box) else records[name]
            for name, spec in self._schema.observation.items()
        }
        return {name: x.reshape(*shape, *x.shape[1:]) for name, x in found.items()} if len(shape) > 1 else found

    def _action(self, here: Array, turn: int, shaped: Shaped) -> Array:
        if shaped.acted is shaped.observed or shaped.acted.shape == shaped.observed.shape:
            action = self._vector(here, turn, "here.action")
        else:
            rows, inverse = np.unique(shaped.acted, return_inverse=True)
            action = self._records.plain(rows, "action")[inverse.ravel()]
        return action.reshape(*shaped.acted.shape, -1)

    def _vector(self, records: Array, turn: int, key: str) -> Array:
        kept, column = self._vectors[turn], records[key.split(".", 1)[1]]
        if key not in kept:
            kept[key] = np.empty(column.shape, column.dtype)
        np.copyto(kept[key], column)
        return kept[key]
