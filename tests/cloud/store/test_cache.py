"""The cache: the rows that are asked for, whatever it holds; and what it holds is what comes next."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cloud.store.cache import Cache
from cloud.store.index import HEAD, Index, Place
from cloud.store.records import Records
from cloud.store.slots import Slots
from cloud.testing import MemoryLog, episode_rows, state_schema
from user_rl.specs import Array

SCHEMA = state_schema()
ROWS = episode_rows(SCHEMA, np.random.default_rng(0), length=29)


def make(slots: int) -> Cache:
    log, index = MemoryLog(SCHEMA), Index()
    records = Records(log, index, SCHEMA)
    for start in (0, 10, 20):
        log.add("a/1/run", ROWS[start : start + 10])
    refs = log.refs(0, 9)
    head = np.zeros(30, HEAD)
    for name in HEAD.names or ():
        head[name] = ROWS[name]
    index.append([Place(ref.stream, ref.seq, ref.count) for ref in refs], head)
    records.add(refs)
    return Cache(records, slots)


def gather(cache: Cache, rows: list[int], *soon: list[int]) -> Array:
    out = SCHEMA.new(len(rows))
    cache.gather(np.array(rows, np.int64), out, known=30, soon=[np.array(each) for each in soon])
    return out


drawn = st.lists(st.integers(0, 29), min_size=1, max_size=12)


@pytest.mark.slow
@settings(deadline=None)
@given(st.integers(0, 12), st.lists(st.tuples(drawn, drawn, st.lists(st.integers(0, 29), max_size=3)), max_size=8))
def test_rows_are_those_asked_for_whatever_is_held(
    slots: int, batches: list[tuple[list[int], list[int], list[int]]]
) -> None:
    cache = make(slots)
    for rows, soon, gone in batches:
        np.testing.assert_array_equal(gather(cache, rows, soon), ROWS[rows])
        cache.evict(np.array(gone, np.int64))
    assert cache.hits + cache.misses == sum(len(rows) for rows, _, _ in batches)


def test_a_full_cache_stays_as_it_is_unless_a_row_is_needed_soon() -> None:
    cache = make(3)
    gather(cache, [0, 1, 2])
    gather(cache, [3, 4])
    gather(cache, [0, 1, 2])
    assert (cache.hits, cache.misses) == (3, 5)
    gather(cache, [5, 6], [5, 0])
    gather(cache, [5, 0])
    assert (cache.hits, cache.misses) == (5, 7)
    gather(cache, [6])
    assert cache.misses == 8


def test_a_row_that_stands_twice_is_held_once() -> None:
    cache = make(2)
    np.testing.assert_array_equal(gather(cache, [7, 7, 8, 7]), ROWS[[7, 7, 8, 7]])
    gather(cache, [7, 8])
    assert (cache.hits, cache.misses) == (2, 4)


def test_what_is_evicted_makes_room() -> None:
    cache = make(2)
    gather(cache, [0, 1])
    cache.evict(np.array([0, 0, 25]))
    gather(cache, [2])
    gather(cache, [1, 2])
    assert (cache.hits, cache.misses) == (2, 3)


@pytest.mark.slow
@settings(deadline=None)
@given(st.integers(0, 6), st.lists(st.tuples(st.sets(st.integers(0, 20), max_size=8), st.booleans()), max_size=20))
def test_no_slot_holds_two_rows_and_none_is_lost(count: int, steps: list[tuple[set[int], bool]]) -> None:
    slots = Slots(count)
    slots.know(21)
    for rows, evicts in steps:
        numbers = np.array(sorted(rows), np.int64)
        if evicts:
            slots.evict(numbers)
        else:
            new = numbers[slots.of(numbers) < 0]
            slots.admit(new, [numbers[:2]])
        held = slots.of(np.arange(21))
        held = held[held >= 0]
        assert len(set(held.tolist())) == len(held) <= count
    slots.evict(np.arange(21))
    chosen, places = slots.admit(np.arange(count), [])
    assert sorted(places.tolist()) == list(range(count))
    assert len(chosen) == count
