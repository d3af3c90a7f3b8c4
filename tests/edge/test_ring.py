"""The ring: what goes in comes out, once and in order, and nothing is overwritten, between processes too."""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edge.orders import Card
from edge.ring import Ring, bytes_needed, capacity_of
from edge.shared import make_shared
from user_rl.errors import StorageCorrupt
from user_rl.rows import Schema, make_schema
from user_rl.specs import box

SCHEMA = make_schema({"observation.state": box("state", [("x", "m", -1, 1)])}, box("action", [("dx", "m", -1, 1)]))
WRITER = """
import sys
from edge.shared import Shared
from tests.edge.test_ring import publish
shared = Shared(int(sys.argv[1]))
ring = shared.ring()
for step in range(int(sys.argv[2])):
    while ring.free() == 0:
        pass
    publish(ring, step)
"""


def make_ring(capacity: int, schema: Schema = SCHEMA) -> Ring:
    counters = memoryview(bytearray(128)).cast("Q")
    return Ring(counters, memoryview(bytearray(bytes_needed(schema.row_bytes, capacity))), schema, capacity)


def publish(ring: Ring, step: int, generation: int = 0) -> None:
    ring.rows["step"][ring.slot()] = step
    ring.publish(generation)


def card(schema: Schema = SCHEMA) -> Card:
    return Card(schema=schema.encoded, model="fake", rate_hz=10.0, on_silence="stops")


def test_an_empty_ring_has_nothing_to_read_and_no_last_row() -> None:
    ring = make_ring(4)
    assert ring.read(0, 10) is None
    assert ring.last() is None
    assert ring.free() == 4


def test_a_full_ring_says_so_until_the_consumer_releases() -> None:
    ring = make_ring(2)
    publish(ring, 0)
    publish(ring, 1)
    assert ring.free() == 0
    with pytest.raises(AssertionError, match="free"):
        publish(ring, 2)
    ring.release(1)
    assert ring.free() == 1


def test_nothing_can_be_released_that_was_not_published() -> None:
    with pytest.raises(AssertionError, match="releases what it has read"):
        make_ring(2).release(1)


def test_a_batch_holds_rows_of_one_generation_and_ends_at_the_wrap() -> None:
    ring = make_ring(4)
    for step, generation in enumerate((0, 0, 1)):
        publish(ring, step, generation)
    first = ring.read(0, 10)
    assert first is not None
    assert (first.generation, list(first.rows["step"]), first.end) == (0, [0, 1], 2)
    second = ring.read(2, 10)
    assert second is not None
    assert (second.generation, list(second.rows["step"]), second.end) == (1, [2], 3)
    ring.release(3)
    publish(ring, 3, 1)
    publish(ring, 4, 1)
    wrapped = ring.read(3, 10)
    assert wrapped is not None
    assert list(wrapped.rows["step"]) == [3]


def test_a_batch_is_no_larger_than_asked_and_is_a_copy() -> None:
    ring = make_ring(4)
    publish(ring, 0)
    publish(ring, 1)
    batch = ring.read(0, 1)
    assert batch is not None
    ring.rows["step"][0] = 99
    assert list(batch.rows["step"]) == [0]


def test_the_last_row_is_known_even_after_it_was_released() -> None:
    ring = make_ring(2)
    publish(ring, 7, 3)
    ring.release(1)
    last = ring.last()
    assert last is not None
    assert (last.generation, int(last.rows["step"][0]), last.end) == (3, 7, 1)


def test_a_row_whose_bytes_do_not_match_its_digest_is_never_handed_out() -> None:
    ring = make_ring(2)
    publish(ring, 1)
    ring.rows["step"][0] = 2
    with pytest.raises(StorageCorrupt, match="slot 0 does not match its digest; the memory is damaged, restart"):
        ring.read(0, 1)


def test_the_capacity_follows_the_bytes_but_is_never_under_256() -> None:
    assert capacity_of(2**20, 1008) == 1024
    assert capacity_of(2**20, 300_000) == 256


@pytest.mark.slow
@settings(max_examples=60, deadline=None)
@given(st.integers(1, 7), st.lists(st.tuples(st.sampled_from("pcr"), st.integers(1, 5)), max_size=60))
def test_any_interleaving_hands_out_each_row_once_and_in_order(capacity: int, moves: list[tuple[str, int]]) -> None:
    ring, step, position, seen = make_ring(capacity), 0, 0, list[int]()
    for move, count in moves:
        if move == "p":
            for _ in range(min(count, ring.free())):
                publish(ring, step)
                step += 1
        elif move == "c" and (batch := ring.read(position, count)):
            seen += [int(s) for s in batch.rows["step"]]
            position = batch.end
        elif move == "r":
            ring.release(position)
        assert 0 <= ring.free() <= capacity
        assert ring.tail <= position <= ring.head
    while batch := ring.read(position, 3):
        seen += [int(s) for s in batch.rows["step"]]
        position = batch.end
    assert seen == list(range(step))


@pytest.mark.slow
def test_two_processes_exchange_every_row_over_a_ring_that_wraps_often() -> None:
    count = 20_000
    shared = make_shared(os.urandom(16))
    ring = shared.make_ring(card(), 0)
    argv = [sys.executable, "-c", WRITER, str(shared.fd), str(count)]
    writer = subprocess.Popen(argv, pass_fds=(shared.fd,), cwd=Path(__file__).parents[2])
    steps: list[int] = []
    try:
        while len(steps) < count:
            batch = ring.read(len(steps), 100)
            if batch is not None:
                steps += batch.rows["step"].tolist()
                ring.release(batch.end)
            assert batch is not None or writer.poll() in (None, 0)
        assert writer.wait(30) == 0
    finally:
        writer.kill()
        writer.wait()
        os.close(shared.fd)
    assert np.array_equal(steps, np.arange(count))
    assert ring.capacity == 256
