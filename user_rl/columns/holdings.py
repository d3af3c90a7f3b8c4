"""Holdings: which rows and episodes a log has now, and which it once had, asked for many ids at once."""

import math
from collections.abc import Mapping, Sequence
from typing import NamedTuple, Protocol

import numpy as np

from user_rl.clock import Clock
from user_rl.columns.spec import Per
from user_rl.log import Chunk, Episode
from user_rl.rows import Schema
from user_rl.specs import Array

AGE_S = 10.0  # of what is known, at most: a row that was dropped meanwhile may get a value, which is dropped with it
AGAIN_S = 0.5  # between two looks for rows that were not there


class Source(Protocol):
    """What is asked of user_rl.log's Log or Reader."""

    def streams(self) -> dict[str, Schema]: ...

    def synced(self, stream: str) -> int: ...

    def episodes(self) -> list[Episode]: ...

    def read(self, stream: str, first: int, max_bytes: int) -> Sequence[Chunk]: ...


class Ranges(Protocol):
    """What the owner of the columns asks before it takes a value."""

    def held(self, stream: str, ids: Array, per: Per) -> tuple[Array, Array]:
        """(held [n], was there [n]): which ids the log has, and which it has or had."""

    def lowest(self, per: Per) -> Mapping[str, int]:
        """The lowest id that the log has of each stream; beyond its last one when it has none."""


class _Stream(NamedTuple):
    """The episodes of one stream that the log has, by first step."""

    first: Array  # [E] step
    end: Array  # [E] one beyond the last row, as its rows were counted
    whole: Array  # [E] bool: the rows up to `end` have no hole
    number: Array  # [E]
    synced: int


class Holdings:
    """See Ranges. Looks at the log at most every AGAIN_S; the source's thread owns it."""

    def __init__(self, source: Source, *, clock: Clock) -> None:
        self._source, self._clock = source, clock
        self._streams: dict[str, _Stream] = {}
        self._looked_s = -math.inf

    def held(self, stream: str, ids: Array, per: Per) -> tuple[Array, Array]:
        """See Ranges."""
        self._look(AGE_S)
        found, was = self._find(stream, ids, per)
        if not found.all() and self._look(AGAIN_S):
            found, was = self._find(stream, ids, per)
        return found, was

    def lowest(self, per: Per) -> Mapping[str, int]:
        """See Ranges."""
        self._look(AGAIN_S)
        found = {}
        for name, stream in self._streams.items():
            if len(stream.first):
                found[name] = int((stream.number if per == "episode" else stream.first).min())
            elif per == "row":
                found[name] = stream.synced + 1
        return found

    def _look(self, after_s: float) -> bool:
        now_s = self._clock.now_s()
        if now_s - self._looked_s < after_s:
            return False
        self._looked_s = now_s
        episodes: dict[str, list[Episode]] = {name: [] for name in self._source.streams()}
        for episode in self._source.episodes():
            episodes.setdefault(episode.stream, []).append(episode)
        self._streams = {name: _stream(found, self._source.synced(name)) for name, found in episodes.items()}
        return True

    def _find(self, name: str, ids: Array, per: Per) -> tuple[Array, Array]:
        stream = self._streams.get(name)
        if stream is None:
            return np.zeros(len(ids), bool), np.zeros(len(ids), bool)
        if per == "episode":
            return np.isin(ids, stream.number), (ids >= 0) & (ids <= stream.number.max(initial=-1))
        return self._rows(name, stream, ids), (ids >= 0) & (ids <= stream.synced)

    def _rows(self, name: str, stream: _Stream, ids: Array) -> Array:
        if not len(stream.first):
            return np.zeros(len(ids), bool)
        at = np.searchsorted(stream.first, ids, side="right") - 1
        held: Array = (at >= 0) & (ids < stream.end[at]) & stream.whole[at]
        for i in np.flatnonzero((at >= 0) & ~stream.whole[at] & (ids <= stream.synced)):  # rows with a gap among them
            held[i] = self._has_row(name, int(ids[i]))
        return held

    def _has_row(self, name: str, step: int) -> bool:
        found = self._source.read(name, step, 1)
        return bool(found) and found[0].first == step


def _stream(episodes: list[Episode], synced: int) -> _Stream:
    first = np.array([e.first_step for e in episodes], np.int64)
    end = first + np.array([e.length + 1 for e in episodes], np.int64)
    after = np.append(first[1:], synced + 1) if len(first) else first
    number = np.array([e.episode for e in episodes], np.int64)
    return _Stream(first, end, end == after, number, synced)
