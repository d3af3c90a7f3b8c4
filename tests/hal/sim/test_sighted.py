import numpy as np
import pytest

from hal.kits import check_robot
from hal.robot import RobotState
from hal.sim.sighted import Scenic, Sighted, joined
from hal.testing import FakeRobot, FakeRobotConfig
from user_rl.clock import FakeClock
from user_rl.specs import Array, box


class Marble:
    """A thing to be seen; see hal.sim.sighted.Scenic."""

    def __init__(self) -> None:
        self.scene = box("scene", [("marble.x", "m", -1.0, 1.0), ("marble.y", "m", -1.0, 1.0)])
        self.at_m, self.looks = np.array([0.25, -0.5]), 0

    def see(self) -> Array:
        self.looks += 1
        return self.at_m


def make() -> tuple[Sighted, Marble]:
    marble = Marble()
    return Sighted(FakeRobot(FakeRobotConfig(), clock=FakeClock(5.0)), marble), marble


def test_a_sighted_robot_keeps_the_contract() -> None:
    check_robot(lambda: make()[0])


def test_what_is_seen_stands_behind_what_is_measured() -> None:
    robot, marble = make()
    robot.open()
    inner = robot.robot.spec
    assert robot.spec.state.names == (*inner.state.names, "marble.x", "marble.y")
    assert robot.spec.state.units == (*inner.state.units, "m", "m")
    assert (robot.spec.command, robot.spec.model, robot.spec.rate_hz) == (inner.command, inner.model, inner.rate_hz)
    state = robot.read()
    np.testing.assert_array_equal(state.values[-2:], [0.25, -0.5])
    np.testing.assert_array_equal(state.values[:-2], robot.robot.read().values)
    assert state.values.dtype == np.float32
    assert isinstance(marble, Scenic)


def test_a_thing_that_leaves_its_range_saturates() -> None:
    robot, marble = make()
    robot.open()
    marble.at_m = np.array([3.0, -7.0])
    np.testing.assert_array_equal(robot.read().values[-2:], [1.0, -1.0])


class Statue(FakeRobot):
    """A robot that gives the same array until it is commanded, as a simulated arm does."""

    _kept: RobotState | None = None

    def read(self) -> RobotState:
        self._kept = self._kept or super().read()
        return self._kept

    def command(self, target: Array) -> Array:
        self._kept = None
        return super().command(target)


def test_the_scene_is_looked_at_once_for_each_reading() -> None:
    marble = Marble()
    robot = Sighted(Statue(FakeRobotConfig(), clock=FakeClock(5.0)), marble)
    robot.open()
    assert robot.read().values is robot.read().values
    assert marble.looks == 1
    marble.at_m = np.array([0.5, 0.5])
    robot.command(robot.spec.command.clip(np.zeros(robot.spec.command.shape)))
    np.testing.assert_array_equal(robot.read().values[-2:], [0.5, 0.5])
    assert marble.looks == 2


def test_boxes_are_joined_in_their_order() -> None:
    a, b = box("a", [("x", "m", -1, 1)]), box("b", [("y", "rad", 0, 2), ("z", "", -3, 3)])
    assert joined("c", a, b) == box("c", [("x", "m", -1, 1), ("y", "rad", 0, 2), ("z", "", -3, 3)])


@pytest.mark.parametrize("call", ["halt", "close"])
def test_halt_and_close_reach_the_robot(call: str) -> None:
    robot, _ = make()
    robot.open()
    calls: list[str] = []
    setattr(robot.robot, call, lambda: calls.append(call))
    getattr(robot, call)()
    assert calls == [call]
