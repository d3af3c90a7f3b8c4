"""Reading over the segments of a log: what the writer and the readers of other processes have in common.

Every function takes the segments (oldest first) and reads committed rows only. Sealed segments are opened when needed
and a few are kept open (`close_idle`), because each holds a map and file descriptors.
"""

import heapq
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack
from itertools import islice
from typing import TYPE_CHECKING, TypeVar

from user_rl.errors import StorageCorrupt
from user_rl.log.chunk import (
    CODED,
    GAP_VALUE,
    ORDER_VALUE,
    SEQ_KEY,
    STEP_KEY,
    TRAILER,
    Chunk,
    ChunkRef,
    Gap,
    Span,
    Stored,
    chunk_from_value,
    cut,
    cut_as_stored,
    stored_from_value,
    trailer_of,
)
from user_rl.log.coded import lossy_fields
from user_rl.log.episodes import Episode, merged, part_from_value
from user_rl.log.names import Names
from user_rl.log.segment import Segment
from user_rl.rows import Schema

if TYPE_CHECKING:
    import lmdb

KEPT_OPEN = 8  # sealed segments

Found = TypeVar("Found", Chunk, Stored)
Make = Callable[[str, int, Schema, memoryview], Found]  # stream, first step, its schema, the value


def visit(segments: Iterable[Segment]) -> Iterator[Segment]:
    """Each segment in turn; a sealed one is open only meanwhile."""
    for segment in segments:
        was_open = segment.is_open
        yield segment
        if segment.footer and not was_open:
            segment.close()


def learn(segments: Sequence[Segment], names: Names, seen: dict[str, int]) -> None:
    """Takes in new streams: from the segments still written, the newest, and those that hold unknown ones."""
    for segment in segments:
        name, known = segment.path.name, -1
        if segment.footer is None:
            known = segment.known()
        elif segment is not segments[-1] and segment.footer.spans.keys() <= names.by_number.keys():
            continue
        if seen.get(name) != known:
            seen[name] = known
            for opened in visit([segment]):
                names.learn(opened.streams())


def close_idle(segments: Sequence[Segment]) -> None:
    """Closes sealed segments that are open beyond the newest KEPT_OPEN; between transactions only."""
    opened = [segment for segment in segments if segment.is_open and segment.footer]
    for segment in opened[:-KEPT_OPEN]:
        segment.close()


