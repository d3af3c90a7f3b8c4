import numpy as np
import pytest

from hal.camera import Frame
from hal.cell import Cell
from hal.testing import FakeCamera, FakeRobot, FakeTask, FakeTaskConfig, FakeTeleop
from user_rl.clock import FakeClock
from user_rl.errors import HardwareError, RobotUnreachable, SensorStale, SpecError
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
    assert cell.teleop is not None

    def refuse() -> None:
        raise HardwareError("no SpaceMouse; plug it in")

    cell.teleop.open = refuse  # type: ignore[method-assign]
    with pytest.raises(HardwareError, match="no SpaceMouse"):
        cell.open()
    with pytest.raises(RobotUnreachable):
        robot.read()
    with pytest.raises(HardwareError):
        camera.read()
    assert robot.halts == 1


def test_a_camera_that_refuses_is_broken_and_nothing_else_is() -> None:
    cell, robot, camera = make()
    camera.unreachable = True
    cell.open()
    assert list(cell.broken) == ["front"]
    robot.read()
    with pytest.raises(
        SensorStale, match=r"camera front of a gives no frames: observation\.images\.front does not answer"
    ):
        cell.observe()


def test_a_camera_that_breaks_is_closed_and_comes_back_when_it_is_mended() -> None:
    cell, _, camera = make()
    cell.open()
    camera.unreachable = True
    with pytest.raises(SensorStale):
        cell.observe()
    cell.mend()
    assert list(cell.broken) == ["front"]
    camera.unreachable = False
    with pytest.raises(SensorStale):  # nobody has opened it again
        cell.observe()
    cell.mend()
    assert cell.broken == {}
    assert "observation.images.front" in cell.observe().values


def test_mending_finds_a_camera_that_broke_while_nobody_looked() -> None:
    cell, _, camera = make()
    cell.open()
    camera.unreachable = True
    cell.mend()
    assert list(cell.broken) == ["front"]


def test_a_stale_frame_does_not_break_its_camera() -> None:
    cell, _, camera = make()
    cell.open()

    def stale() -> Frame:
        raise SensorStale("the newest frame is 3 s old")

    camera.read = stale  # type: ignore[method-assign]
    with pytest.raises(SensorStale, match="3 s old"):
        cell.observe()
    assert cell.broken == {}


def test_a_robot_that_cannot_be_halted_does_not_keep_the_others_open() -> None:
    cell, robot, camera = make()
    cell.open()

    def refuse() -> None:
        raise HardwareError("it may still move")

    robot.halt = refuse  # type: ignore[method-assign]
    with pytest.raises(HardwareError, match="it may still move"):
        cell.close()
    for read in (camera.read, robot.read):
        with pytest.raises(HardwareError):
            read()


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
