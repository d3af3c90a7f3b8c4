"""Coded rows of a peer: what adds up is taken as it is, and whatever does not is refused before it is stored."""

from contextlib import suppress

import msgspec
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.user_rl.log.filmed_rows import DEPTH, FRONT, SCHEMA, STATE, WRIST, filmed
from user_rl.errors import SchemaMismatch, StorageCorrupt, WireError
from user_rl.log.chunk import most_rows
from user_rl.log.codec import codecs_of, make_codec
from user_rl.log.coded import LENGTH, Coded, cut_stored, packed
from user_rl.log.peer import coded_from_peer
from user_rl.rows import make_schema
from user_rl.specs import Image

CODECS = codecs_of(SCHEMA, {FRONT: "jpeg:80", WRIST: "png", DEPTH: "zstd"})
ROWS = filmed(0, 3)
STORED = packed(ROWS, CODECS) or b""
ALONE = packed(ROWS[:1], CODECS) or b""


def with_text(text: bytes, size: int | None = None) -> memoryview:
    """The stored rows under other codecs."""
    old = len(msgspec.json.encode(CODECS)) + LENGTH.size
    return memoryview(STORED[:-old] + text + LENGTH.pack(len(text) if size is None else size))


def test_rows_that_add_up_are_taken_and_their_headers_can_be_read() -> None:
    part = coded_from_peer(memoryview(STORED), 3, SCHEMA)
    assert part.plain["step"].tolist() == [0, 1, 2]
    assert (part.plain[STATE] == ROWS[STATE]).all()


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        (b"{}", "spelled b'{}'"),
        (b"[]", "Expected `object`, got `array`"),
        (b"\xff\xfe", "cannot be used here"),
        (msgspec.json.encode({"step": "zstd"}), "log.codecs.step: no field of the observation is called so"),
        (msgspec.json.encode({FRONT: "pickle"}), "'pickle', allowed raw, lz4"),
        (msgspec.json.encode({"observation.images.*": "png"}), "are spelled"),
        (msgspec.json.encode(dict(reversed(CODECS.items()))), "are spelled"),
        (msgspec.json.encode(CODECS) + b" ", "are spelled"),
        (msgspec.json.encode({STATE: "jpeg"}), "jpeg stores uint8"),
    ],
)
def test_codecs_that_these_rows_cannot_have_are_refused(text: bytes, problem: str) -> None:
    with pytest.raises(SchemaMismatch) as error:
        coded_from_peer(with_text(text), 3, SCHEMA)
    assert problem in str(error.value)


@pytest.mark.parametrize("size", [0, 4097, len(STORED), 2**32 - 1])
def test_a_text_without_a_bound_is_not_looked_at(size: int) -> None:
    with pytest.raises(WireError, match=rf"name their codecs in {size} bytes, allowed 1 to 4096"):
        coded_from_peer(with_text(b"{}", size), 3, SCHEMA)


@pytest.mark.parametrize("count", [1, 2, 4, 5])
def test_another_count_does_not_add_up(count: int) -> None:
    with pytest.raises(WireError, match="do not add up"):
        coded_from_peer(memoryview(STORED), count, SCHEMA)


def test_a_byte_too_many_does_not_add_up() -> None:
    at = 3 * Coded(memoryview(STORED), 3, SCHEMA.dtype).layout.plain.itemsize
    with pytest.raises(WireError, match="do not add up"):
        coded_from_peer(memoryview(STORED[: -len(msgspec.json.encode(CODECS)) - 4] + b"x" + STORED[-200:]), 3, SCHEMA)
    longer = bytearray(STORED)
    longer[at : at + 4] = LENGTH.pack(2**31)
    with pytest.raises(WireError, match="do not add up"):
        coded_from_peer(memoryview(longer), 3, SCHEMA)


def test_more_rows_than_one_chunk_may_hold_are_refused_however_few_bytes_they_are() -> None:
    big = make_schema({FRONT: Image(name=FRONT, height=512, width=512)}, SCHEMA.action)
    count = most_rows(big.row_bytes) + 1
    stored = packed(big.new(count), {FRONT: "blank"})
    assert stored is not None
    with pytest.raises(WireError, match=rf"{count} coded rows of {big.row_bytes} bytes, allowed {count - 1} at once"):
        coded_from_peer(memoryview(stored), count, big)
    part = cut_stored(Coded(memoryview(stored), count, big.dtype), 0, count - 1)
    assert len(coded_from_peer(memoryview(part), count - 1, big).plain) == count - 1


