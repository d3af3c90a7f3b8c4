"""Staleness: how much experience may be under way, and which of it is used first, so that little is too old when used.

The capacity is AReaL's (Fu et al. 2025, arXiv:2505.24298, section 5.1), derived anew: the consumer takes B accepted
rollouts for each version, in the order in which they were started, so rollout k (from 0) is consumed at version k // B.
Started at version v it is then k // B - v versions old. That is at most `max_versions` = eta exactly when
k < (eta + v + 1) B. With `accepted + running` rollouts started before it (a rejected one leaves no place in that order)

    capacity(v) = min(max_running - running, (eta + v + 1) B - (accepted + running))

more may start now. After a resume `accepted` keeps what was counted, within what any history could have left at that
version: started again from nothing, as AReaL's own recovery once did, it would let v B rollouts begin at once.

A run counts rows: B is what the update ratio asks for between two publications, and v is updates // publish_every,
since a resume publishes again without an update. What a replay draws again later is the gate's affair: `allowed`.
"""

import heapq
import math
from dataclasses import dataclass

import msgspec
import numpy as np

from user_rl.errors import ConfigError
from user_rl.specs import Array


@dataclass(frozen=True, kw_only=True)
class StalenessConfig:
    """How many versions behind a row may be. None: no such limit."""

    max_versions: int | None = None

    def __post_init__(self) -> None:
        if self.max_versions is not None and self.max_versions < 0:
            raise ValueError(f"max_versions = {self.max_versions}, allowed 0 or more, or null for no limit")


