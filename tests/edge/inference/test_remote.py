"""The actor that plays chunks: what acts at each step, and what does when nothing has come."""

import re
from collections.abc import Iterator

import numpy as np
import pytest

from edge.acting import LocalActor
from edge.config import Pace
from edge.inference.config import Fallback, InferenceConfig, Where
from edge.inference.remote import RemoteActor, make_remote
from edge.inference.window import Placed, Posted, Window
from edge.shared import Shared, make_shared
from hal.cell import Observation
from tests.edge.rig import SCHEMA, ConstantPolicy, bench, make_config, version
from user_rl.clock import FakeClock
from user_rl.errors import ConfigError
from user_rl.rows import Kind

REMOTE = InferenceConfig(where=Where.REMOTE)
SEEN = Observation(values={"observation.state": np.zeros(2, np.float32)}, stamps_s={"observation.state": 0.0})


class SlowPolicy(ConstantPolicy):
    """Takes 20 ms of a clock that stands otherwise."""

    def __init__(self, clock: FakeClock, value: float) -> None:
        super().__init__([], value)
        self._clock = clock

    def act(self, observation, *, explore):  # type: ignore[no-untyped-def]  # noqa: ANN001, ANN201
        self._clock.advance(0.02)
        return super().act(observation, explore=explore)


class Bench:
    """An actor in an episode, and link's side of its window."""

    def __init__(self, shared: Shared, config: InferenceConfig = REMOTE) -> None:
        self.clock = FakeClock(100.0)
        self.link = Window(shared, SCHEMA)
        self.actor = RemoteActor(Window(Shared(shared.fd), SCHEMA), config, self.clock)
        local = LocalActor(SlowPolicy(self.clock, -0.5), version(1))
        assert self.actor.over(local) is self.actor
        self.actor.begin()

    def post(self, first: int, value: float, *, horizon: int = 4, number: int = 2, frozen: int = 0) -> None:
        actions = np.full((horizon, 2), value, "<f4").tobytes()
        digest = bytes([number]) * 16
        self.link.chunk.post(
            Posted(first=first, horizon=horizon, actions=actions, version=number, version_hash=digest, frozen=frozen)
        )  # fmt: skip

    def step(self) -> tuple[float, int] | None:
        """What acted, and by which version."""
        proposal = self.actor.propose(SEEN, explore=False)
        return None if proposal is None else (round(float(proposal.action[0]), 4), proposal.version)


@pytest.fixture
def shared() -> Iterator[Shared]:
    memory = make_shared(bytes(16))
    yield memory
    memory.close()


def test_the_policy_beside_the_robot_acts_until_a_chunk_comes_and_when_it_is_over(shared: Shared) -> None:
    bench = Bench(shared)
    assert bench.step() == (-0.5, 1)
    bench.post(0, 0.25)
    assert [bench.step() for _ in range(5)] == [(0.25, 2)] * 3 + [(-0.5, 1)] * 2
    assert (bench.actor.played, bench.actor.replaced) == (3, 3)
    bench.post(5, 0.75)
    assert bench.step() == (0.75, 2)


def test_with_hold_nothing_acts_where_nothing_has_come(shared: Shared) -> None:
    bench = Bench(shared, InferenceConfig(where=Where.REMOTE, fallback=Fallback.HOLD))
    assert bench.step() is None
    bench.post(0, 0.25, horizon=3)
    assert [bench.step() for _ in range(3)] == [(0.25, 2)] * 2 + [None]
    assert bench.actor.replaced == 0


def test_a_row_names_the_version_that_has_the_greater_weight(shared: Shared) -> None:
    bench = Bench(shared)
    bench.post(0, 0.0, horizon=8)
    assert bench.step() == (0.0, 2)
    bench.post(0, 9.0, horizon=8)  # an answer to the same observation changes nothing
    assert bench.step() == (0.0, 2)
    bench.post(1, 1.0, horizon=9, number=3)
    versions = [found[1] for found in (bench.step() for _ in range(8)) if found]
    assert versions == sorted(versions)
    assert versions[0] == 2
    assert versions[-1] == 3


