"""What the log hands out (chunks of rows, episodes, gaps), and the binary forms of its keys and values.

A chunk is a run of consecutive rows of one stream, stored as packed records exactly as they cross the wire, followed by
8 bytes: xxh3_64 of the records. Keys are big-endian, so that LMDB's order is the order of steps.
"""

from dataclasses import dataclass, replace
from struct import Struct

import xxhash

from user_rl.errors import StorageCorrupt
from user_rl.rows import Klass

CHUNK_BYTES = 4 * 2**20  # a chunk holds no more, unless one single row does
STEP_KEY = Struct(">IQ")  # stream number, step (chunks, gaps) or episode (episodes)
SEQ_KEY = Struct(">Q")
NUMBER_KEY = Struct(">I")
ORDER_VALUE = Struct("<IQ")  # stream number, first step
GAP_VALUE = Struct("<Q")  # last step
DIGEST = Struct("<Q")


@dataclass(frozen=True, slots=True)
class Chunk:
    """`count` consecutive rows of a stream, from step `first`; `digest` is xxh3_64 of `data`."""

    stream: str
    first: int
    count: int
    digest: int
    data: bytes

    @property
    def last(self) -> int:
        """The step of its last row."""
        return self.first + self.count - 1


@dataclass(frozen=True, slots=True)
class Gap:
    """Rows `first`..`last` of a stream that nobody has any more."""

    stream: str
    first: int
    last: int


def digest_of(data: bytes | memoryview) -> int:
    """The digest that travels with a chunk."""
    return xxhash.xxh3_64_intdigest(data)


def chunk_from_value(stream: str, first: int, row_bytes: int, value: memoryview) -> Chunk:
    """The chunk that lies in an LMDB value, copied out; raises StorageCorrupt if its digest is another."""
    data = bytes(value[: -DIGEST.size])
    (digest,) = DIGEST.unpack(value[-DIGEST.size :])
    if digest_of(data) != digest or len(data) % row_bytes:
        raise StorageCorrupt(
            f"stream {stream}, chunk at step {first}: {len(data)} bytes with digest {digest_of(data):016x}, "
            f"written was {digest:016x}; restore this segment from the other side or from a backup"
        )
    return Chunk(stream, first, len(data) // row_bytes, digest, data)


def cut(chunk: Chunk, first: int, max_rows: int) -> Chunk:
    """The part of a chunk that starts at step `first` and has at most `max_rows` rows."""
    skip, count = first - chunk.first, min(chunk.count - (first - chunk.first), max_rows)
    if skip == 0 and count == chunk.count:
        return chunk
    row_bytes = len(chunk.data) // chunk.count
    data = chunk.data[skip * row_bytes : (skip + count) * row_bytes]
    return Chunk(chunk.stream, first, count, digest_of(data), data)


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
