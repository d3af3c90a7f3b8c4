"""Sight: what a draw may see of the log, as a `Moment`; and what can be seen no more.

Everything that a draw depends on besides its seed and number is in its `Horizon`: the newest commit, what retention
has left, what could not be read, and how far the late columns had come. It is the newest there is when a draw is first
made, and what the journal says when it is made again.
"""

import logging
import math
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import msgspec

from cloud.store.horizons import Horizon, Horizons, Seen
from cloud.store.index import Index
from cloud.store.late import Late, LateNames, LateReader
from cloud.store.records import ChunkLost, Records
from cloud.store.sampler import Gate, LateColumns, Moment
from cloud.store.samplers.ready import HasColumn
from cloud.store.source import Source
from cloud.store.view import View
from user_rl.clock import Clock
from user_rl.specs import Array

log = logging.getLogger(__name__)

LOOK_S = 1.0  # between looks at late columns and at what retention has left


@dataclass(frozen=True)
class Kept:
    """See cloud.store.sampler.Gate: rows of episodes that were not discarded."""

    lasting = True

    def narrow(self, seen: View) -> View:
        return seen

    def accept(self, seen: View, rows: Array, late: LateColumns | None) -> Array:
        assert late is not None, "the gate is set where there are late columns"
        return late.kept(rows)


class Sight:
    """Makes the moments of one replay. One owner."""

    def __init__(
        self, source: Source, index: Index, records: Records, *, capacity_rows: int, names: LateNames,
        reward_required: bool, run: Path | None, clock: Clock,
    ) -> None:  # fmt: skip
        self._source, self._index, self._records, self._clock = source, index, records, clock
        self._capacity_rows, self._names, self._reward_required = capacity_rows, names, reward_required
        self._horizons = Horizons(None if run is None else run / "horizons")
        self._columns = LateReader(None if run is None else run / "columns", index, names)
        self.seen = Seen()  # by a draw that is made now
        self._next_s, self._warned = -math.inf, False
        self._last: tuple[Horizon, Moment] | None = None

    def look(self, *, now: bool = False) -> None:
        """Looks what retention has left, and how far the columns have come: once in LOOK_S, or `now`."""
        if not now and self._clock.now_s() < self._next_s:
            return
        self._next_s = self._clock.now_s() + LOOK_S
        first = max(self.seen.first, self._source.first_online())
        self.seen = msgspec.structs.replace(self.seen, first=first, columns=self._columns.seqs())

    def newest(self, seq: int, number: int, version: int) -> Moment:
        """What a new draw would see."""
        return self._moment(Horizon(seq, self._seen_for(version)), number)

    def of_draw(self, seq: int, number: int, version: int, *, anew: bool = False) -> Moment:
        """What draw `number` sees, which is written down; commit `seq` is the newest. `anew`: as if it were new."""
        known = None if anew else self._horizons.of(number)
        if known is not None:
            self._lose_again(known.seen.lost)
        seen = self._seen_for(version)
        if known is not None:
            seen = msgspec.structs.replace(known.seen, lost=seen.lost, version=known.seen.version or version)
        horizon = Horizon(seq if known is None else min(seq, known.seq), seen)
        if horizon != known:
            self._horizons.keep(number, horizon)
        return self._moment(horizon, number)

    def rewards(self, at: Moment) -> Late | None:
        """Where rewards come from that are not the rows' own."""
        return at.late if isinstance(at.late, Late) and self._names.reward is not None else None

    def lose(self, lost: ChunkLost) -> list[Array]:
        """Takes what cannot be read out of the index, and says so in one line; the rows that are lost."""
        if not lost.gone:
            log.error("%s; its rows are not learned from any more: look at user-rl buffer verify", lost)
            return self._lose([lost.chunk])
        self.look(now=True)
        segment, chunks = self._records.beside(lost.chunk)
        if self._index.seqs.array[lost.chunk] >= self.seen.first or not self._warned:
            self._warned = True
            log.warning(
                "segment %s is gone, with rows that could be drawn; they are not learned from any more: set "
                "replay.capacity_rows = %d lower, or log.retention so that it keeps more", segment, self._capacity_rows,
            )  # fmt: skip
        return self._lose(chunks)

    def close(self) -> None:
        """Closes the journal and the columns."""
        self._horizons.close()
        self._columns.close()

    def _lose(self, chunks: Iterable[int]) -> list[Array]:
        rows = [self._index.lose(chunk) for chunk in chunks if chunk not in self._index.lost]
        seqs = sorted(int(self._index.seqs.array[chunk]) for chunk in self._index.lost)
        self.seen = msgspec.structs.replace(self.seen, lost=runs(seqs))
        self._last = None
        return rows

    def _lose_again(self, lost: tuple[tuple[int, int], ...]) -> None:
        """What an earlier life could not read, this one does not try."""
        seqs = self._index.seqs.array
        chunks = [i for a, b in lost for i in range(*seqs.searchsorted([a, b + 1]).tolist())]
        if not self._index.lost.issuperset(chunks):
            self._lose(chunks)

    def _seen_for(self, version: int) -> Seen:
        return msgspec.structs.replace(self.seen, version=version)

    def _moment(self, horizon: Horizon, number: int) -> Moment:
        version = horizon.seen.version
        seen = Horizon(horizon.seq, msgspec.structs.replace(horizon.seen, version=0))
        if self._last is None or self._last[0] != seen:
            self._last = (seen, self._made(seen))
        return self._last[1].after(number, version)

    def _made(self, horizon: Horizon) -> Moment:
        seen, late = horizon.seen, self._columns.at(horizon.seen.columns)
        gates: list[Gate] = [Kept()] if late is not None and late.discards else []
        if self._reward_required and self._names.reward is not None:
            gates.append(HasColumn(self._names.reward))
        return Moment(
            index=self._index, end=self._index.at(horizon.seq), number=0, capacity_rows=self._capacity_rows,
            online_from=self._index.at(seen.first - 1), late=late, gates=tuple(gates),
            stamp=(seen.lost, tuple(sorted(seen.columns.items()))),
        )  # fmt: skip


def runs(seqs: list[int]) -> tuple[tuple[int, int], ...]:
    """Ascending numbers as (from, to) of those that follow each other."""
    found: list[tuple[int, int]] = []
    for seq in seqs:
        if found and found[-1][1] + 1 == seq:
            found[-1] = (found[-1][0], seq)
        else:
            found.append((seq, seq))
    return tuple(found)
