"""What the log hands out (chunks of rows, episodes, gaps), and the binary forms of its keys and values.

A chunk is a run of consecutive rows of one stream. Its value is the stored bytes, then a trailer of 16: the count of
rows, the form, xxh3_64 of the stored bytes. Form RAW stores the packed records exactly as they cross the wire; form
CODED stores what `user_rl/log/coded.py` says. Keys are big-endian, so that LMDB's order is the order of steps. The
order table repeats count and form, so that a log is listed without a look at its rows.
"""

from dataclasses import dataclass, replace
from struct import Struct

import numpy as np
import xxhash

from user_rl.errors import StorageCorrupt
from user_rl.log.coded import Coded, cut_stored, lossy_fields
from user_rl.rows import Klass, Schema
from user_rl.specs import Array

CHUNK_BYTES = 4 * 2**20  # a chunk holds no more, unless one single row does
STEP_KEY = Struct(">IQ")  # stream number, step (chunks, gaps) or episode (episodes)
SEQ_KEY = Struct(">Q")
NUMBER_KEY = Struct(">I")
ORDER_VALUE = Struct("<IQII")  # stream number, first step, count, form
GAP_VALUE = Struct("<Q")  # last step
TRAILER = Struct("<IIQ")  # count, form, xxh3_64 of the stored bytes
RAW, CODED = 0, 1


@dataclass(frozen=True, slots=True)
class Chunk:
    """`count` consecutive rows of a stream, from step `first`; `digest` is xxh3_64 of `data`, the packed records.

    `lossy` names the fields that were stored by a codec that does not give back the same bytes.
    """

    stream: str
    first: int
    count: int
    digest: int
    data: bytes
    lossy: tuple[str, ...] = ()

    @property
    def last(self) -> int:
        """The step of its last row."""
        return self.first + self.count - 1


@dataclass(frozen=True, slots=True)
class Stored:
    """`count` consecutive rows of a stream, from step `first`, as they are stored: packed records, or `coded`.

    `digest` is xxh3_64 of `data`: nothing is decoded, and what travels is what lies on the disk.
    """

    stream: str
    first: int
    count: int
    digest: int
    data: bytes
    coded: bool

    @property
    def last(self) -> int:
        """The step of its last row."""
        return self.first + self.count - 1

    def head(self, schema: Schema) -> Array:
        """Its rows, at least those of their fields that are not coded: nothing is decoded."""
        if self.coded:
            return Coded(memoryview(self.data), self.count, schema.dtype).plain
        return schema.view(self.data)


@dataclass(frozen=True, slots=True)
class ChunkRef:
    """Where a chunk lies: its place in the order of commits, its stream (name and number), its segment's folder."""

    seq: int
    stream: str
    number: int
    first: int
    count: int
    segment: str
    form: int


@dataclass(frozen=True, slots=True)
class Gap:
    """Rows `first`..`last` of a stream that nobody has any more."""

    stream: str
    first: int
    last: int


def digest_of(data: bytes | memoryview) -> int:
    """The digest that travels with a chunk."""
    return xxhash.xxh3_64_intdigest(data)


