"""Loading beside the loop: nothing waits for it, what is whole is handed over, and what does not fit is named once."""

import os
import threading
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
import pytest

from edge.acting import Proposal, Swapping
from edge.config import Pace, Swap
from edge.loading import Loader, at_once, beside, tried
from edge.orders import Orders
from hal.cell import Cell, Observation
from policies.policy import SingleStep
from tests.edge.plant import wait_for
from tests.edge.rig import COMMAND, Bench, ConstantPolicy, LoggedRobot, LoggedTask, bench, version
from user_rl.clock import FakeClock
from user_rl.errors import ConfigError, StorageCorrupt
from user_rl.specs import Array, Box

SEEN = Observation(values={}, stamps_s={})


def load_constant(folder: Path, *, seed: int) -> tuple[object, SingleStep]:
    if "bad" in str(folder):
        raise StorageCorrupt(f"{folder} cannot be read")
    return version(int(str(folder)[1:])), ConstantPolicy([], 0.1)


def loader(
    start: Callable[[Callable[[], None]], None] = at_once, load: Callable[..., object] = load_constant
) -> Loader:
    return Loader(load, lambda orders: 0, start=start)  # type: ignore[arg-type]


def acts(made: Loader) -> int:
    assert made.newest is not None
    return made.newest.version.number


def test_while_a_thread_loads_the_version_before_it_acts_and_nobody_waits() -> None:
    may_load = threading.Event()

    def load(folder: Path, *, seed: int) -> tuple[object, SingleStep]:
        assert may_load.wait(30.0)
        return load_constant(folder, seed=seed)

    made = loader(beside, load)
    made.want(Orders(weights="w1"))
    assert made.newest is None
    may_load.set()
    wait_for(lambda: made.newest is not None)
    may_load.clear()
    made.want(Orders(weights="w2"))
    made.want(Orders(weights="w3"))  # one at a time: it is asked for again at the next step
    assert acts(made) == 1
    may_load.set()
    wait_for(lambda: acts(made) == 2)
    wait_for(lambda: not made._busy)
    made.want(Orders(weights="w3"))
    wait_for(lambda: acts(made) == 3)


def test_what_is_loaded_is_not_loaded_again_and_what_cannot_be_is_tried_once(caplog: pytest.LogCaptureFixture) -> None:
    loads: list[str] = []

    def load(folder: Path, *, seed: int) -> tuple[object, SingleStep]:
        loads.append(str(folder))
        return load_constant(folder, seed=seed)

    made = loader(load=load)
    for folder in ("w1", "w1", "bad2", "bad2", "", "w3", "w3"):
        made.want(Orders(weights=folder))
    assert loads == ["w1", "bad2", "w3"]
    assert acts(made) == 3
    assert caplog.text.count("bad2 cannot be read; the robot goes on with the version before it") == 1


def test_a_version_that_cannot_be_loaded_leaves_the_one_before() -> None:
    made = loader()
    made.want(Orders(weights="w1"))
    made.want(Orders(weights="bad2"))
    assert acts(made) == 1


def test_what_was_being_loaded_when_it_was_to_be_forgotten_never_acts() -> None:
    works: list[Callable[[], None]] = []
    made = loader(works.append)
    made.want(Orders(weights="w1"))
    made.forget()
    works.pop()()
    assert made.newest is None
    made.want(Orders(weights="w1"))
    works.pop()()
    assert acts(made) == 1
    made.forget()
    assert made.newest is None


def test_the_exploration_of_a_version_is_seeded_by_the_orders_that_name_it() -> None:
    seeds: list[int] = []

    def load(folder: Path, *, seed: int) -> tuple[object, SingleStep]:
        seeds.append(seed)
        return load_constant(folder, seed=seed)

    made = Loader(load, lambda orders: orders.weights_number + 40, start=at_once)  # type: ignore[arg-type]
    made.want(Orders(weights="w2", weights_number=2))
    assert seeds == [42]


def test_the_thread_ranks_below_control_and_above_everybody_else() -> None:
    try:
        os.sched_setscheduler(0, os.SCHED_FIFO | os.SCHED_RESET_ON_FORK, os.sched_param(50))
    except PermissionError:
        pytest.skip("no FIFO scheduling for this user")
    ranks: list[tuple[int, int]] = []

    def look() -> None:
        ranks.append((os.sched_getscheduler(0), os.sched_getparam(0).sched_priority))

    try:
        beside(look)
        wait_for(lambda: bool(ranks))
    finally:
        os.sched_setscheduler(0, os.SCHED_OTHER, os.sched_param(0))
    assert ranks == [(os.SCHED_FIFO, 49)]
    ranks.clear()
    beside(look)
    wait_for(lambda: bool(ranks))
    assert ranks == [(os.SCHED_OTHER, 0)]


def cell() -> Cell:
    robot = LoggedRobot([], FakeClock())
    return Cell(name="arm", robot=robot, task=LoggedTask([], robot))


