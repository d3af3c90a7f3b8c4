"""The sum tree against plain sums."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cloud.store.priority import MOST, ONE, SumTree, room_for, tickets

SIZE = 64
changes = st.lists(st.dictionaries(st.integers(0, SIZE - 1), st.integers(0, MOST), max_size=SIZE), max_size=6)


def changed(steps: list[dict[int, int]]) -> tuple[SumTree, list[int]]:
    tree, plain = SumTree(SIZE), [0] * SIZE
    for step in steps:
        tree.set(np.array(list(step), np.int64), np.array(list(step.values()), np.int64))
        for leaf, value in step.items():
            plain[leaf] = value
    return tree, plain


@pytest.mark.slow
@given(changes)
def test_the_total_is_the_exact_sum_after_any_changes(steps: list[dict[int, int]]) -> None:
    tree, plain = changed(steps)
    assert tree.get(np.arange(SIZE)).tolist() == plain
    assert tree.total == sum(plain)
    assert tree.count == sum(value > 0 for value in plain)


@pytest.mark.slow
@given(changes, st.lists(st.floats(0, 1, exclude_max=True), max_size=20))
def test_a_ticket_is_found_on_its_leaf(steps: list[dict[int, int]], shares: list[float]) -> None:
    tree, plain = changed(steps)
    if not tree.total:
        return
    drawn = np.array([0, tree.total - 1, *(int(share * tree.total) for share in shares)])
    assert tree.find(drawn).tolist() == np.searchsorted(np.cumsum(plain), drawn, side="right").tolist()


@pytest.mark.slow
@given(changes, st.integers(1, 50))
def test_one_ticket_is_drawn_from_each_of_equal_parts(steps: list[dict[int, int]], count: int) -> None:
    tree, _ = changed(steps)
    if not tree.total:
        return
    drawn = tree.strata(np.random.default_rng(0), count)
    assert len(drawn) == count
    assert drawn.min() >= 0
    assert drawn.max() < tree.total
    if tree.total >= count:
        edges = [i * (tree.total // count) + i * (tree.total % count) // count for i in range(count + 1)]
        assert (np.searchsorted(edges, drawn, side="right") - 1).tolist() == [*range(count)]


def test_weights_become_whole_tickets_never_none_and_never_too_many() -> None:
    assert tickets(np.array([0.0, 1e-12, 1.0, 0.5, 1e300])).tolist() == [1, 1, ONE, ONE // 2, MOST]


def test_there_is_twice_the_room_in_powers_of_two() -> None:
    assert [room_for(n) for n in (0, 600, 1024, 5000)] == [1024, 2048, 4096, 16384]
