"""Merged: the logs of a run's shards as one log in one order. See cloud.store.source.Source.

Of each log it shows what the table makes visible there: what an old shard took after a stream had left it, or a new
one before it came, is not seen. The steps of a stream come in their order: a chunk waits until the shard that had the
stream before was read as far as it had come. The order is that of `cloud.shards.order`: what was taken in once comes
again at the same place.

Of the shards that are not its own a learner rank sees demonstrations alone, which so are part of every rank's data.
"""

import logging
from collections import deque
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from pathlib import Path

from cloud.shards.order import Order, Stretch
from cloud.shards.table import Range, Table
from cloud.store.source import Hold
from user_rl.errors import StorageError
from user_rl.log import Reader
from user_rl.log.chunk import ChunkRef
from user_rl.log.tally import Tally
from user_rl.rows import Klass, Schema
from user_rl.specs import Array

log = logging.getLogger(__name__)

LISTED = 1024  # chunks of one log at a time
SHOWN = Klass.DEMONSTRATION.name.lower() + "-"


@dataclass(frozen=True, slots=True)
class ShardRef(ChunkRef):
    """A chunk in the run's order; the records that are seen are those of `origin` from number `skip` on."""

    shard: int = 0
    origin: ChunkRef | None = None
    skip: int = 0


class Merged:
    """The logs in `folders()`, by shard's number. One owner; a hold for each thread."""

    def __init__(
        self, folders: Callable[[], dict[int, Path]], table: Callable[[], Table], order: Order, *,
        mine: Callable[[int], bool] = lambda _: True,
    ) -> None:  # fmt: skip
        """`folders`: those that have a log by now; more may come. `mine`: the shards of this learner's rank."""
        self._folders, self._table, self._order, self._mine = folders, table, order, mine
        self.readers: dict[int, Reader] = {}
        self._listed: dict[int, deque[ChunkRef]] = {}  # by shard: committed, and not handed out yet
        self._ends: dict[int, int] = {}  # the last commit that was listed
        self._at = self._given = 0  # what was looked at; the last number that was given
        self._look()

    def streams(self) -> dict[str, Schema]:
        """The streams of all logs."""
        self._look()
        return {name: schema for reader in self.readers.values() for name, schema in reader.streams().items()}

    def refs(self, after_seq: int, max_chunks: int) -> Sequence[ChunkRef]:
        """See Source. Whoever asks goes on from the last number that was given, or begins anew."""
        self._look()
        if after_seq != self._given:
            self._go_to(after_seq)
        found: list[ShardRef] = []
        while len(found) < max_chunks and (stretch := self._next()) is not None:
            self._take(stretch, found, max_chunks)
        self._given = found[-1].seq if found else after_seq
        return found

    def first_online(self) -> int:
        """See Source: of the shards that have dropped online rows, the newest beginning of what is left."""
        self._look()
        dropped = {n: r for n, r in self.readers.items() if Tally(r.path).count().steps}
        return max((self._order.number(n, reader.first_online()) for n, reader in dropped.items()), default=0)

    def hold(self) -> "MergedHold":
        """See Source."""
        return MergedHold(lambda shard: self.readers[shard].hold())

    def local(self, number: int) -> dict[int, int]:
        """By shard, the newest commit of its log that was taken in by `number`; that place is on the disk."""
        self._order.sync()
        return self._order.at(number)

    def close(self) -> None:
        """Closes the logs and the journal."""
        for reader in self.readers.values():
            reader.close()
        self._order.close()

    def _look(self) -> None:
        for number, folder in self._folders().items():
            if number not in self.readers:
                self.readers[number] = Reader(folder)
                self._listed[number], self._ends[number] = deque(), 0

    def _go_to(self, number: int) -> None:
        self._at = number
        there = self._order.at(number)
        for shard in self.readers:
            self._listed[shard].clear()
            self._ends[shard] = there.get(shard, 0)

    def _next(self) -> Stretch | None:
        """The stretch to hand out: as written down, else a new one; None: there is nothing more."""
        known = self._order.after(self._at)
        if known is not None:
            return known
        for shard in sorted(self.readers):
            if ready := self._ready(shard):
                return self._add(shard, ready)
        return None

    def _add(self, shard: int, last: int) -> Stretch | None:
        try:
            return self._order.add(shard, last)
        except StorageError as error:  # a full disk: what is not written down is not taken in
            log.debug("%s", error)
            return None

    def _ready(self, shard: int) -> int:
        """The last commit of a shard's log before the first that must wait for another shard; 0: none."""
        self._list(shard)
        ready = 0
        for ref in self._listed[shard]:
            before = self._seen(ref, shard)[1]
            if before is not None and self._progress(before.shard) < before.seq:
                break
            ready = ref.seq
        return ready

    def _progress(self, shard: int) -> float:
        """The commit up to which nothing of a shard's log is still to come."""
        if shard not in self.readers:
            return 0.0
        self._list(shard)
        listed = self._listed[shard]
        return listed[0].seq - 1 if listed else float("inf")

    def _list(self, shard: int) -> None:
        if not self._listed[shard]:
            refs = self.readers[shard].refs(self._ends[shard], LISTED)
            self._listed[shard].extend(refs)
            self._ends[shard] = refs[-1].seq if refs else self._ends[shard]

    def _take(self, stretch: Stretch, found: list[ShardRef], max_chunks: int) -> None:
        """Hands out what is listed of a stretch; `_at` is then where it stopped."""
        shard = stretch.shard
        while len(found) < max_chunks:
            if shard in self.readers:
                self._list(shard)
            listed = self._listed.get(shard)
            if not listed or listed[0].seq > stretch.last:
                self._at = stretch.end
                return
            ref = listed.popleft()
            self._at = stretch.number(ref.seq)
            found += [self._shown(ref, shard, seen) for seen in self._seen(ref, shard)[0]]

    def _seen(self, ref: ChunkRef, shard: int) -> tuple[list[Range], Range | None]:
        """The ranges that show some of a chunk, and the one that must have come before it."""
        if not self._mine(shard) and not ref.segment.startswith(SHOWN):
            return [], None
        table, last = self._table(), ref.first + ref.count - 1
        shown = [
            r for r in table.visible(ref.stream, shard) if r.first <= last and (r.last is None or r.last >= ref.first)
        ]
        return shown, table.before(ref.stream, shown[0].first) if shown else None

    def _shown(self, ref: ChunkRef, shard: int, seen: Range) -> ShardRef:
        first = max(ref.first, seen.first)
        last = min(ref.first + ref.count - 1, ref.first + ref.count - 1 if seen.last is None else seen.last)
        return ShardRef(
            self._at, ref.stream, ref.number, first, last - first + 1, f"{shard}/{ref.segment}", ref.form, shard, ref,
            first - ref.first,
        )  # fmt: skip


