import numpy as np
import pytest

from edge.doctor.motion import first_axis, hold, move
from hal.axes import Way
from tests.edge.doctor.broken import Point, PointConfig
from user_rl.clock import FakeClock
from user_rl.specs import Array


def point(command: str, flaw: str = "") -> Point:
    robot = Point(PointConfig(command=command, flaw=flaw), FakeClock())
    robot.open()
    return robot


def state(*values: float) -> Array:
    return np.array([*values, 0.0, 0.0], np.float32)


def test_a_step_of_zero_or_the_place_where_it_is_changes_nothing() -> None:
    assert hold(point("delta").spec, state(0.7, -0.7)) == pytest.approx([0.0, 0.0])
    assert hold(point("target").spec, state(0.7, -0.7)) == pytest.approx([0.7, -0.7])


def test_a_robot_beyond_what_it_may_be_told_cannot_be_held() -> None:
    assert hold(point("target").spec, state(1.5, 0.0)) is None


def test_a_command_that_does_not_say_what_it_is_cannot_be_held() -> None:
    assert hold(point("effort").spec, state(0.0, 0.0)) is None


def test_the_axis_to_move_is_told_and_measured() -> None:
    axis = first_axis(point("target").spec)
    assert axis is not None
    assert (axis.name, axis.way, axis.element, axis.place, axis.speed) == ("point.x", Way.TARGET, 0, 0, 2)
    bare = first_axis(point("delta", "no velocity").spec)
    assert bare is not None
    assert bare.speed is None
    assert first_axis(point("effort").spec) is None


@pytest.mark.parametrize("command", ["delta", "target"])
def test_a_robot_is_back_where_it_was_and_halted_after_it_was_moved(command: str) -> None:
    robot = point(command)
    axis = first_axis(robot.spec)
    assert axis is not None
    robot.place(np.array([-0.5, 0.25]))
    answer = move(robot, robot.clock, axis)
    assert answer.asked > 0  # towards the middle
    assert answer.furthest == pytest.approx(answer.asked, abs=1e-6)
    assert answer.left < 1e-6
    assert robot.read().values[:2] == pytest.approx([-0.5, 0.25], abs=1e-6)
    assert robot.halts == 1


def test_a_robot_that_does_not_answer_is_asked_for_more_and_for_no_more_than_that() -> None:
    robot = point("target", "stands")
    axis = first_axis(robot.spec)
    assert axis is not None
    answer = move(robot, robot.clock, axis)
    assert answer.after_s is None
    assert abs(answer.asked) == pytest.approx(0.008 * 2.0)
    assert robot.halts == 1
