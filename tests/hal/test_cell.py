import numpy as np
import pytest

from hal.cell import Cell
from hal.testing import FakeCamera, FakeRobot, FakeTask, FakeTaskConfig, FakeTeleop
from user_rl.clock import FakeClock
from user_rl.errors import HardwareError, RobotUnreachable, SpecError
from user_rl.specs import Array


def make() -> tuple[Cell, FakeRobot, FakeCamera]:
    clock = FakeClock(11.0)
    robot, camera = FakeRobot(clock=clock), FakeCamera(name="front", clock=clock)
    task, teleop = FakeTask(FakeTaskConfig(), robot), FakeTeleop(robot=robot, clock=clock)
    return Cell(name="a", robot=robot, task=task, cameras={"front": camera}, teleop=teleop), robot, camera


def test_an_observation_holds_state_and_pictures_with_their_stamps() -> None:
    cell, _, _ = make()
    cell.open()
    seen = cell.observe()
    assert set(seen.values) == set(seen.stamps_s) == {"observation.state", "observation.images.front"}
    assert set(cell.observation) == set(seen.values)
    for name, spec in cell.observation.items():
        spec.check(seen.values[name])
    assert set(seen.stamps_s.values()) == {11.0}


def test_the_action_is_the_robots_command() -> None:
    cell, robot, _ = make()
    assert cell.action is robot.spec.command


def test_a_state_that_breaks_its_spec_stops_at_the_cell() -> None:
    cell, robot, _ = make()
    cell.open()

    class Wild(FakeRobot):
        def read(self):  # type: ignore[no-untyped-def]  # noqa: ANN202
            state = robot.read()
            state.values[:] = np.nan
            return state

    cell.robot = Wild(clock=robot.clock)
    with pytest.raises(SpecError, match=r"observation.state.point.x = nan m, allowed \[-2, 2\]"):
        cell.observe()


def test_a_picture_of_another_size_stops_at_the_cell() -> None:
    cell, _, camera = make()
    cell.open()
    pixels: Array = np.zeros((4, 4, 3), np.uint8)
    frame = camera.read()
    camera.read = lambda: type(frame)(stamp_s=0.0, pixels=pixels)  # type: ignore[method-assign]
    with pytest.raises(SpecError, match=r"observation.images.front is uint8\[4, 4, 3\]"):
        cell.observe()


def test_a_part_that_refuses_closes_what_was_opened() -> None:
    cell, robot, camera = make()
    camera.unreachable = True
    with pytest.raises(HardwareError, match="does not answer"):
        cell.open()
    with pytest.raises(RobotUnreachable):
        robot.read()
    assert robot.halts == 1


def test_closing_halts_first_and_may_be_repeated() -> None:
    cell, robot, camera = make()
    cell.open()
    cell.close()
    cell.close()
    assert robot.halts == 2
    with pytest.raises(HardwareError):
        camera.read()
    assert cell.teleop is not None
    with pytest.raises(HardwareError):
        cell.teleop.poll()