def test_a_chunk_of_the_episode_before_is_not_played(shared: Shared) -> None:
    bench = Bench(shared)
    bench.step()
    bench.actor.begin()
    bench.post(0, 0.25)
    assert bench.step() == (-0.5, 1)
    bench.post(1, 0.25)
    assert bench.step() == (0.25, 2)
    bench.actor.begin()
    assert bench.step() == (-0.5, 1)


def test_what_is_planned_is_shown_with_what_is_seen(shared: Shared) -> None:
    bench = Bench(shared)
    bench.step()
    bench.post(0, 0.25)
    bench.step()
    glance = bench.link.look()
    assert glance is not None
    assert (glance.step, glance.first, glance.explore, glance.taken_s) == (1, 0, False, 100.02)
    assert glance.acted_s == pytest.approx(0.02)  # at the step before
    assert glance.plan.tolist() == [[0.25, 0.25]] * 3
    bench.step()
    assert (bench.link.look() or glance).acted_s == 0.0


def test_when_the_edge_is_chosen_its_policy_acts_whatever_has_come(shared: Shared) -> None:
    bench = Bench(shared, InferenceConfig(where=Where.AUTO))
    bench.post(0, 0.25)
    assert bench.step() == (0.25, 2)
    bench.link.placed.post(Placed(name="edge"))
    assert bench.step() == (-0.5, 1)
    assert bench.actor.replaced == 0
    assert bench.link.step == 2  # glances go on
    bench.link.placed.post(Placed(name="cloud"))
    assert bench.step() == (0.25, 2)


def test_without_a_policy_beside_the_robot_an_episode_waits_for_a_server(shared: Shared) -> None:
    bench = Bench(shared)
    assert bench.actor.over(None) is None
    bench.link.placed.post(Placed(name="edge"))
    assert bench.actor.over(None) is None
    bench.link.placed.post(Placed(name="cloud"))
    assert bench.actor.over(None) is bench.actor
    bench.actor.begin()
    assert bench.step() is None


def test_who_is_asked_for_is_made(shared: Shared) -> None:
    clock = FakeClock()
    assert make_remote(shared, SCHEMA, make_config(), clock) is None
    assert make_remote(shared, SCHEMA, make_config(inference=REMOTE), clock) is not None
    auto = InferenceConfig(where=Where.AUTO)
    assert make_remote(shared, SCHEMA, make_config(inference=auto, pace=Pace.FREE), clock) is None
    message = "inference.where = remote, allowed with pace = real: simulated time does not wait for a link"
    with pytest.raises(ConfigError, match=re.escape(message)):
        make_remote(shared, SCHEMA, make_config(inference=REMOTE, pace=Pace.FREE), clock)


def test_an_episode_begins_without_weights_beside_the_robot_once_a_server_was_chosen() -> None:
    with bench(max_steps=4) as made:
        window = Window(made.shared, SCHEMA)
        made.desk.far = RemoteActor(
            window, InferenceConfig(where=Where.REMOTE, fallback=Fallback.HOLD), made.clock
        )  # fmt: skip
        made.order(weights="", weights_number=0)

        def choose() -> None:
            window.placed.post(Placed(name="cloud"))

        def answer() -> None:
            window.chunk.post(posted(window.step - 1))

        made.clock.at(1.0, choose)
        made.clock.at(2.0, answer)
        made.stop_after(3.0)
        made.run()
        assert made.report().unserved > 0
        rows = made.rows()
        assert set(rows["version"].tolist()) == {7}
        assert rows["action"][0].tolist() == [0.5, 0.5]
        assert (rows["kind"] == Kind.STEP).sum() == 4


def posted(first: int) -> Posted:
    actions = np.full((10, 2), 0.5, "<f4").tobytes()
    return Posted(first=first, horizon=10, actions=actions, version=7, version_hash=bytes(16), frozen=0)
