"""A slab: rows in preallocated columns, where `next` is a pointer that knows episode ends, gaps and the ring's edge.

Row number n of the slab lies at n % capacity. A row is a transition when the row that followed it in its episode is
here too; then its pointer is that row's place, else -1. A ring evicts the oldest row; a row's successor is always
younger, so no pointer outlives what it points at. A slab that grows evicts nothing.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from user_rl.rows import Kind, Schema
from user_rl.specs import Array

NOWHERE = -1
SCARCE = 8  # below one transition in so many rows, drawing lists them instead of trying


@dataclass(frozen=True)
class _Tail:
    """The last row of a stream: what the next one may follow."""

    number: int
    step: int
    episode: int
    usable: bool


def columns_of(schema: Schema) -> tuple[str, ...]:
    """The fields of a row that a slab keeps."""
    return (*schema.observation, "action", "next.reward", "next.done", "version")


def row_bytes(schema: Schema) -> int:
    """Bytes of memory that one row takes in a slab."""
    return sum(schema.dtype[name].itemsize for name in columns_of(schema)) + np.dtype(np.int64).itemsize


class Slab:
    """Rows of several streams, and the transitions among them. One owner, no lock."""

    def __init__(self, schema: Schema, capacity: int, *, grows: bool = False) -> None:
        self.capacity, self._grows = capacity, grows
        self.total = 0  # rows ever added
        self.transitions = 0  # rows that can be drawn now
        self.columns = {name: _column(schema, name, capacity) for name in columns_of(schema)}
        self._next = np.full(capacity, NOWHERE, np.int64)
        self._tails: dict[str, _Tail] = {}

    @property
    def size(self) -> int:
        """Rows that are here."""
        return min(self.total, self.capacity)

    def add(self, stream: str, records: Array, usable: Array | None = None) -> None:
        """Appends rows of one stream, in order; only `usable` ones (all, if not given) can become transitions."""
        usable = records["kind"] == Kind.STEP if usable is None else usable & (records["kind"] == Kind.STEP)
        if self._grows:
            self._make_room(len(records))
        for start in range(0, len(records), self.capacity):
            piece = slice(start, start + self.capacity)
            self._add(stream, records[piece], usable[piece])

    def draw(self, rng: np.random.Generator, count: int) -> Array:
        """`count` places of transitions, uniform, with replacement; there must be one."""
        assert self.transitions > 0
        if self.transitions * SCARCE < self.size:
            pool = np.flatnonzero(self._next[: self.size] != NOWHERE)
            return pool[rng.integers(len(pool), size=count)]
        found: Array = np.empty(0, np.int64)
        while len(found) < count:
            tried = rng.integers(self.size, size=count + count // 4 + 8)
            found = np.concatenate([found, tried[self._next[tried] != NOWHERE]])
        return found[:count]

    def successors(self, places: Array) -> Array:
        """Where the rows lie that follow those at `places`."""
        return self._next[places]

    def recent(self, name: str, count: int) -> Array:
        """A copy of the last `count` rows of one column, oldest first."""
        numbers = np.arange(max(0, self.total - min(count, self.capacity)), self.total)
        return self.columns[name][numbers % self.capacity]

    def _add(self, stream: str, records: Array, usable: Array) -> None:
        step, episode = records["step"].astype(np.int64), records["episode"].astype(np.int64)
        numbers = np.arange(self.total, self.total + len(records))
        places = numbers % self.capacity
        followed = usable[:-1] & (step[1:] == step[:-1] + 1) & (episode[1:] == episode[:-1])
        self.transitions -= int(np.count_nonzero(self._next[places] != NOWHERE))
        for target, source in _stretches(int(places[0]), len(records), self.capacity):
            for name, column in self.columns.items():
                column[target] = records[name][source]
        self._next[places] = NOWHERE
        self._next[places[:-1]] = np.where(followed, places[1:], NOWHERE)
        self.transitions += int(np.count_nonzero(followed))
        self.total += len(records)
        self._follow_tail(stream, int(step[0]), int(episode[0]), int(places[0]))
        self._tails[stream] = _Tail(int(numbers[-1]), int(step[-1]), int(episode[-1]), bool(usable[-1]))

    def _follow_tail(self, stream: str, step: int, episode: int, place: int) -> None:
        tail = self._tails.get(stream)
        if tail is None or not tail.usable or tail.number < self.total - self.capacity:
            return
        if tail.step + 1 == step and tail.episode == episode:
            self._next[tail.number % self.capacity] = place
            self.transitions += 1

    def _make_room(self, count: int) -> None:
        if self.total + count <= self.capacity:
            return
        extra = max(self.capacity, count)
        for name, column in self.columns.items():
            self.columns[name] = np.zeros((self.capacity + extra, *column.shape[1:]), column.dtype)
            self.columns[name][: self.capacity] = column
        self._next = np.concatenate([self._next, np.full(extra, NOWHERE, np.int64)])
        self.capacity += extra


def _column(schema: Schema, name: str, capacity: int) -> Array:
    dtype = schema.dtype[name]
    return np.zeros((capacity, *dtype.shape), dtype.base)  # the system hands out its pages when they are written


def _stretches(place: int, count: int, capacity: int) -> Iterator[tuple[slice, slice]]:
    until_edge = min(count, capacity - place)
    yield slice(place, place + until_edge), slice(0, until_edge)
    if until_edge < count:
        yield slice(0, count - until_edge), slice(until_edge, count)