def read(segments: Sequence[Segment], names: Names, stream: str, first: int, max_bytes: int) -> list[Chunk]:
    """The chunks of a stream from step `first` on, at least one row if there is any, else at most `max_bytes`."""
    number = names.number(stream)
    row_bytes = names.schemas[stream].row_bytes
    holders = _holders(segments, number, first)
    found: list[Chunk] = []
    while chunk := _next_chunk(holders, names, number, first, chunk_from_value):
        rows = max(max_bytes // row_bytes, 0 if found else 1)
        if rows < chunk.count and found:
            break
        chunk = cut(chunk, max(first, chunk.first), rows)
        found.append(chunk)
        max_bytes -= len(chunk.data)
        first = chunk.last + 1
    return found


def stored(segments: Sequence[Segment], names: Names, stream: str, first: int, max_bytes: int) -> list[Stored]:
    """As `read`, as the chunks are stored; `max_bytes` are stored bytes."""
    number, schema = names.number(stream), names.schemas[stream]
    holders = _holders(segments, number, first)
    found: list[Stored] = []
    while chunk := _next_chunk(holders, names, number, first, stored_from_value):
        if found and max_bytes < len(chunk.data) // chunk.count:
            break
        chunk = cut_as_stored(chunk, schema, max(first, chunk.first), max_bytes)
        found.append(chunk)
        max_bytes -= len(chunk.data)
        first = chunk.last + 1
    return found


def _holders(segments: Sequence[Segment], number: int, first: int) -> list[tuple[Segment, Span]]:
    return [(segment, span) for segment in segments if (span := segment.span(number)) and span.last >= first]


def _next_chunk(
    holders: list[tuple[Segment, Span]], names: Names, number: int, step: int, make: Make[Found]
) -> Found | None:
    """The chunk that has `step`, else the first after it."""
    best: Found | None = None
    for segment, span in holders:
        if span.last >= step and (best is None or (best.first > step and span.first < best.first)):
            chunk = _chunk_in(segment, names, number, step, make)
            if chunk and (best is None or chunk.first < best.first):
                best = chunk
    return best


def _chunk_in(segment: Segment, names: Names, number: int, step: int, make: Make[Found]) -> Found | None:
    """As `_next_chunk`, in one segment."""
    with segment.begin() as txn:
        cursor = txn.cursor(db=segment.table("chunks"))
        after = STEP_KEY.pack(number, step + 1)
        later = cursor.set_range(after)
        if (cursor.prev() if later else cursor.last()) and (chunk := _under(cursor, names, number, step, make)):
            return chunk
        return _under(cursor, names, number, step, make) if later and cursor.set_range(after) else None


def _under(cursor: "lmdb.Cursor[memoryview]", names: Names, number: int, step: int, make: Make[Found]) -> Found | None:
    """The chunk under the cursor, if it is of this stream and ends at `step` or later."""
    found, first = STEP_KEY.unpack(cursor.key())
    stream, value = names.by_number[number][0], cursor.value()
    if found != number or first + trailer_of(value)[0] <= step:
        return None
    return make(stream, first, names.schemas[stream], value)


def tail(
    segments: Sequence[Segment], names: Names, after_seq: int, until_seq: int, max_bytes: int
) -> list[tuple[int, Chunk]]:
    """The chunks with after_seq < seq <= until_seq in order of seq: at least one if there is any, else `max_bytes`."""
    found: list[tuple[int, Chunk]] = []
    with ExitStack() as stack:
        for seq, number, first, count, _, segment in _in_order(segments, after_seq, until_seq, stack):
            row_bytes = names.by_number[number][1]
            max_bytes -= count * row_bytes
            if found and max_bytes < 0:
                break
            found.append((seq, _chunk_at(segment, names, number, first)))
    return found


def _chunk_at(segment: Segment, names: Names, number: int, first: int) -> Chunk:
    """The chunk that the order table says is here."""
    with segment.begin() as txn:
        value = txn.get(STEP_KEY.pack(number, first), db=segment.table("chunks"))
        if value is None:
            raise StorageCorrupt(f"{segment.path}: no chunk of stream {number} at step {first}; restore this segment")
        name = names.by_number[number][0]
        return chunk_from_value(name, first, names.schemas[name], value)


def refs(segments: Sequence[Segment], names: Names, after_seq: int, until_seq: int, max_chunks: int) -> list[ChunkRef]:
    """As `tail`, where the chunks lie instead of what they hold."""
    with ExitStack() as stack:
        entries = islice(_in_order(segments, after_seq, until_seq, stack), max_chunks)
        return [
            ChunkRef(seq, names.by_number[number][0], number, first, count, segment.path.name, form)
            for seq, number, first, count, form, segment in entries
        ]


Entry = tuple[int, int, int, int, int, Segment]  # seq, stream number, first step, count, form, where


def _in_order(segments: Sequence[Segment], after_seq: int, until_seq: int, stack: ExitStack) -> Iterator[Entry]:
    """Merges the segments by seq; one is opened only when its turn can have come."""
    waiting = [s for s in segments if s.footer is None or s.footer.last_seq > after_seq]
    heads: list[tuple[int, int, Entry, Iterator[Entry]]] = []
    while waiting or heads:
        while waiting and (not heads or waiting[0].first_seq <= heads[0][0]):
            _push(heads, _entries(waiting.pop(0), after_seq, stack))
        if not heads:
            return
        seq, _, entry, entries = heapq.heappop(heads)
        if seq > until_seq:
            return
        yield entry
        _push(heads, entries)


def _push(heads: list[tuple[int, int, Entry, Iterator[Entry]]], entries: Iterator[Entry]) -> None:
    if entry := next(entries, None):
        heapq.heappush(heads, (entry[0], id(entries), entry, entries))


def _entries(segment: Segment, after_seq: int, stack: ExitStack) -> Iterator[Entry]:
    """The order table from `after_seq` on; what was opened for it is closed with its last entry."""
    mine = stack.enter_context(ExitStack())
    for opened in visit([segment]):
        with mine:
            order = mine.enter_context(opened.begin()).cursor(db=opened.table("order"))
            if order.set_range(SEQ_KEY.pack(after_seq + 1)):
                for key, value in order.iternext():
                    yield SEQ_KEY.unpack(key)[0], *ORDER_VALUE.unpack(value), segment


def gaps(segments: Sequence[Segment], names: Names) -> list[Gap]:
    """Every gap, by stream and step; adjacent ones are one."""
    found = []
    for segment in visit(segments):
        with segment.begin() as txn:
            for key, value in txn.cursor(db=segment.table("gaps")):
                number, first = STEP_KEY.unpack(key)
                found.append(Gap(names.by_number[number][0], first, GAP_VALUE.unpack(value)[0]))
    whole: list[Gap] = []
    for gap in sorted(found, key=lambda gap: (gap.stream, gap.first)):
        if whole and whole[-1].stream == gap.stream and whole[-1].last + 1 == gap.first:
            whole[-1] = Gap(gap.stream, whole[-1].first, gap.last)
        else:
            whole.append(gap)
    return whole


def episodes(segments: Sequence[Segment], names: Names) -> list[Episode]:
    """The episode table, by stream and first step."""
    found = []
    for segment in visit(segments):
        with segment.begin() as txn:
            for key, value in txn.cursor(db=segment.table("episodes")):
                number, episode = STEP_KEY.unpack(key)
                found.append((names.by_number[number][0], episode, segment.klass, part_from_value(value)))
    return merged(found)


def synced(segments: Sequence[Segment], names: Names, stream: str) -> int:
    """The last committed step of a stream, gaps included; -1: none."""
    number, base = names.number(stream), names.bases.get(stream, -1)
    return max([base, *(span.last for segment in segments if (span := segment.span(number)))])


def cursors(segments: Sequence[Segment], names: Names) -> dict[str, int]:
    """`synced` of all streams."""
    found = {name: names.bases.get(name, -1) for name in names.numbers}
    for segment in segments:
        for number, span in segment.spans().items():
            name = names.by_number[number][0]
            found[name] = max(found[name], span.last)
    return found


def first_kept(segments: Sequence[Segment], names: Names, stream: str) -> int:
    """The step from which on the log has everything up to `synced`; synced + 1: it has nothing."""
    number, end = names.number(stream), synced(segments, names, stream) + 1
    spans = [span for segment in segments if (span := segment.span(number))]
    low = min((span.first for span in spans), default=end)
    if sum(span.covered for span in spans) == end - low:
        return low
    held = [run for segment in visit(segments) for run in runs(segment, names, number)]
    for first, last in sorted(held, reverse=True):
        if last + 1 != end:
            break
        end = first
    return end


def runs(segment: Segment, names: Names, number: int) -> Iterator[tuple[int, int]]:
    """(first, last) of every chunk and gap that a segment has of a stream."""
    start = STEP_KEY.pack(number, 0)
    with segment.begin() as txn:
        for name in ("chunks", "gaps"):
            cursor = txn.cursor(db=segment.table(name))
            at = cursor.set_range(start)
            while at and STEP_KEY.unpack(cursor.key())[0] == number:
                first, value = STEP_KEY.unpack(cursor.key())[1], cursor.value()
                yield first, GAP_VALUE.unpack(value)[0] if name == "gaps" else first + trailer_of(value)[0] - 1
                at = cursor.next()


def scan(
    segments: Sequence[Segment], names: Names, number: int, without: frozenset[str] = frozenset()
) -> Iterator[Chunk]:
    """Every chunk of a stream as it is stored, segment by segment: rows that stand twice come twice.

    Coded fields named in `without` are left zero instead of being decoded.
    """
    stream = names.by_number[number][0]
    for first, value in _values(segments, number):
        yield chunk_from_value(stream, first, names.schemas[stream], value, without)


def scan_stored(segments: Sequence[Segment], names: Names, number: int) -> Iterator[Stored]:
    """As `scan`, as the chunks are stored."""
    stream = names.by_number[number][0]
    for first, value in _values(segments, number):
        yield stored_from_value(stream, first, names.schemas[stream], value)


def lossy(segments: Sequence[Segment], names: Names, number: int) -> frozenset[str]:
    """The fields of a stream that are, in any chunk, not the bytes that were appended."""
    dtype, found = names.schemas[names.by_number[number][0]].dtype, set[str]()
    for _, value in _values(segments, number):
        if trailer_of(value)[1] == CODED:
            found.update(lossy_fields(value[: -TRAILER.size], dtype))
    return frozenset(found)


def _values(segments: Sequence[Segment], number: int) -> Iterator[tuple[int, memoryview]]:
    """(first step, value) of every chunk of a stream."""
    for segment in visit(segments):
        with segment.begin() as txn:
            cursor = txn.cursor(db=segment.table("chunks"))
            at = cursor.set_range(STEP_KEY.pack(number, 0))
            while at and STEP_KEY.unpack(cursor.key())[0] == number:
                yield STEP_KEY.unpack(cursor.key())[1], cursor.value()
                at = cursor.next()