class Peculiar:
    """See policies.policy.SingleStep. Acts by `what` of the state."""

    action: Box = COMMAND

    def __init__(self, what: Callable[[Array], Array]) -> None:
        self._what = what

    def act(self, observation: Mapping[str, Array], *, explore: bool) -> Array:
        return self._what(observation["observation.state"])


@pytest.mark.parametrize(
    ("what", "why"),
    [
        (lambda state: state @ np.zeros((3, 2), np.float32), "mismatch"),  # made for another state
        (lambda state: np.full(2, 7.0, np.float32), r"command.tip.delta.x = 7 m"),  # another action box
        (lambda state: np.zeros(3, np.float32), r"float32\[3\]"),
        (lambda state: np.full(2, np.nan, np.float32), "nan"),
    ],
)
def test_a_policy_that_does_not_fit_the_cell_is_refused_before_it_acts(
    what: Callable[[Array], Array], why: str
) -> None:
    load = tried(cell(), lambda folder, *, seed: (version(4), Peculiar(what)))
    with pytest.raises(ConfigError, match=f"version 4 cannot act on arm: .*{why}.*; run both sides with one config"):
        load(Path("w4"), seed=0)


def test_a_policy_has_acted_once_without_exploration_before_it_is_handed_over() -> None:
    policy = ConstantPolicy([], 0.5)
    load = tried(cell(), lambda folder, *, seed: (version(4), policy))
    assert load(Path("w4"), seed=0) == (version(4), policy)
    assert policy.explored == [False]


def swaps(b: Bench) -> list[int]:
    """The versions of an episode of 4 steps within which version 2 comes after the first."""
    b.clock.at(0.05, lambda: b.order(weights="w2", weights_number=2))
    b.stop_after(0.4)
    b.run()
    versions: list[int] = b.rows()["version"].tolist()
    return versions


@pytest.mark.parametrize(
    ("swap", "versions"), [(Swap.STEP, [1, 2, 2, 2, 2]), (Swap.CHUNK, [1, 2, 2, 2, 2]), (Swap.EPISODE, [1] * 5)]
)
@pytest.mark.parametrize("pace", list(Pace))
def test_newer_weights_act_from_the_stated_boundary_on(swap: Swap, versions: list[int], pace: Pace) -> None:
    with bench(max_steps=4, swap=swap, pace=pace) as b:
        assert swaps(b) == versions


def test_a_version_is_loaded_while_the_episode_before_its_own_runs() -> None:
    with bench(max_steps=4) as b:
        loaded: list[int] = []
        b.clock.at(0.25, lambda: loaded.append(acts(b.desk._loader)))
        swaps(b)
    assert loaded == [2]


def test_simulated_time_loads_between_episodes_alone_unless_it_swaps_within() -> None:
    with bench(max_steps=4, pace=Pace.FREE) as b:
        loaded: list[int] = []
        b.clock.at(0.25, lambda: loaded.append(acts(b.desk._loader)))
        swaps(b)
    assert loaded == [1]


def test_the_first_version_is_never_loaded_within_an_episode() -> None:
    def script(n: int, demonstrate: bool) -> dict[str, object]:
        return {"action": np.full(2, 0.3, np.float32), "is_intervention": True}

    with bench(max_steps=4, script=script) as b:
        b.order(demonstrations=1)
        loaded: list[object] = []
        b.clock.at(0.25, lambda: loaded.append(b.desk._loader.newest))
        b.stop_after(0.4)
        b.run()
    assert loaded == [None]


class Chunk:
    """See edge.acting.Held."""

    def __init__(self, number: int) -> None:
        self._number, self.left, self.begun = number, 3, 0

    def begin(self) -> None:
        self.left, self.begun = 3, self.begun + 1

    def propose(self, seen: Observation, *, explore: bool) -> Proposal:
        self.left -= 1
        return Proposal(np.zeros(2, np.float32), self._number, bytes(16))


def test_a_chunk_that_has_begun_is_played_to_its_end_unless_every_step_is_a_boundary() -> None:
    for chunks, versions in ((True, [1, 1, 1, 2]), (False, [1, 2, 2, 2])):
        held = [Chunk(1)]
        actor = Swapping(lambda h=held: h[-1], chunks=chunks)  # type: ignore[misc]
        actor.begin()
        seen: list[int] = []
        for _ in range(4):
            made = actor.propose(SEEN, explore=False)
            assert made is not None
            seen.append(made.version)
            if len(held) == 1:
                held.append(Chunk(2))
        assert seen == versions
        assert held[1].begun == 1


def test_a_new_episode_begins_with_the_newest() -> None:
    held = [Chunk(1)]
    actor = Swapping(lambda: held[-1], chunks=True)
    actor.begin()
    held.append(Chunk(2))
    actor.begin()
    made = actor.propose(SEEN, explore=False)
    assert made is not None
    assert made.version == 2