class MergedHold:
    """See cloud.store.source.Hold: one of each shard's, entered when it is needed."""

    def __init__(self, hold: Callable[[int], Hold]) -> None:
        self._make = hold
        self._holds: dict[int, Hold] = {}
        self._entered: list[Hold] = []

    def __enter__(self) -> "MergedHold":
        return self

    def __exit__(self, *error: object) -> None:
        for hold in self._entered:
            hold.__exit__(*error)
        self._entered.clear()

    def close(self) -> None:
        for hold in self._holds.values():
            hold.close()

    def plain(self, ref: ChunkRef, *, check: bool = True) -> Array:
        hold, origin, skip = self._of(ref)
        return hold.plain(origin, check=check)[skip : skip + ref.count]

    def where(self, ref: ChunkRef) -> tuple[int, int] | None:
        hold, origin, skip = self._of(ref)
        found = hold.where(origin)
        if found is None or not skip:
            return found
        return found[0], found[1] + skip * hold.plain(origin, check=False).dtype.itemsize

    def fetch(self, ref: ChunkRef, rows: Array, out: Array) -> None:
        hold, origin, skip = self._of(ref)
        hold.fetch(origin, rows + skip if skip else rows, out)

    def _of(self, ref: ChunkRef) -> tuple[Hold, ChunkRef, int]:
        assert isinstance(ref, ShardRef), "a chunk of one of the shards"
        assert ref.origin is not None
        if ref.shard not in self._holds:
            self._holds[ref.shard] = self._make(ref.shard)
        hold = self._holds[ref.shard]
        if hold not in self._entered:
            self._entered.append(hold.__enter__())
        return hold, ref.origin, ref.skip


def own_shards(rank: int, ranks: int) -> Callable[[int], bool]:
    """The shards whose online rows learner rank `rank` of `ranks` reads: each belongs to one rank."""
    return lambda shard: shard % ranks == rank


def check_ranks(shards: Collection[int], ranks: int) -> None:
    """Raises ValueError where a rank would have no shard of its own."""
    if ranks > max(1, len(shards)):
        raise ValueError(f"{ranks} learner ranks on {len(shards)} shards, allowed one shard each or more; add shards")
