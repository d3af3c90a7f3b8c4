"""A person's task: home slowly and behind the guard, time for the scene, and no word about worth."""

import numpy as np
import pytest

from hal.guard import GuardConfig
from hal.kits import check_task
from hal.make import CellConfig, make_cell
from hal.operated import Operated, OperatedConfig
from hal.robot import OnSilence, Robot, RobotSpec
from hal.testing import FakeRobot
from tests.hal.test_motion_kit import Rails
from user_rl.clock import FakeClock
from user_rl.errors import ConfigError, RobotFault
from user_rl.specs import box

HOME = OperatedConfig(home=(0.3, -0.2), speed=0.5)


def at_start(config: OperatedConfig, robot: Robot, clock: FakeClock, seed: int = 0) -> tuple[float, ...]:
    robot.open()
    Operated(config, robot, clock=clock).reset(seed)
    return tuple(robot.read().values[:2].tolist())


def test_a_robot_that_is_commanded_by_steps_comes_home_no_faster_than_it_may() -> None:
    clock = FakeClock(5.0)
    robot = FakeRobot(clock=clock)
    assert at_start(HOME, robot, clock) == pytest.approx((0.3, -0.2), abs=0.011)
    assert np.abs(robot.sent).max() == pytest.approx(0.05)
    assert clock.now_s() == pytest.approx(5.0 + 0.6 + 5.0, abs=0.11)


def test_a_robot_that_is_commanded_by_targets_comes_home_too() -> None:
    robot = Rails()
    assert at_start(HOME, robot, robot.clock) == pytest.approx((0.3, -0.2), abs=0.011)  # type: ignore[arg-type]


def test_starts_are_scattered_by_their_seed() -> None:
    config = OperatedConfig(home=(0.0, 0.0), spread=0.2, tolerance=0.001, speed=1.0)
    starts = []
    for seed in (1, 2, 1):
        clock = FakeClock()
        starts.append(at_start(config, FakeRobot(clock=clock), clock, seed))
    assert starts[0] == starts[2] != starts[1]
    assert np.abs(starts).max() <= 0.201


def test_it_keeps_the_contract_of_tasks() -> None:
    clock = FakeClock()
    robot = FakeRobot(clock=clock)
    config = OperatedConfig(home=(0.0, 0.0), spread=0.2, speed=1.0)
    check_task(lambda: (robot, Operated(config, robot, clock=clock)), exact=False)


def test_without_a_home_the_robot_stays_where_it_is() -> None:
    clock = FakeClock()
    robot = FakeRobot(clock=clock)
    assert at_start(OperatedConfig(wait_s=3.0), robot, clock) == (0.0, 0.0)
    assert not robot.sent
    assert clock.now_s() == 3.0


def test_it_goes_home_itself_at_once_and_not_to_a_scattered_start() -> None:
    clock = FakeClock()
    robot = FakeRobot(clock=clock)
    robot.open()
    task = Operated(OperatedConfig(home=(0.3, -0.2), spread=0.2, speed=0.5), robot, clock=clock)
    assert task.has_home
    task.go_home()
    assert robot.read().values[:2].tolist() == pytest.approx((0.3, -0.2), abs=0.011)
    assert clock.now_s() < 1.0  # nobody sets a scene
    homeless = Operated(OperatedConfig(), robot, clock=clock)
    assert not homeless.has_home
    homeless.go_home()
    assert robot.read().values[:2].tolist() == pytest.approx((0.3, -0.2), abs=0.011)


def test_a_robot_that_does_not_get_home_is_halted_and_says_which_axis_is_away() -> None:
    clock = FakeClock()
    robot = FakeRobot(clock=clock)
    robot.open()
    robot.command = lambda target: target  # type: ignore[method-assign]  # something holds it
    with pytest.raises(RobotFault, match=r"^fake is not home after 20 s: point\.delta\.x is 0\.3 away, allowed 0\.01;"):
        Operated(HOME, robot, clock=clock).reset(0)
    assert robot.halts == 1


def test_resets_go_through_the_guard() -> None:
    clock = FakeClock()
    config = CellConfig(
        robot={"name": "fake"}, task={"name": "operated", "home": [0.5, 0.0], "label": "go there"},
        guard=GuardConfig(limits={"point.x": [-0.2, 0.2]}),
    )  # fmt: skip
    cell = make_cell(config, name="a", clock=clock, seed=1)
    cell.open()
    assert cell.task.name == "go there"
    with pytest.raises(RobotFault, match=r"point\.delta\.x is 0\.3 away"):
        cell.task.reset(0)
    assert cell.robot.read().values[0] == pytest.approx(0.2)


def test_a_home_that_does_not_fit_is_refused() -> None:
    robot = FakeRobot(clock=FakeClock())
    with pytest.raises(
        ConfigError, match=r"task\.home = \[0\.1\], allowed 2 numbers \(point\.delta\.x, point\.delta\.y\)"
    ):
        Operated(OperatedConfig(home=(0.1,)), robot, clock=FakeClock())
    blind = RobotSpec(
        model="blind", state=box("observation.state", [("battery", "V", 0.0, 50.0)]), command=robot.spec.command,
        rate_hz=10.0, on_silence=OnSilence.STOPS,
    )  # fmt: skip
    robot._spec = blind
    with pytest.raises(ConfigError, match=r"task\.home with blind, which does not measure where point\.delta\.x moves"):
        Operated(OperatedConfig(home=(0.1, 0.1)), robot, clock=FakeClock())


@pytest.mark.parametrize("key", ["max_steps", "speed", "tolerance", "reset_s"])
def test_a_number_that_cannot_be_is_refused(key: str) -> None:
    with pytest.raises(ValueError, match=f"{key} = 0, allowed above 0"):
        OperatedConfig(**{key: 0})  # type: ignore[arg-type]
