"""Snapshot: which rows a log had at one commit: per stream the segment and the last row, and the segments it needs.

It is made in a few milliseconds, for sealed segments say it in their footers and what is written is asked for its end
only; no row is read. Restoring it is reading the rows with `seq <= snapshot.seq`, then what came since. Whoever keeps a
snapshot pins its segments (user_rl.log.pins), else retention may drop what it needs.
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING

import msgspec

from user_rl.log.chunk import GAP_VALUE, ORDER_VALUE, SEQ_KEY, STEP_KEY, Span, trailer_of
from user_rl.log.names import Names
from user_rl.log.quarantine import set_aside_before
from user_rl.log.segment import Segment
from user_rl.rows import Klass

if TYPE_CHECKING:
    from user_rl.log.reader import Reader
    from user_rl.log.segment import Txn


class Place(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Where a stream ends: the last step, which may be a gap's, and the segment that has it."""

    segment: str
    step: int


class Snapshot(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """A log at one commit."""

    log_id: str
    seq: int
    streams: dict[str, Place]
    segments: list[str]  # that it needs, oldest first


class Wanted(msgspec.Struct, frozen=True, kw_only=True):
    """What of the online rows a snapshot needs; demonstrations it needs all."""

    online_rows: int | None = None  # the newest so many, None: all
    interventions: bool = False  # and every segment with a row under a person's hand


def snapshot(reader: "Reader", seq: int | None = None, wanted: Wanted = Wanted()) -> Snapshot:  # noqa: B008  # frozen
    """The log as it is, or as it was at commit `seq`, which the reader has seen."""
    return reader.snapshot(seq, wanted)


def check(found: Snapshot, reader: "Reader") -> str:
    """One line that says what of a snapshot is missing; empty: nothing."""
    if found.log_id != reader.log_id:
        return f"{reader.path}: is log {reader.log_id[:8]}, the snapshot is of {found.log_id[:8]}; open that log"
    here, aside = set(reader.segments()), {reason.segment for reason in set_aside_before(reader.path)}
    gone = [name for name in found.segments if name not in here]
    if not gone:
        return ""
    lost = sorted(set(gone) & aside)
    said = [f"{len(lost)} in quarantine ({', '.join(lost[:3])})"] if lost else []
    dropped = sorted(set(gone) - aside)
    said += [f"{len(dropped)} dropped ({', '.join(dropped[:3])})"] if dropped else []
    return (
        f"{reader.path}: of {len(found.segments)} segments of the snapshot at commit {found.seq}, {' and '.join(said)}"
    )


def taken(segments: Sequence[Segment], names: Names, log_id: str, seq: int, wanted: Wanted) -> Snapshot:
    """The snapshot of these segments, oldest first, at `seq`."""
    streams, ends = dict[str, Place](), dict[str, dict[int, Span]]()
    there = [segment for segment in segments if segment.first_seq <= seq]
    for segment in there:
        name, spans = segment.path.name, segment.spans()
        ends[name] = spans
        for number, last in _ends(segment, spans, seq).items():
            stream = names.by_number[number][0]
            if stream not in streams or streams[stream].step < last:
                streams[stream] = Place(name, last)
    return Snapshot(log_id=log_id, seq=seq, streams=streams, segments=_needed(there, ends, wanted))


def _ends(segment: Segment, spans: dict[int, Span], seq: int) -> dict[int, int]:
    """The last step that a segment had of each stream at `seq`: what lies before the first chunk that came later."""
    if segment.last_seq() <= seq:
        return {number: span.last for number, span in spans.items()}
    later, ends = dict[int, int](), dict[int, int]()
    with segment.begin() as txn:
        order = txn.cursor(db=segment.table("order"))
        at = order.set_range(SEQ_KEY.pack(seq + 1))
        while at:
            number, first = ORDER_VALUE.unpack(order.value())[:2]
            later[number] = min(first, later.get(number, first))
            at = order.next()
        for number, span in spans.items():
            last = _last_before(segment, txn, number, later[number]) if number in later else span.last
            if last >= 0:
                ends[number] = last
    return ends


def _last_before(segment: Segment, txn: "Txn", number: int, step: int) -> int:
    """The last step of the last chunk or gap that a segment has of a stream before `step`; -1: none."""
    last = -1
    for name in ("chunks", "gaps"):
        cursor = txn.cursor(db=segment.table(name))
        found = cursor.prev() if cursor.set_range(STEP_KEY.pack(number, step)) else cursor.last()
        if found and STEP_KEY.unpack(cursor.key())[0] == number:
            first, value = STEP_KEY.unpack(cursor.key())[1], cursor.value()
            end = GAP_VALUE.unpack(value)[0] if name == "gaps" else first + trailer_of(value)[0] - 1
            last = max(last, end)
    return last


def _needed(segments: Sequence[Segment], spans: dict[str, dict[int, Span]], wanted: Wanted) -> list[str]:
    needed, rows = [], 0
    for segment in reversed(segments):
        online, footer = segment.klass == Klass.ONLINE, segment.footer
        within = wanted.online_rows is None or rows < wanted.online_rows
        if not online or within or (wanted.interventions and footer is not None and footer.interventions):
            needed.append(segment.path.name)
        if online:
            rows += sum(span.rows for span in spans[segment.path.name].values())
    return needed[::-1]