def most_rows(row_bytes: int) -> int:
    """How many rows of this size one chunk may hold, coded or not."""
    return max(1, CHUNK_BYTES // row_bytes)


def trailed(records: memoryview, count: int) -> bytes:
    """The value of a raw chunk."""
    return b"".join((records, TRAILER.pack(count, RAW, digest_of(records))))


def trailer_of(value: memoryview) -> tuple[int, int, int]:
    """(count, form, digest of the stored bytes) of a chunk's value; raises StorageCorrupt for one without a trailer."""
    if len(value) < TRAILER.size:
        raise StorageCorrupt(f"a chunk of {len(value)} bytes, allowed {TRAILER.size} and more; restore this segment")
    count, form, digest = TRAILER.unpack_from(value, len(value) - TRAILER.size)
    return count, form, digest


def check_value(stream: str, first: int, row_bytes: int, value: memoryview) -> tuple[int, int, int]:
    """The trailer of a chunk whose bytes are what was written; raises StorageCorrupt for any other."""
    count, form, digest = trailer_of(value)
    stored = value[: -TRAILER.size]
    found = digest_of(stored)
    if found != digest or form not in (RAW, CODED) or (form == RAW and len(stored) != count * row_bytes):
        raise StorageCorrupt(
            f"stream {stream}, chunk at step {first}: {len(stored)} bytes with digest {found:016x}, "
            f"written were {count} rows (form {form}) with {digest:016x}; "
            "restore this segment from the other side or from a backup"
        )
    return count, form, digest


def chunk_from_value(
    stream: str, first: int, schema: Schema, value: memoryview, without: frozenset[str] = frozenset()
) -> Chunk:
    """The chunk that lies in an LMDB value, decoded and copied out; raises StorageCorrupt as `check_value` does.

    Coded fields named in `without` are left zero instead of being decoded.
    """
    count, form, digest = check_value(stream, first, schema.row_bytes, value)
    stored = value[: -TRAILER.size]
    if form == RAW:
        return Chunk(stream, first, count, digest, bytes(stored))
    records = np.zeros(count, schema.dtype)
    Coded(stored, count, schema.dtype).fetch(slice(None), records, without)
    data = records.tobytes()
    return Chunk(stream, first, count, digest_of(data), data, lossy_fields(stored, schema.dtype))


def cut(chunk: Chunk, first: int, max_rows: int) -> Chunk:
    """The part of a chunk that starts at step `first` and has at most `max_rows` rows."""
    skip, count = first - chunk.first, min(chunk.count - (first - chunk.first), max_rows)
    if skip == 0 and count == chunk.count:
        return chunk
    row_bytes = len(chunk.data) // chunk.count
    data = chunk.data[skip * row_bytes : (skip + count) * row_bytes]
    return Chunk(chunk.stream, first, count, digest_of(data), data, chunk.lossy)


def stored_from_value(stream: str, first: int, schema: Schema, value: memoryview) -> Stored:
    """The chunk that lies in an LMDB value, copied out as it is; raises StorageCorrupt as `check_value` does."""
    count, form, digest = check_value(stream, first, schema.row_bytes, value)
    return Stored(stream, first, count, digest, bytes(value[: -TRAILER.size]), form == CODED)


def cut_as_stored(chunk: Stored, schema: Schema, first: int, max_bytes: int) -> Stored:
    """As `cut`, at most `max_bytes` yet at least one row; nothing is coded anew."""
    skip = first - chunk.first
    count = min(chunk.count - skip, max(1, max_bytes * chunk.count // len(chunk.data)))
    return part_as_stored(chunk, schema, first, first + count - 1)


def part_as_stored(chunk: Stored, schema: Schema, first: int, last: int) -> Stored:
    """The rows of a chunk from step `first` to step `last`, as they are stored."""
    skip, count = first - chunk.first, last - first + 1
    if skip == 0 and count == chunk.count:
        return chunk
    if chunk.coded:
        data = cut_stored(Coded(memoryview(chunk.data), chunk.count, schema.dtype), skip, skip + count)
    else:
        data = chunk.data[skip * schema.row_bytes : (skip + count) * schema.row_bytes]
    return Stored(chunk.stream, first, count, digest_of(data), data, chunk.coded)


@dataclass(frozen=True, slots=True)
class Span:
    """What one segment has of one stream: steps within [first, last]; `covered` of them, as `rows` or as gaps."""

    number: int
    first: int
    last: int
    rows: int
    covered: int

    FORM = Struct("<QQQQ")

    def joined(self, first: int, last: int, rows: int) -> "Span":
        """This span and one more run of steps."""
        count = last - first + 1
        low, high = min(self.first, first), max(self.last, last)
        return replace(self, first=low, last=high, rows=self.rows + rows, covered=self.covered + count)

    def packed(self) -> bytes:
        return self.FORM.pack(self.first, self.last, self.rows, self.covered)


def span_from_value(number: int, value: memoryview) -> Span:
    """Reads back `Span.packed`."""
    return Span(number, *Span.FORM.unpack(value))


@dataclass(frozen=True, slots=True)
class StreamEntry:
    """A stream as a segment knows it; `base` is its cursor when the entry was written (-1: no rows)."""

    number: int
    base: int
    schema: bytes

    FORM = Struct("<Iq")

    def packed(self) -> bytes:
        return self.FORM.pack(self.number, self.base) + self.schema


def entry_from_value(value: memoryview) -> StreamEntry:
    """Reads back `StreamEntry.packed`."""
    number, base = StreamEntry.FORM.unpack(value[: StreamEntry.FORM.size])
    return StreamEntry(number, base, bytes(value[StreamEntry.FORM.size :]))


def segment_name(klass: Klass, first_seq: int) -> str:
    """`online-00000001`: its class and the sequence number of its first chunk, which no other segment ever has."""
    return f"{klass.name.lower()}-{first_seq:08d}"
