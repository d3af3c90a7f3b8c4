"""The binary forms: what is packed is read back, keys sort as steps do, and a cut chunk is the same rows."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.user_rl.log.recorded import SCHEMA, STREAM, rows
from user_rl.errors import StorageCorrupt
from user_rl.log import Chunk, digest_of
from user_rl.log.chunk import (
    CODED,
    RAW,
    STEP_KEY,
    TRAILER,
    Span,
    StreamEntry,
    check_value,
    chunk_from_value,
    cut,
    entry_from_value,
    segment_name,
    span_from_value,
    trailed,
)
from user_rl.log.segment import is_segment_name
from user_rl.rows import Klass

numbers = st.integers(0, 2**32 - 1)
steps = st.integers(0, 2**63 - 1)


def chunk_of(first: int, count: int) -> Chunk:
    data = rows(first, count).tobytes()
    return Chunk(STREAM, first, count, digest_of(data), data)


@given(st.tuples(numbers, steps), st.tuples(numbers, steps))
def test_keys_sort_by_stream_and_step(one: tuple[int, int], two: tuple[int, int]) -> None:
    assert (STEP_KEY.pack(*one) < STEP_KEY.pack(*two)) == (one < two)


@given(numbers, steps, steps, steps, steps)
def test_a_span_is_read_back(number: int, first: int, last: int, held: int, covered: int) -> None:
    span = Span(number, first, last, held, covered)
    assert span_from_value(number, memoryview(span.packed())) == span


@given(numbers, st.integers(-1, 2**62), st.binary(max_size=50))
def test_a_stream_entry_is_read_back(number: int, base: int, schema: bytes) -> None:
    entry = StreamEntry(number, base, schema)
    assert entry_from_value(memoryview(entry.packed())) == entry


def test_a_span_grows_by_rows_and_by_gaps() -> None:
    span = Span(3, 10, 19, 10, 10)
    assert span.joined(20, 24, 5) == Span(3, 10, 24, 15, 15)
    assert span.joined(25, 29, 0) == Span(3, 10, 29, 10, 15)
    assert span.joined(0, 4, 5) == Span(3, 0, 19, 15, 15)


def test_a_chunk_is_read_back_and_a_flipped_bit_is_noticed() -> None:
    chunk = chunk_of(40, 6)
    value = trailed(memoryview(chunk.data), 6)
    assert value == chunk.data + TRAILER.pack(6, RAW, chunk.digest)
    assert chunk_from_value(STREAM, 40, SCHEMA, memoryview(value)) == chunk
    for at in (0, len(chunk.data) - 1, *range(len(chunk.data), len(value))):
        broken = bytearray(value)
        broken[at] ^= 16
        with pytest.raises(StorageCorrupt, match=rf"stream {STREAM}, chunk at step 40: {len(chunk.data)} bytes with"):
            chunk_from_value(STREAM, 40, SCHEMA, memoryview(broken))


def test_a_chunk_of_broken_rows_is_refused_though_its_digest_is_right() -> None:
    data = rows(0, 2).tobytes()[:-1]
    with pytest.raises(StorageCorrupt) as error:
        chunk_from_value(STREAM, 0, SCHEMA, memoryview(trailed(memoryview(data), 2)))
    digest = f"{digest_of(data):016x}"
    assert str(error.value) == (
        f"stream {STREAM}, chunk at step 0: {len(data)} bytes with digest {digest}, written were 2 rows (form 0) with "
        f"{digest}; restore this segment from the other side or from a backup"
    )


def test_a_value_without_a_trailer_is_refused() -> None:
    with pytest.raises(StorageCorrupt, match=r"^a chunk of 15 bytes, allowed 16 and more; restore this segment$"):
        check_value(STREAM, 0, SCHEMA.row_bytes, memoryview(bytes(15)))


def test_the_length_of_a_coded_chunk_is_its_own() -> None:
    value = b"anything" + TRAILER.pack(7, CODED, digest_of(b"anything"))
    assert check_value(STREAM, 0, SCHEMA.row_bytes, memoryview(value)) == (7, CODED, digest_of(b"anything"))


@given(st.integers(0, 9), st.integers(1, 20))
def test_a_cut_chunk_holds_the_same_rows(skip: int, most: int) -> None:
    part = cut(chunk_of(30, 10), 30 + skip, most)
    count = min(10 - skip, most)
    assert part == chunk_of(30 + skip, count)
    assert part.last == 30 + skip + count - 1


def test_segments_are_told_from_what_a_crash_left() -> None:
    assert segment_name(Klass.DEMONSTRATION, 17) == "demonstration-00000017"
    assert all(is_segment_name(segment_name(klass, 2**40)) for klass in Klass)
    for name in (".new-online-00000001", ".old-online-00000001", "online", "online-", "other-00000001", "log.json"):
        assert not is_segment_name(name)
