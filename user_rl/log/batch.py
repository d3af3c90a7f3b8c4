"""Batch: what one transaction of a group commit takes from the streams' queues, and how it is written."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

from user_rl.errors import StorageCorrupt
from user_rl.log.chunk import (
    CODED,
    GAP_VALUE,
    NUMBER_KEY,
    ORDER_VALUE,
    SEQ_KEY,
    STEP_KEY,
    TRAILER,
    Span,
    StreamEntry,
    digest_of,
    span_from_value,
)
from user_rl.log.coded import packed
from user_rl.log.durable import translated
from user_rl.log.episodes import part_from_value, parts_of
from user_rl.log.pending import CodedRows, Missing, Queue, Waiting
from user_rl.log.segment import PAGE, Segment, bump_known
from user_rl.rows import Kind, Klass, Schema
from user_rl.specs import Array

if TYPE_CHECKING:
    from user_rl.log.segment import Txn


@dataclass(slots=True)
class Stream:
    """A stream in the writer: the last step that is durable, the last committed (they differ without syncs), the last
    appended, and what waits between the last two. `codecs` are those of its coded fields."""

    name: str
    number: int
    schema: Schema
    synced: int
    committed: int
    appended: int
    queue: Queue
    codecs: dict[str, str]


@dataclass(slots=True)
class Part:
    """What a batch takes of one stream."""

    stream: Stream
    through: int
    runs: list[tuple[Waiting, int]] = field(default_factory=list)  # what waits, and how many rows of it; one chunk each
    gaps: list[tuple[int, int]] = field(default_factory=list)


@dataclass(slots=True)
class Batch:
    """One transaction's work. `room` and `soft` are the bytes left to the segment's hard and soft limit."""

    klass: Klass
    room: int
    soft: int
    open: set[str]  # streams whose episode goes on in this segment
    parts: list[Part] = field(default_factory=list)
    taken: int = 0  # rows
    full: bool = False

    def need_bytes(self) -> int:
        """About what the disk must have."""
        runs = (count * rows.row_bytes for part in self.parts for rows, count in part.runs)
        return sum(size + 2 * PAGE for size in runs) + 8 * PAGE

    def take(self, stream: Stream) -> None:
        """Takes the stream's rows of this class, and its gaps, as far as they come first and the segment has room."""
        part = Part(stream, stream.committed)
        for item in stream.queue.items:
            if isinstance(item, Missing):
                part.gaps.append((item.first, item.last))
                part.through = item.last
                continue
            count = self._rows_of(stream, item) if item.klass == self.klass and not self.full else 0
            if count:
                part.runs.append((item, count))
                part.through = item.first + count - 1
            if count < item.count:
                break
        if part.through > stream.committed:
            self.parts.append(part)

    def _rows_of(self, stream: Stream, item: Waiting) -> int:
        """How many rows to take: to the room's end, at least one of all; over the soft limit to an episode's end."""
        row_bytes = item.row_bytes
        count = min(item.count, max(self.room // row_bytes, 0 if self.taken else 1))
        kind = item.head(stream.schema, count)["kind"]
        if len(self.open) == (stream.name in self.open):  # no other's episode goes on
            ends = np.flatnonzero(kind == Kind.LAST) + 1
            beyond = ends[ends * row_bytes >= self.soft]
            if len(beyond):
                count, self.full = int(beyond[0]), True
        if count:
            (self.open.discard if kind[count - 1] == Kind.LAST else self.open.add)(stream.name)
        self.taken += count
        self.room -= count * row_bytes
        self.soft -= count * row_bytes
        self.full = self.full or self.room < row_bytes
        return count


def write(segment: Segment, check: Callable[[], None], batch: Batch, seq: int) -> int:
    """Commits the batch, durably; chunks get numbers from `seq` on. Returns the next number.

    Raises StorageFull, SegmentFull, and what `check` raises.
    """
    with translated(segment.path, batch.need_bytes()), segment.write(check) as txn:
        for part in batch.parts:
            _write_entry(segment, txn, part.stream)
            seq = _write_part(segment, txn, part, seq)
    return seq


def _write_entry(segment: Segment, txn: "Txn", stream: Stream) -> None:
    entry = StreamEntry(stream.number, stream.committed, stream.schema.encoded)
    if txn.put(stream.name.encode(), entry.packed(), overwrite=False, db=segment.table("streams")):
        bump_known(segment, txn)


def _write_part(segment: Segment, txn: "Txn", part: Part, seq: int) -> int:
    spans, number = segment.table("spans"), part.stream.number
    value = txn.get(NUMBER_KEY.pack(number), db=spans)
    span = None if value is None else span_from_value(number, value)
    for first, last in part.gaps:
        txn.put(STEP_KEY.pack(number, first), GAP_VALUE.pack(last), db=segment.table("gaps"))
        span = _joined(span, number, first, last, 0)
    for rows, count in part.runs:
        _write_chunk(segment, txn, part.stream, rows, count, seq)
        _write_episodes(segment, txn, number, rows.head(part.stream.schema, count))
        span = _joined(span, number, rows.first, rows.first + count - 1, count)
        seq += 1
    if span:
        txn.put(NUMBER_KEY.pack(number), span.packed(), db=spans)
    return seq


def _joined(span: Span | None, number: int, first: int, last: int, rows: int) -> Span:
    return span.joined(first, last, rows) if span else Span(number, first, last, rows, last - first + 1)


def _write_chunk(segment: Segment, txn: "Txn", stream: Stream, rows: Waiting, count: int, seq: int) -> None:
    value, number, first = _value(stream, rows, count), stream.number, rows.first
    form = TRAILER.unpack_from(value, len(value) - TRAILER.size)[1]
    new = txn.put(STEP_KEY.pack(number, first), value, overwrite=False, db=segment.table("chunks"))
    order = ORDER_VALUE.pack(number, first, count, form)
    new = txn.put(SEQ_KEY.pack(seq), order, overwrite=False, db=segment.table("order")) and new
    if not new:
        raise StorageCorrupt(f"{segment.path}: has stream {stream.name} step {first} already; verify this log")


def _value(stream: Stream, rows: Waiting, count: int) -> bytes | memoryview:
    """What is stored of a chunk: as it came, if that is coded; else coded if a codec is configured and saves bytes."""
    if isinstance(rows, CodedRows):
        return rows.value(count)
    stored = packed(stream.schema.view(rows.records(count)), stream.codecs) if stream.codecs else None
    if stored is None:
        return rows.value(count)
    return stored + TRAILER.pack(count, CODED, digest_of(stored))


def _write_episodes(segment: Segment, txn: "Txn", number: int, rows: Array) -> None:
    episodes = segment.table("episodes")
    for episode, part in parts_of(rows):
        key = STEP_KEY.pack(number, episode)
        before = txn.get(key, db=episodes)
        whole = part if before is None else part_from_value(before).joined(part)
        txn.put(key, whole.packed(), db=episodes)


def klass_of_oldest(streams: Iterable[Stream]) -> Klass:
    """The class whose turn it is: that of the rows appended first; gaps alone go with the online rows."""
    heads = (next((item for item in s.queue.items if not isinstance(item, Missing)), None) for s in streams)
    oldest = min((head for head in heads if head), key=lambda head: head.ticket, default=None)
    return oldest.klass if oldest else Klass.ONLINE