@pytest.mark.parametrize("text", ["jpeg", "png", "zstd", "blank"])
@pytest.mark.parametrize("side", [8, 150, 2000])
def test_a_picture_of_another_size_is_refused_by_its_length_or_header(text: str, side: int) -> None:
    value = np.full(3 * side * side, text == "blank", np.uint8)
    huge = make_codec(FRONT, text, "|u1", (side, side, 3)).encode(value)
    stored = packed(SCHEMA.new(1), {FRONT: text})
    assert stored is not None
    part = Coded(memoryview(stored), 1, SCHEMA.dtype)
    forged = b"".join((part.plain.tobytes(), LENGTH.pack(len(huge)), huge, part.text, LENGTH.pack(len(part.text))))
    with pytest.raises(WireError, match=f"{FRONT}: {len(huge)} bytes are no {text} of 3840"):
        coded_from_peer(memoryview(forged), 1, SCHEMA)


def test_a_blob_much_longer_than_its_value_is_refused() -> None:
    records = filmed(0, 1)
    stored = packed(records, {FRONT: "lz4"})
    assert stored is not None
    part = Coded(memoryview(stored), 1, SCHEMA.dtype)
    long = bytes(3840 + 3840 // 8 + 1025)
    forged = b"".join((part.plain.tobytes(), LENGTH.pack(len(long)), long, part.text, LENGTH.pack(len(part.text))))
    with pytest.raises(WireError, match="allowed 5344"):
        coded_from_peer(memoryview(forged), 1, SCHEMA)


@settings(max_examples=150, deadline=None)
@given(st.integers(0, len(STORED) - 1), st.integers(1, 255), st.integers(0, 40))
def test_whatever_is_changed_is_refused_or_decodes_or_is_called_corrupt(at: int, change: int, cut: int) -> None:
    data = bytearray(STORED)
    data[at] ^= change
    out = SCHEMA.new(3)
    with suppress(WireError, StorageCorrupt):
        coded_from_peer(memoryview(data)[: len(data) - cut], 3, SCHEMA).fetch(slice(None), out)


@given(st.integers(0, 2), st.integers(1, 3))
def test_a_cut_is_the_rows_and_nothing_is_coded_anew(first: int, count: int) -> None:
    end = min(3, first + count)
    part = Coded(memoryview(STORED), 3, SCHEMA.dtype)
    again = coded_from_peer(memoryview(cut_stored(part, first, end)), end - first, SCHEMA)
    assert (again.plain == part.plain[first:end]).all()
    for (ends, blobs), (old_ends, old_blobs) in zip(again.columns, part.columns, strict=True):
        assert blobs == old_blobs[old_ends[first] : old_ends[end]]
        assert len(ends) == end - first + 1


@settings(max_examples=150, deadline=None)
@given(st.integers(0, len(ALONE) - 1), st.integers(0, 255), st.integers(0, len(ALONE)))
def test_one_row_changed_or_cut_is_refused_or_has_the_parts_that_its_lengths_say(
    at: int, change: int, cut: int
) -> None:
    data = bytearray(ALONE)
    data[at] ^= change
    stored = memoryview(data)[: len(data) - cut]
    try:
        part = coded_from_peer(stored, 1, SCHEMA)
    except (WireError, SchemaMismatch):
        return
    assert cut == 0
    at = part.layout.plain.itemsize
    for ends, blobs in part.columns:
        (length,) = np.frombuffer(stored, "<u4", 1, at).tolist()
        assert (ends, bytes(blobs)) == ([0, length], bytes(stored[at + 4 : at + 4 + length]))
        at += 4 + length


def test_one_row_is_refused_wherever_it_is_cut_before_its_text() -> None:
    text = ALONE[-(len(msgspec.json.encode(CODECS)) + LENGTH.size) :]
    for size in range(0, len(ALONE) - len(text), 7):
        with pytest.raises(WireError, match="do not add up"):
            coded_from_peer(memoryview(ALONE[:size] + text), 1, SCHEMA)
