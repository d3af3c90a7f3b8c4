"""Merging: which chunks of a sealed segment can become one, and how, without a byte of a row being changed.

Chunks are joined where nobody can tell: neighbours in the order of commits, of one stream, steps and codecs going on,
to CHUNK_BYTES at most. What is joined keeps the last commit's number, so a commit that somebody names (a checkpoint, a
pin, a draw) ends a chunk: the rows up to it stay the rows up to it. Coded chunks are joined blob by blob, never coded
anew.
"""

from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from user_rl.errors import StorageCorrupt
from user_rl.log.chunk import (
    CHUNK_BYTES,
    CODED,
    ORDER_VALUE,
    RAW,
    SEQ_KEY,
    STEP_KEY,
    TRAILER,
    check_value,
    chunk_from_value,
    digest_of,
    trailed,
)
from user_rl.log.coded import Coded, codecs_text, joined
from user_rl.log.segment import Segment
from user_rl.rows import Schema, schema_from_bytes

if TYPE_CHECKING:
    from user_rl.log.segment import Txn

SMALL = 4  # a mean chunk below CHUNK_BYTES / SMALL is small


@dataclass(frozen=True, slots=True)
class Piece:
    """A chunk as the order table names it; `codecs` as a coded one stores them, empty: raw."""

    seq: int
    number: int
    first: int
    count: int
    codecs: bytes

    @property
    def last(self) -> int:
        return self.first + self.count - 1

    def goes_on(self, before: "Piece") -> bool:
        """Whether it can be one with the chunk `before` it, whatever their size."""
        return (self.seq, self.number, self.first) == (before.seq + 1, before.number, before.last + 1) and (
            self.codecs == before.codecs
        )


@dataclass
class Plan:
    """The new chunks in commit order, each of these old ones; and those whose steps earlier ones have."""

    groups: list[list[Piece]] = field(default_factory=list)
    twice: list[Piece] = field(default_factory=list)
    bytes: int = 0  # of all rows, not coded

    def is_worth_it(self) -> bool:
        """Whether the chunks are small and half of them and more can go, or rows stand twice."""
        before = sum(map(len, self.groups))
        return bool(self.twice) or (self.bytes * SMALL < CHUNK_BYTES * before and 2 * len(self.groups) <= before)


def schemas_of(segment: Segment) -> dict[int, Schema]:
    """The schemas of a segment's streams, by number."""
    return {entry.number: schema_from_bytes(entry.schema) for entry in segment.streams().values()}


def pieces(segment: Segment, txn: "Txn") -> Iterator[Piece]:
    """Every chunk, in commit order."""
    for key, value in txn.cursor(db=segment.table("order")):
        number, first, count, form = ORDER_VALUE.unpack(value)
        piece = Piece(SEQ_KEY.unpack(key)[0], number, first, count, b"")
        if form == CODED:
            stored = value_of(segment, txn, piece)[: -TRAILER.size]
            piece = Piece(piece.seq, number, first, count, codecs_text(stored))
        yield piece


def value_of(segment: Segment, txn: "Txn", piece: Piece) -> memoryview:
    """What is stored of a chunk."""
    value = txn.get(STEP_KEY.pack(piece.number, piece.first), db=segment.table("chunks"))
    if value is None:
        raise StorageCorrupt(f"{segment.path}: no chunk of stream {piece.number} at step {piece.first}; restore it")
    return value


def plan(found: Iterable[Piece], schemas: Mapping[int, Schema], keep: Collection[int]) -> Plan:
    """What to make of these chunks, in commit order; `keep`: the commits that somebody names."""
    made, held = Plan(), dict[int, list[tuple[int, int]]]()
    for piece in found:
        row_bytes = schemas[piece.number].row_bytes
        if _has(held.setdefault(piece.number, []), piece):
            made.twice.append(piece)
            continue
        made.bytes += piece.count * row_bytes
        group = made.groups[-1] if made.groups else []
        rows = piece.last - group[0].first + 1 if group and piece.goes_on(group[-1]) else 0
        if rows and group[-1].seq not in keep and rows * row_bytes <= CHUNK_BYTES:
            group.append(piece)
        else:
            made.groups.append([piece])
    return made


def _has(runs: list[tuple[int, int]], piece: Piece) -> bool:
    """Whether one of these runs of steps has all of the chunk's; takes them in where it has not."""
    if any(first <= piece.first and piece.last <= last for first, last in runs):
        return True
    if runs and runs[-1][1] + 1 == piece.first:
        runs[-1] = (runs[-1][0], piece.last)
    else:
        runs.append((piece.first, piece.last))
    return False


def merged_value(segment: Segment, txn: "Txn", group: list[Piece], schema: Schema) -> bytes | memoryview:
    """What is stored of a new chunk; raises StorageCorrupt where an old one is not what was written."""
    values, name = [value_of(segment, txn, piece) for piece in group], f"number {group[0].number}"
    for piece, value in zip(group, values, strict=True):
        check_value(name, piece.first, schema.row_bytes, value)
    if len(group) == 1:
        return values[0]
    count, codecs = sum(piece.count for piece in group), group[0].codecs
    if not codecs:
        return trailed(memoryview(b"".join(value[: -TRAILER.size] for value in values)), count)
    parts = [Coded(v[: -TRAILER.size], p.count, schema.dtype) for p, v in zip(group, values, strict=True)]
    stored = joined(parts, codecs)
    return stored + TRAILER.pack(count, CODED, digest_of(stored))


def order_value(group: list[Piece]) -> bytes:
    """The order table's entry of a new chunk."""
    count, form = sum(piece.count for piece in group), CODED if group[0].codecs else RAW
    return ORDER_VALUE.pack(group[0].number, group[0].first, count, form)


def check_twice(segment: Segment, txn: "Txn", made: Plan, schemas: Mapping[int, Schema]) -> None:
    """Raises StorageCorrupt if a row that stands twice does not say the same both times."""
    for piece in made.twice:
        schema = schemas[piece.number]
        for other in (one for group in made.groups for one in group if one.number == piece.number):
            first, last = max(piece.first, other.first), min(piece.last, other.last)
            if first <= last and len({_rows(segment, txn, p, schema, (first, last)) for p in (piece, other)}) > 1:
                raise StorageCorrupt(
                    f"{segment.path}: rows {first}..{last} of stream number {piece.number} stand twice and differ; "
                    "restore this segment"
                )


def _rows(segment: Segment, txn: "Txn", piece: Piece, schema: Schema, steps: tuple[int, int]) -> bytes:
    chunk = chunk_from_value(f"number {piece.number}", piece.first, schema, value_of(segment, txn, piece))
    start, end = ((step - piece.first) * schema.row_bytes for step in (steps[0], steps[1] + 1))
    return chunk.data[start:end]
