"""Mixtures: exact counts, in order; a part that has nothing leaves its share to the others."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cloud.store.kits import CAPACITY_ROWS, example_chunks, generator, index_of
from cloud.store.sampler import Drawn, Learning, Moment
from cloud.store.samplers import as_configured, make_sampler
from cloud.store.samplers.mixture import counts
from user_rl.config import Tree
from user_rl.errors import ConfigError, SpecError
from user_rl.rows import Klass

INDEX = index_of(example_chunks(seed=1))
PRIORITISED: Tree = {"name": "prioritised", "of": "demonstrations"}


def moment(number: int = 0, end: int = 800) -> Moment:
    return Moment(index=INDEX, end=end, number=number, capacity_rows=CAPACITY_ROWS)


def mixture(*parts: tuple[float, Tree]) -> Tree:
    return {"name": "mixture", "parts": [{"share": share, "sampler": tree} for share, tree in parts]}


def draw(tree: Tree, count: int) -> Drawn:
    return make_sampler(tree, 2).draw(moment(), generator(0), count)


@pytest.mark.parametrize(
    ("shares", "size", "wanted"),
    [
        ([0.5, 0.5], 256, [128, 128]),
        ([0.5, 0.5], 5, [3, 2]),
        ([0.29, 0.71], 100, [29, 71]),
        ([1 / 3, 1 / 3, 1 / 3], 256, [86, 85, 85]),
        ([0.1, 0.25, 0.65], 10, [1, 3, 6]),
        ([0.2, 0.3], 10, [4, 6]),
        ([0.0, 0.0], 3, [2, 1]),
        ([0.0, 1.0], 3, [0, 3]),
    ],
)
def test_counts_are_the_shares_with_the_largest_remainders_rounded_up(
    shares: list[float], size: int, wanted: list[int]
) -> None:
    assert counts(tuple(shares), size) == tuple(wanted)


@pytest.mark.slow
@given(st.lists(st.floats(0, 1), min_size=1, max_size=6), st.integers(0, 500))
def test_counts_sum_up_and_are_within_one_of_the_share(shares: list[float], size: int) -> None:
    found = counts(tuple(shares), size)
    assert sum(found) == size
    whole = sum(shares)
    assert all(abs(n - s / whole * size) < 1 for n, s in zip(found, shares, strict=True) if whole > 1e-6)


def test_parts_stand_in_their_order() -> None:
    tree = mixture((0.25, {"name": "uniform", "of": "demonstrations"}), (0.75, {"name": "uniform"}))
    klass = INDEX.klass.array[draw(tree, 64).rows]
    assert klass.tolist() == [Klass.DEMONSTRATION] * 16 + [Klass.ONLINE] * 48


def test_a_part_that_has_nothing_leaves_its_share_to_the_others() -> None:
    tree = mixture(
        (0.5, {"name": "robot", "cell": "none"}), (0.125, {"name": "uniform", "of": "demonstrations"}),
        (0.375, {"name": "uniform"}),
    )  # fmt: skip
    klass = INDEX.klass.array[draw(tree, 64).rows]
    assert klass.tolist() == [Klass.DEMONSTRATION] * 16 + [Klass.ONLINE] * 48


def test_what_an_algorithm_asks_for_is_a_mixture_of_what_was_shown_and_online_rows() -> None:
    rows = draw(as_configured(0.5), 64).rows
    view = moment().demonstrations
    online, hand = INDEX.klass.array[rows] == Klass.ONLINE, INDEX.intervened.array[rows]
    assert (hand[:32] | view.has_succeeded(rows[:32])).all()
    assert (hand | ~online)[:32].all()
    assert online[32:].all()
    assert not online[:32].all()
    assert hand[:32].any()
    alone = draw(as_configured(1.0, interventions=False), 64).rows
    assert (INDEX.klass.array[alone] == Klass.DEMONSTRATION).all()


def test_without_demonstrations_all_rows_are_online_whatever_the_share() -> None:
    index = index_of([chunk for chunk in example_chunks(seed=1) if chunk[0].stream == "cell1/00/run"])
    at = Moment(index=index, end=200, number=0)
    for share in (0.0, 0.5, 1.0):
        sampler = make_sampler(as_configured(share, interventions=False), 1)
        assert len(sampler.draw(at, generator(0), 8).rows) == 8


def test_priorities_go_to_the_part_whose_rows_they_are() -> None:
    tree = mixture((0.5, {"name": "uniform"}), (0.5, PRIORITISED))
    whole, alone = make_sampler(tree, 1), make_sampler(PRIORITISED, 1)
    assert isinstance(whole, Learning)
    assert isinstance(alone, Learning)
    drawn = whole.draw(moment(), generator(0), 32)
    rng = generator(0)
    make_sampler({"name": "uniform"}, 1).draw(moment(), rng, 16)
    assert alone.draw(moment(), rng, 16).rows.tolist() == drawn.rows[16:].tolist()
    priorities = np.arange(32.0)
    whole.update(0, drawn.rows, priorities)
    alone.update(0, drawn.rows[16:], priorities[16:])
    states = whole.state_dict(1), alone.state_dict(1)
    assert states[0].keys() == {f"1.{name}" for name in states[1]}
    assert all(np.array_equal(states[0][f"1.{name}"], value) for name, value in states[1].items())


def test_a_foreign_state_is_refused() -> None:
    sampler = make_sampler(mixture((1.0, PRIORITISED)), 1)
    assert isinstance(sampler, Learning)
    with pytest.raises(SpecError, match=r"a sampler's state of \[\], allowed .*; resume as configured then"):
        sampler.load_state_dict({})


def test_a_condition_on_a_column_needs_columns() -> None:
    with pytest.raises(ConfigError, match=r"replay.sampler asks for column x@y-1, and this run has none; take it out"):
        make_sampler({"name": "ready", "column": "x@y-1"}, 1).can_draw(moment())
