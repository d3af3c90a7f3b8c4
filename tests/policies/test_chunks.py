"""Chunks: no step without an action, none of the past, and no jump where one chunk takes over from another."""

import math
from collections.abc import Mapping

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edge.inference.config import InferenceConfig
from edge.inference.latency import Asking
from policies.chunks import Chunk, Player, old_weights
from policies.policy import SingleStep, Stepwise, as_chunks, as_single, chunk_of, gives_chunks
from tests.edge.rig import ConstantPolicy
from user_rl.specs import Array

SIZE = 2
NUMBERS = st.floats(-1, 1, width=32)


def chunk(first: int, actions: Array, version: int = 1) -> Chunk:
    return Chunk(first=first, actions=actions.astype(np.float32), version=version, version_hash=bytes([version]) * 16)


def steady(first: int, horizon: int, value: float, version: int = 1) -> Chunk:
    return chunk(first, np.full((horizon, SIZE), value), version)


def acted(player: Player, step: int) -> Array:
    found = player.at(step)
    assert found is not None
    return found[0]


def version_at(player: Player, step: int) -> tuple[int, bytes]:
    found = player.at(step)
    assert found is not None
    return found[1:]


@st.composite
def handovers(draw: st.DrawFn) -> tuple[Player, Chunk, Chunk, int, int]:
    """A player that runs an old chunk from step 0, a new one from step s, usable at `now`, and its frozen steps."""
    horizon = draw(st.integers(2, 16))
    actions = st.lists(st.tuples(NUMBERS, NUMBERS), min_size=horizon, max_size=horizon)
    s = draw(st.integers(1, horizon))
    now = s + draw(st.integers(0, horizon - 1))
    old, new = chunk(0, np.array(draw(actions)), 1), chunk(s, np.array(draw(actions)), 2)
    player = Player()
    assert player.add(old, now=0, frozen=0)
    return player, old, new, now, draw(st.integers(0, horizon))


def test_the_weights_are_the_published_ones() -> None:
    c = np.array([3 / 4, 2 / 4, 1 / 4])  # n = 5, d = 2: c_i = (5 - i) / (5 - 2 + 1)
    assert np.allclose(old_weights(2, 5), [1, 1, *(c * (np.exp(c) - 1) / (math.e - 1))])
    assert np.allclose(old_weights(0, 1), 0.5 * (math.exp(0.5) - 1) / (math.e - 1))
    assert old_weights(3, 3).tolist() == [1, 1, 1]
    assert old_weights(3, 0).tolist() == []


@settings(deadline=None)
@given(st.integers(0, 20), st.integers(0, 30))
def test_weights_are_one_while_frozen_and_then_fall_towards_zero(frozen: int, overlap: int) -> None:
    weights = old_weights(frozen, overlap)
    assert len(weights) == overlap
    assert (weights[:frozen] == 1).all()
    assert ((weights > 0) & (weights <= 1)).all()
    assert (np.diff(weights[max(0, frozen - 1) :]) < 0).all()
    if overlap > frozen:
        assert weights[-1] <= 0.5


@settings(deadline=None)
@given(handovers())
def test_the_plan_ends_exactly_on_the_new_chunk(case: tuple[Player, Chunk, Chunk, int, int]) -> None:
    player, old, new, now, frozen = case
    assert player.add(new, now=now, frozen=frozen)
    assert player.end == new.end
    for step in range(max(now, old.end), new.end):
        assert np.array_equal(acted(player, step), new.actions[step - new.first])
        assert version_at(player, step) == (2, bytes([2]) * 16)


@settings(deadline=None)
@given(handovers())
def test_what_was_frozen_runs_as_it_was_planned(case: tuple[Player, Chunk, Chunk, int, int]) -> None:
    player, old, new, now, frozen = case
    player.add(new, now=now, frozen=frozen)
    for step in range(now, min(new.first + frozen, old.end)):
        assert np.allclose(acted(player, step), old.actions[step], atol=1e-6)
        assert version_at(player, step)[0] == 1


@settings(deadline=None)
@given(handovers())
def test_the_seam_jumps_no_further_than_both_chunks_and_the_change_of_weight_allow(
    case: tuple[Player, Chunk, Chunk, int, int],
) -> None:
    player, old, new, now, frozen = case
    player.add(new, now=now, frozen=frozen)
    overlap = min(old.end, new.end) - new.first
    weights = old_weights(max(now - new.first, frozen), overlap)
    weight = {new.first + i: w for i, w in enumerate(weights)} | {now - 1: 1.0}
    for step in range(now, min(old.end, new.end) - 1):
        w, v = weight[step], weight[step + 1]
        i, j = step - new.first, step
        allowed = (
            v * abs(old.actions[j + 1] - old.actions[j]) + (1 - v) * abs(new.actions[i + 1] - new.actions[i])
            + (w - v) * abs(new.actions[i] - old.actions[j])
        )  # fmt: skip
        assert (abs(acted(player, step + 1) - acted(player, step)) <= allowed + 1e-5).all()
        assert w >= v


def test_the_first_blended_action_stays_close_to_the_old_plan() -> None:
    player = Player()
    player.add(steady(0, 20, 0.0), now=0, frozen=0)
    player.add(steady(2, 20, 1.0, 2), now=4, frozen=2)
    assert 0 < acted(player, 4)[0] < 0.15  # w at i = 2 with n = 18: c = 16/17
    assert [acted(player, s)[0] for s in range(4, 22)] == sorted(acted(player, s)[0] for s in range(4, 22))
    assert acted(player, 20)[0] == 1.0


