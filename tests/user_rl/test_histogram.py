"""The histogram against sorted samples: percentiles within a bucket, and nothing lost on any way round."""

import math

import msgspec
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from user_rl.errors import WireError
from user_rl.histogram import BYTES, FORMAT, LAST, WORDS, Histogram, histogram_from_bytes, merged, middle_s

US = st.one_of(st.integers(0, 3000), st.integers(0, 10**8 - 1))
SAMPLES = st.lists(US, min_size=1, max_size=200)


def histogram(samples_us: list[int]) -> Histogram:
    made = Histogram()
    for us in samples_us:
        made.add((us + 0.5) * 1e-6)
    return made


@given(SAMPLES, st.floats(0.0, 100.0))
def test_a_percentile_is_the_sample_of_its_rank_to_a_tenth_of_a_percent(samples: list[int], percent: float) -> None:
    rank = max(1, math.ceil(percent / 100 * len(samples)))
    exact_us = sorted(samples)[rank - 1]
    found_us = histogram(samples).percentile(percent) * 1e6
    assert found_us == pytest.approx(exact_us, rel=1e-3, abs=1e-3)


@given(st.integers(0, LAST))
def test_every_bucket_counts_the_duration_that_stands_for_it(index: int) -> None:
    made = Histogram()
    made.add(middle_s(index) + 1e-8)
    assert made.counts[index] == 1


def test_every_bucket_is_used_and_none_lies_outside() -> None:
    used = [middle_s(index) for index in range(WORDS)]
    assert used == sorted(set(used))
    assert used[0] == 0.0
    assert BYTES == 8 * WORDS


@pytest.mark.parametrize(("duration_s", "index"), [(-5.0, 0), (0.0, 0), (9e-7, 0), (100.0, LAST), (1e6, LAST)])
def test_what_lies_outside_of_the_range_counts_at_its_ends(duration_s: float, index: int) -> None:
    made = Histogram()
    made.add(duration_s)
    assert made.counts[index] == made.count == 1


def test_nothing_added_has_no_percentile() -> None:
    assert math.isnan(Histogram().percentile(50))


@given(SAMPLES, SAMPLES)
def test_merging_counts_both_and_the_difference_to_a_copy_is_what_came_after_it(old: list[int], new: list[int]) -> None:
    made = histogram(old)
    before = made.copy()
    for us in new:
        made.add((us + 0.5) * 1e-6)
    assert (made.since(before).counts == histogram(new).counts).all()
    assert (merged([histogram(old), histogram(new)]).counts == made.counts).all()
    assert before.count == len(old)


@given(SAMPLES)
def test_what_is_encoded_is_decoded_and_small(samples: list[int]) -> None:
    made = histogram(samples)
    data = made.encoded
    assert (histogram_from_bytes(data).counts == made.counts).all()
    assert len(data) <= 10 + 6 * len(samples)


def test_an_empty_one_crosses_too_and_so_do_the_first_and_the_last_bucket() -> None:
    assert histogram_from_bytes(Histogram().encoded).count == 0
    assert histogram_from_bytes(histogram([0, 10**8]).encoded).counts[[0, LAST]].tolist() == [1, 1]


@pytest.mark.parametrize(
    "data",
    [
        b"", b"\xc1", b"\x93\x01\x90",
        msgspec.msgpack.encode((FORMAT + 1, [1], [1])),
        msgspec.msgpack.encode((FORMAT, [1, 2], [1])),
        msgspec.msgpack.encode((FORMAT, [LAST + 2], [1])),
        msgspec.msgpack.encode((FORMAT, [1, 0], [1, 1])),  # a bucket twice
        msgspec.msgpack.encode((FORMAT, [2**63], [1])),
        msgspec.msgpack.encode((FORMAT, [1], [0])),
        msgspec.msgpack.encode((FORMAT, [1], [-1])),
        msgspec.msgpack.encode((FORMAT, [1], [2**48 + 1])),
    ],
)  # fmt: skip
def test_bytes_that_are_no_histogram_are_refused(data: bytes) -> None:
    with pytest.raises(WireError, match="a histogram of"):
        histogram_from_bytes(data)


@given(st.binary(max_size=64))
def test_no_bytes_do_anything_but_be_read_or_refused(data: bytes) -> None:
    try:
        histogram_from_bytes(data)
    except WireError:
        return


def test_another_map_of_the_memory_sees_what_is_added() -> None:
    memory = bytearray(BYTES)
    writer, reader = Histogram(memoryview(memory)), Histogram(memoryview(memory))
    writer.add(0.0123)
    assert reader.count == 1
    np.testing.assert_allclose(reader.percentile(100), 0.0123, rtol=1e-3)