class StalenessState(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """What the run manifest keeps of it. `origin`: rows that came before anything counted, the warm-up's."""

    origin: float = 0.0
    accepted: float = 0.0
    rejected: int = 0


class Staleness:
    """Counts what is under way. Plain arithmetic, no thread of its own."""

    def __init__(
        self, max_versions: int, batch: int, *, max_running: float = math.inf, origin: float = 0.0
    ) -> None:  # fmt: skip
        """`batch`: rollouts, or rows, that one version consumes."""
        if max_versions < 0 or batch < 1 or max_running < 1:
            raise ConfigError(
                f"max_versions = {max_versions}, batch = {batch}, max_running = {max_running:g}, allowed 0, 1 and 1 or "
                "more; raise the one that is below"
            )
        self.max_versions, self.batch, self.max_running = max_versions, batch, max_running
        self.running = 0
        self.state = StalenessState(origin=origin)

    def capacity(self, version: int) -> float:
        """How many more may start now."""
        ahead = self._bound(version) - (self.state.accepted + self.running)
        return max(0.0, min(self.max_running - self.running, ahead))

    def start(self, count: int = 1) -> None:
        """`count` were started."""
        self.running += count

    def accept(self, count: int = 1) -> None:
        """`count` of those that run have come to their end and count."""
        self._end(count)
        self.state = msgspec.structs.replace(self.state, accepted=self.state.accepted + count)

    def reject(self, count: int = 1) -> None:
        """`count` of those that run have ended for nothing: their places are free."""
        self._end(count)
        self.state = msgspec.structs.replace(self.state, rejected=self.state.rejected + count)

    def arrived(self, rows: int) -> None:
        """There are `rows` in all, whoever started them; those of the warm-up do not count."""
        self.state = msgspec.structs.replace(self.state, accepted=rows - self.state.origin)

    def permit(self, version: int) -> int:
        """How many rows there may be in all, running ones and those of the warm-up included."""
        return math.floor(self.state.origin + self._bound(version))

    def resumed(self, version: int, state: StalenessState, rows: int | None = None) -> None:
        """Goes on from `state`; nothing runs any more. `rows`: there are so many in all now, where rows are counted.

        `accepted` keeps its count between version * B, which the consumer has had, and one batch below the most.
        """
        accepted = state.accepted if rows is None else rows - state.origin
        accepted = min(max(accepted, version * self.batch), (self.max_versions + version) * self.batch)
        origin = state.origin if rows is None else rows - accepted
        self.running = 0
        self.state = msgspec.structs.replace(state, origin=origin, accepted=accepted)

    def _bound(self, version: int) -> int:
        return (self.max_versions + version + 1) * self.batch

    def _end(self, count: int) -> None:
        assert count <= self.running, f"{count} ended, {self.running} run"
        self.running -= count


def allowed(versions: Array, now: int, max_versions: int | None) -> Array:
    """[n] bool: which rows are at most `max_versions` behind version `now`, the one expected when they are used.

    Version 0 (no weights acted) is as old as it says.
    """
    if max_versions is None:
        return np.ones(len(versions), bool)
    fresh: Array = versions >= now - max_versions  # no difference of unsigned numbers
    return fresh


class Fresh(msgspec.Struct, frozen=True, order=True, array_like=True):
    """Rows `first`..`last` of a stream that `version` made: an episode, say. In order of deadline, then of arrival."""

    version: int  # the oldest among its rows
    arrival: int
    stream: str
    first: int
    last: int


class FreshState(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """What the run manifest keeps of a queue; `*_rows` tell whether long episodes are the ones that expire."""

    waiting: tuple[Fresh, ...] = ()
    arrived: int = 0
    taken: int = 0
    taken_rows: int = 0
    expired: int = 0
    expired_rows: int = 0
    refused: int = 0
    seq: int = 0  # how far the log was looked at: the commit of the last row that was seen, and the row in it
    record: int = -1


class FreshQueue:
    """On-policy data, earliest deadline first: what expires first is handed out first, what has expired never is.

    First come, first served would let long episodes expire and bias the data towards short ones (AstraFlow).
    """

    def __init__(self, max_versions: int, limit: int, state: FreshState | None = None) -> None:
        """`limit`: entries that may wait, AReaL's (eta + 1) B; one more is refused and counted."""
        self._max_versions, self._limit = max_versions, limit
        state = state or FreshState()
        self._heap = list(state.waiting)
        heapq.heapify(self._heap)
        self._counts = state

    def __len__(self) -> int:
        return len(self._heap)

    @property
    def state(self) -> FreshState:
        """What waits, and the counts, for the manifest."""
        return msgspec.structs.replace(self._counts, waiting=tuple(sorted(self._heap)))

    def put(self, version: int, stream: str, first: int, last: int, *, now: int = 0) -> bool:
        """Takes an entry; False when there is no place for it, also not that of one that has expired at `now`."""
        if len(self._heap) >= self._limit:
            self.expire(now)
        if len(self._heap) >= self._limit:
            self._count(refused=1)
            return False
        heapq.heappush(self._heap, Fresh(version, self._counts.arrived, stream, first, last))
        self._count(arrived=1)
        return True

    def take(self, now: int) -> Fresh | None:
        """The entry that expires first, when version `now` uses it; None when there is none."""
        self.expire(now)
        if not self._heap:
            return None
        found = heapq.heappop(self._heap)
        self._count(taken=1, taken_rows=_rows(found))
        return found

    def put_back(self, rest: Fresh) -> None:
        """What was not used of the entry that was taken last: it waits again, and counts when it is taken."""
        heapq.heappush(self._heap, rest)
        self._count(taken=-1, taken_rows=-_rows(rest))

    def gone(self, entry: Fresh) -> None:
        """The entry that was taken last can be used no more: it counts as expired."""
        self._count(taken=-1, taken_rows=-_rows(entry), expired=1, expired_rows=_rows(entry))

    def looked(self, seq: int, record: int) -> None:
        """The log was looked at as far as this row."""
        self._counts = msgspec.structs.replace(self._counts, seq=seq, record=record)

    def expire(self, now: int) -> int:
        """Drops what is more than `max_versions` behind `now`; returns how many."""
        gone = 0
        while self._heap and now - self._heap[0].version > self._max_versions:
            self._count(expired=1, expired_rows=_rows(heapq.heappop(self._heap)))
            gone += 1
        return gone

    def _count(self, **more: int) -> None:
        self._counts = msgspec.structs.replace(
            self._counts, **{name: getattr(self._counts, name) + count for name, count in more.items()}
        )


def _rows(entry: Fresh) -> int:
    return entry.last - entry.first + 1
