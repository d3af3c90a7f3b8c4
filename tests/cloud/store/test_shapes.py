"""Shapes on one small history, by hand. Random histories are in samplers/test_rows.py."""

import numpy as np
import pytest

from cloud.store.index import HEAD
from cloud.store.shapes import make_shape, walk
from cloud.store.view import View, view
from tests.cloud.store.rows import History
from user_rl.errors import SpecError
from user_rl.rows import Kind, Klass
from user_rl.specs import Array


def five_steps(*, done: int | None = None, hand: tuple[int, ...] = (), end: int = 6) -> View:
    """Rows 0 to 4 are steps with rewards 1, 2, 4, 8, 16; row 5 is the last observation."""
    head = np.zeros(6, HEAD)
    head["step"], head["kind"][-1] = np.arange(6), Kind.LAST
    head["next.reward"] = 2.0 ** np.arange(6)
    head["next.truncated"][4] = True
    head["is_intervention"][list(hand)] = True
    if done is not None:
        head["next.done"][done] = True
    return view(History([("cell/00/run", head)]).index(), Klass.ONLINE, end)


ROWS: Array = np.arange(5)


def test_n_steps_sum_discounted_rewards_and_bootstrap_at_a_time_limit() -> None:
    found = make_shape({"name": "n_step", "length": 3, "gamma": 0.5})(five_steps(), ROWS, None)
    assert found.reward.tolist() == [3, 6, 12, 16, 16]
    assert found.after.tolist() == [3, 4, 5, 5, 5]
    assert found.discount.tolist() == [0.125, 0.125, 0.125, 0.25, 0.5]
    assert found.truncated.tolist() == [False, False, True, True, True]
    assert not found.done.any()


def test_nothing_follows_a_termination_even_if_rows_do() -> None:
    found = make_shape({"name": "n_step", "length": 3, "gamma": 0.5})(five_steps(done=1), ROWS, None)
    assert found.length.tolist() == [2, 1, 3, 2, 1]
    assert found.after.tolist() == [2, 2, 5, 5, 5]
    assert found.discount.tolist() == [0, 0, 0.125, 0.25, 0.5]
    assert found.done.tolist() == [True, True, False, False, False]


def test_a_terminated_step_is_not_truncated_too() -> None:
    found = make_shape({"name": "transition"})(five_steps(done=4), ROWS, None)
    assert not found.truncated.any()
    assert found.done.tolist() == [False] * 4 + [True]


def test_a_chunk_repeats_its_last_step_where_the_episode_has_ended() -> None:
    found = make_shape({"name": "chunk", "length": 4})(five_steps(), ROWS[3:], None)
    assert found.acted.tolist() == [[3, 4, 4, 4], [4, 4, 4, 4]]
    assert found.mask.tolist() == [[True, True, False, False], [True, False, False, False]]
    assert found.observed.tolist() == [3, 4]


def test_a_hand_that_comes_or_goes_cuts_if_asked() -> None:
    seen = five_steps(hand=(2, 3))
    assert walk(seen, ROWS, 5).mask.sum(axis=1).tolist() == [5, 4, 3, 2, 1]
    cut = walk(seen, ROWS, 5, cut_at_takeover=True)
    assert cut.mask.sum(axis=1).tolist() == [2, 1, 2, 1, 1]
    assert cut.after.tolist() == [2, 2, 4, 4, 5]


def test_the_horizon_cuts_and_the_last_observation_there_bootstraps() -> None:
    found = make_shape({"name": "n_step", "length": 3, "gamma": 0.5})(five_steps(end=4), ROWS[:3], None)
    assert found.after.tolist() == [3, 3, 3]
    assert found.discount.tolist() == [0.125, 0.25, 0.5]
    assert not found.truncated.any()


def test_a_late_reward_replaces_the_rows_own() -> None:
    late = np.full(6, 0.25, np.float32)
    found = make_shape({"name": "sequence", "length": 2, "gamma": 0.5})(five_steps(), ROWS[3:], lambda rows: late[rows])
    assert found.reward.tolist() == [[0.25, 0.25], [0.25, 0.0]]
    assert found.reward.dtype == found.discount.dtype == np.float32


def test_a_row_that_is_no_transition_is_refused() -> None:
    with pytest.raises(SpecError, match="1 of 2 rows are no transition; draw others"):
        walk(five_steps(), np.array([4, 5]), 2)
