"""Who acts: a row names the weights that its own proposal came from, and a step without a proposal moves nothing."""

from collections.abc import Callable, Mapping
from dataclasses import replace

import numpy as np
import pytest

from edge.acting import ChunkActor, LocalActor, Proposal, actor_of
from edge.config import Pace
from edge.loop import run_episode
from edge.orders import State
from hal.cell import Observation
from tests.edge.rig import Bench, ConstantPolicy, bench, version
from user_rl.rows import Kind, Source
from user_rl.specs import Array


class ScriptedActor:
    """See edge.acting.Actor. Proposes what `says` returns for the n-th question of an episode."""

    def __init__(self, says: Callable[[int], Proposal | None]) -> None:
        self._says, self.asked, self.begun = says, 0, 0
        self.explored: list[bool] = []

    def begin(self) -> None:
        self.begun, self.asked = self.begun + 1, 0

    def propose(self, seen: Observation, *, explore: bool) -> Proposal | None:
        self.asked += 1
        self.explored.append(explore)
        return self._says(self.asked - 1)


def proposal(number: int) -> Proposal:
    return Proposal(np.full(2, number / 10, np.float32), number, bytes([number] * 16))


def play(b: Bench, actor: ScriptedActor) -> None:
    """One episode of the bench's next plan, under `actor`."""
    plan = b.desk.next_plan()
    assert plan is not None
    run_episode(b.cell, replace(plan, actor=actor), b.desk, b.recorder, b.pacer)


def test_each_row_names_the_version_of_its_own_proposal_and_the_closing_row_the_last_one() -> None:
    with bench(max_steps=3) as b:
        play(b, actor := ScriptedActor(lambda n: proposal(n + 4)))
        rows = b.rows()
    assert rows["version"].tolist() == [4, 5, 6, 6]
    assert [bytes(hashed)[0] for hashed in rows["version_hash"]] == [4, 5, 6, 6]
    np.testing.assert_allclose(rows["action.proposed"][:, 0], [0.4, 0.5, 0.6, 0.0], atol=1e-6)
    assert actor.begun == 1
    assert actor.explored == [True] * 3


def test_an_evaluation_asks_without_exploration() -> None:
    with bench(max_steps=1) as b:
        b.order(evaluate=True)
        play(b, actor := ScriptedActor(lambda n: proposal(1)))
    assert actor.explored == [False]


@pytest.mark.parametrize(("pace", "held"), [(Pace.REAL, 3), (Pace.FREE, 0)])
def test_periods_without_a_proposal_move_nothing_record_nothing_and_are_counted(pace: Pace, held: int) -> None:
    with bench(pace=pace, max_steps=3) as b:
        play(b, ScriptedActor(lambda n: None if n in (1, 2, 4) else proposal(1)))
        b.desk.tell(State.STOPPED)
        rows, report = b.rows(), b.report()
    assert report.unserved == 3
    assert b.calls.count("command") == 3 + held  # a real robot is told to stay where it is
    assert b.calls.count("halt") == 0
    np.testing.assert_allclose(b.robot.position, 0.3, atol=1e-6)
    assert rows["kind"].tolist() == [Kind.STEP] * 3 + [Kind.LAST]
    assert rows["step"].tolist() == [0, 1, 2, 3]
    assert rows["stamp.action"][:3].tolist() == pytest.approx([1000.0, 1000.3, 1000.5])


def test_an_operator_acts_where_nothing_is_proposed_and_the_row_names_no_version() -> None:
    def script(n: int, demonstrate: bool) -> dict[str, object]:
        return {"action": np.full(2, -0.5, np.float32), "is_intervention": True} if n == 1 else {}

    with bench(max_steps=3, script=script) as b:
        play(b, ScriptedActor(lambda n: None if n == 1 else proposal(7)))
        rows, report = b.rows(), b.report()
    assert rows["version"].tolist() == [7, 0, 7, 7]
    assert not rows["version_hash"][1].any()
    assert rows["source"][:3].tolist() == [Source.POLICY, Source.TELEOP, Source.POLICY]
    assert rows["action.proposed"][1].tolist() == [0, 0]
    assert report.unserved == 0


def test_an_operator_who_has_not_begun_is_no_missing_proposal() -> None:
    def script(n: int, demonstrate: bool) -> dict[str, object]:
        return {} if n < 3 else {"action": np.full(2, 0.3, np.float32), "is_intervention": True}

    with bench(max_steps=1, script=script) as b:
        b.order(demonstrations=1)
        b.stop_after(0.4)
        b.run()
        assert b.report().unserved == 0
        assert b.calls.count("halt") == 1  # the last one, on the way out


def test_the_version_that_acts_is_what_the_edge_reports() -> None:
    with bench(max_steps=5) as b:
        b.clock.at(0.41, lambda: said.append(b.report().version))
        said: list[int] = []
        play(b, ScriptedActor(lambda n: proposal(n + 4)))
    assert said == [6]  # reported at 0.3 s, before the step of version 7


def test_a_local_actor_proposes_what_its_policy_does_under_its_versions_number() -> None:
    policy = ConstantPolicy([], 0.2)
    actor = LocalActor(policy, version(3))
    actor.begin()
    made = actor.propose(Observation(values={}, stamps_s={}), explore=True)
    assert (made.version, made.version_hash) == (3, version(3).digest16)
    assert made.action.tolist() == pytest.approx([0.2, 0.2])
    assert policy.explored == [True]


class Counts(ConstantPolicy):
    """See policies.policy.Policy: chunks of three whose actions count on over the calls."""

    horizon, takes_prefix, calls_made = 3, False, 0

    def act_chunks(self, observations: Mapping[str, Array], *, explore: bool, prefix: Array | None = None,
                   effort: float = 1.0) -> Array:  # fmt: skip
        self.calls_made += 1
        steps = np.arange(3, dtype=np.float32) + 3 * (self.calls_made - 1)
        return np.repeat(steps[None, :, None], 2, axis=2) / 100


def test_a_chunk_beside_the_robot_runs_to_its_end_before_the_next_is_made_and_ends_with_its_episode() -> None:
    seen = Observation(values={"observation.state": np.zeros(2, np.float32)}, stamps_s={})
    actor = actor_of(Counts([], 0.0), version(3))
    assert isinstance(actor, ChunkActor)
    actor.begin()
    acted = [round(100 * float(actor.propose(seen, explore=False).action[0])) for _ in range(4)]
    assert (acted, actor.left) == ([0, 1, 2, 3], 2)
    assert actor.propose(seen, explore=False).version == 3
    actor.begin()
    assert round(100 * float(actor.propose(seen, explore=False).action[0])) == 6
    assert isinstance(actor_of(ConstantPolicy([], 0.0), version(3)), LocalActor)