def test_actions_of_the_past_are_never_used() -> None:
    player = Player()
    marked = chunk(10, np.arange(8 * SIZE).reshape(8, SIZE))
    assert player.add(marked, now=13, frozen=0)
    assert player.at(12) is None
    assert acted(player, 13).tolist() == marked.actions[3].tolist()
    assert player.remaining(13) == 5
    assert player.remaining(18) == 0


def test_a_chunk_that_is_all_past_or_of_the_future_changes_nothing() -> None:
    player = Player()
    player.add(steady(0, 10, 0.25), now=0, frozen=0)
    assert not player.add(steady(1, 4, 1.0), now=5, frozen=0)
    assert not player.add(steady(7, 4, 1.0), now=5, frozen=0)
    assert player.end == 10
    assert acted(player, 5).tolist() == [0.25, 0.25]


def test_an_answer_to_an_older_observation_does_not_replace_a_newer_one() -> None:
    player = Player()
    player.add(steady(4, 10, 0.5), now=5, frozen=0)
    assert not player.add(steady(3, 10, 1.0), now=6, frozen=0)
    assert not player.add(steady(4, 10, 1.0), now=6, frozen=0)
    assert acted(player, 9).tolist() == [0.5, 0.5]


def test_a_shorter_chunk_ends_the_plan_where_it_ends() -> None:
    player = Player()
    player.add(steady(0, 20, 0.0), now=0, frozen=0)
    assert player.add(steady(2, 5, 1.0, 2), now=3, frozen=0)
    assert player.end == 7
    assert player.at(7) is None


def test_a_new_episode_forgets_the_plan_and_may_begin_with_any_step() -> None:
    player = Player()
    player.add(steady(100, 10, 0.5), now=101, frozen=0)
    player.clear()
    assert player.at(101) is None
    assert player.add(steady(3, 10, 0.5), now=3, frozen=0)


def test_the_prefix_is_what_will_run_next() -> None:
    player = Player()
    marked = chunk(0, np.arange(6 * SIZE).reshape(6, SIZE))
    player.add(marked, now=0, frozen=0)
    assert player.prefix(2, 3).tolist() == marked.actions[2:5].tolist()
    assert player.prefix(4, 9).tolist() == marked.actions[4:].tolist()
    assert player.prefix(6, 9).tolist() == []


def test_a_policy_of_single_actions_is_repeated_and_a_policy_of_chunks_is_itself() -> None:
    single: SingleStep = ConstantPolicy([], 0.3)
    repeated = as_chunks(single, 4)
    actions = chunk_of(repeated, {"observation.state": np.zeros(2)}, explore=True)
    assert actions.shape == (4, 2)
    assert (actions == np.float32(0.3)).all()
    assert repeated.action is single.action
    assert (repeated.horizon, repeated.takes_prefix) == (4, False)
    assert not gives_chunks(single)
    assert gives_chunks(repeated)
    assert as_chunks(repeated, 9) is repeated


def test_each_row_of_a_batch_is_acted_for_by_itself() -> None:
    class Follows(ConstantPolicy):
        def act(self, observation: Mapping[str, Array], *, explore: bool) -> Array:
            return np.asarray(observation["observation.state"], np.float32)

    states = np.arange(6, dtype=np.float32).reshape(3, 2)
    actions = Stepwise(Follows([], 0.0), 2).act_chunks({"observation.state": states}, explore=False)
    assert actions.tolist() == np.repeat(states[:, None], 2, axis=1).tolist()


@pytest.mark.slow
@settings(deadline=None)
@given(st.data())
def test_no_step_is_without_action_while_latency_leaves_execute_steps_of_the_horizon(data: st.DataObject) -> None:
    horizon = data.draw(st.integers(3, 20))
    execute = data.draw(st.integers(-(-horizon // 3), horizon - 1))
    latency = data.draw(st.integers(1, horizon - execute))
    missing, most = simulated(horizon, execute, latency, steps=80)
    assert missing == list(range(latency))  # only before the first chunk can come
    assert most <= (2 if 2 * latency > horizon else 1)


def test_a_longer_latency_leaves_steps_without_action() -> None:
    missing, _ = simulated(horizon=10, execute=4, latency=8, steps=80)
    assert len(missing) > 8


def simulated(horizon: int, execute: int, latency: int, steps: int) -> tuple[list[int], int]:
    """Which steps had no action, and how many requests were under way at most; every answer takes `latency` steps."""
    asking, player = Asking(InferenceConfig(horizon=horizon, execute=execute)), Player()
    coming: dict[int, int] = {}  # usable at → asked for
    missing, most = [], 0
    for step in range(steps):
        if step in coming:
            asking.answered(coming[step])
            player.add(steady(coming[step], horizon, 0.5), now=step, frozen=0)
        if asking.due(step, player.remaining(step), latency):
            asking.asked(step, math.inf)
            coming[step + latency] = step
        most = max(most, asking.under_way)
        if player.at(step) is None:
            missing.append(step)
    return missing, most


def test_of_a_policy_of_chunks_the_first_action_may_act_alone() -> None:
    single: SingleStep = ConstantPolicy([], 0.3)
    assert as_single(single) is single
    first = as_single(Stepwise(single, 4))
    assert first.act({"observation.state": np.zeros(2)}, explore=False).tolist() == [np.float32(0.3)] * 2
    assert first.action is single.action
