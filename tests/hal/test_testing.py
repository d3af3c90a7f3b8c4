import subprocess
from pathlib import Path

import numpy as np
import pytest

from hal.robot import OnSilence
from hal.teleop import TeleopReading
from hal.testing import (
    CoastingConfig,
    CoastingRobot,
    FakeCamera,
    FakeRobot,
    FakeTask,
    FakeTaskConfig,
    FakeTeleop,
    FakeTeleopConfig,
    Motion,
    halt_coasting,
)
from user_rl.clock import FakeClock, SystemClock
from user_rl.errors import HardwareError, RobotFault, RobotUnreachable
from user_rl.specs import Array


def step(*values: float) -> Array:
    return np.array(values, np.float32)


def fake() -> FakeRobot:
    robot = FakeRobot(clock=FakeClock(5.0))
    robot.open()
    return robot


def test_the_point_goes_where_it_is_told() -> None:
    robot = fake()
    robot.place(np.array([0.2, 0.0]))
    robot.command(step(0.1, -0.1))
    np.testing.assert_allclose(robot.read().values, [0.3, -0.1], atol=1e-6)
    assert robot.read().stamp_s == 5.0


def test_the_point_can_be_broken_on_purpose() -> None:
    robot = fake()
    robot.fault = "jammed"
    with pytest.raises(RobotFault, match="jammed"):
        robot.command(step(0, 0))
    robot.fault, robot.unreachable = "", True
    with pytest.raises(RobotUnreachable):
        robot.read()
    with pytest.raises(RobotUnreachable, match="does not answer"):
        robot.open()


def test_arriving_at_the_origin_is_success() -> None:
    robot = fake()
    task = FakeTask(FakeTaskConfig(near_m=0.1), robot)
    robot.place(np.array([0.11, 0.0]))
    assert not task.judge().done
    robot.place(np.array([0.09, 0.0]))
    judgement = task.judge()
    assert (judgement.reward, judgement.done, judgement.success) == (1.0, True, True)


def test_the_operator_of_the_point_succeeds_from_everywhere() -> None:
    robot = fake()
    task, teleop = FakeTask(FakeTaskConfig(), robot), FakeTeleop(robot=robot, clock=robot.clock)
    teleop.open()
    for seed in range(20):
        task.reset(seed)
        teleop.begin(demonstrate=True)
        for _ in range(task.max_steps):
            reading = teleop.poll()
            assert reading.action is not None
            assert not reading.is_intervention
            robot.command(reading.action)
            if task.judge().done:
                break
        assert task.judge().success


def test_the_operator_of_the_point_takes_over_for_the_steps_it_was_told() -> None:
    teleop = FakeTeleop(FakeTeleopConfig(intervene_at_step=2, intervene_steps=2), robot=fake(), clock=FakeClock())
    teleop.open()
    for _ in range(2):  # in every episode anew
        teleop.begin(demonstrate=False)
        readings = [teleop.poll() for _ in range(5)]
        assert [r.is_intervention for r in readings] == [False, False, True, True, False]
        assert [r.action is not None for r in readings] == [False, False, True, True, False]


def test_the_operator_of_the_point_says_what_a_test_wants() -> None:
    teleop = FakeTeleop(robot=fake(), clock=FakeClock())
    teleop.open()
    teleop.begin(demonstrate=False)
    teleop.says = [TeleopReading(stamp_s=0.0, action=None, rerecord_episode=True)]
    assert teleop.poll().rerecord_episode
    assert not teleop.poll().rerecord_episode


def test_the_fake_camera_counts() -> None:
    camera = FakeCamera(clock=FakeClock())
    camera.open()
    assert [int(camera.read().pixels.max()) for _ in range(3)] == [1, 2, 3]
    camera.unreachable = True
    with pytest.raises(HardwareError):
        camera.read()
    with pytest.raises(HardwareError, match="does not answer"):
        camera.open()


def coasting(path: Path) -> CoastingRobot:
    robot = CoastingRobot(CoastingConfig(path=str(path)))
    robot.open()
    return robot


def test_motion_is_seen_at_any_instant() -> None:
    motion = Motion(1.0, 2.0, 0.5, -0.5, 10.0).at(12.0)
    assert (motion.x, motion.y, motion.since_s) == (2.0, 1.0, 12.0)
    assert motion.moves
    assert not Motion(1.0, 2.0, 0.0, 0.0, 10.0).moves
    assert Motion(0.0, 0.0, 0.0, 0.1, 0.0).moves


def test_the_coasting_robot_goes_on_after_its_process_let_go_of_it(tmp_path: Path) -> None:
    robot = coasting(tmp_path / "motion")
    robot.command(step(0.1, 0.0))  # per period of 0.1 s
    del robot
    motion = Motion.load(tmp_path / "motion")
    assert motion.moves
    assert motion.speed_x == pytest.approx(1.0)
    assert coasting(tmp_path / "motion").read().values[0] > 0


def test_the_coasting_robot_stops_when_it_is_halted_or_closed(tmp_path: Path) -> None:
    robot = coasting(tmp_path / "motion")
    for stop in (robot.halt, robot.close):
        robot.command(step(0.1, 0.0))
        stop()
        assert not Motion.load(tmp_path / "motion").moves


def test_a_halt_leaves_the_point_where_it_had_got_to(tmp_path: Path) -> None:
    now_s = SystemClock().now_s()
    Motion(0.0, 0.0, 1.0, 0.0, now_s - 1.0).save(tmp_path / "motion")
    halt_coasting(tmp_path / "motion")
    assert Motion.load(tmp_path / "motion").x >= 1.0


def test_halting_where_there_is_no_robot_does_nothing(tmp_path: Path) -> None:
    halt_coasting(tmp_path / "motion")
    assert not (tmp_path / "motion").exists()


def test_a_coasting_robot_without_a_folder_is_unreachable(tmp_path: Path) -> None:
    with pytest.raises(RobotUnreachable, match="make it"):
        coasting(tmp_path / "nowhere" / "motion")


@pytest.mark.slow
def test_another_process_halts_the_coasting_robot_by_its_halt_command(tmp_path: Path) -> None:
    robot = coasting(tmp_path / "motion")
    assert robot.spec.on_silence is OnSilence.OUT_OF_BAND
    robot.command(step(0.1, 0.1))
    subprocess.run(robot.spec.halt_command, check=True, timeout=60)
    assert not Motion.load(tmp_path / "motion").moves


@pytest.mark.slow
def test_the_halt_command_says_how_it_is_used() -> None:
    run = subprocess.run(
        [*CoastingRobot(CoastingConfig(path="x")).spec.halt_command[:3], "stop"],
        capture_output=True, text=True, check=False, timeout=60,
    )  # fmt: skip
    assert run.returncode == 1
    assert run.stderr.strip() == "usage: python -m hal.testing halt FILE"


def test_a_coasting_robot_may_declare_that_nothing_stops_it() -> None:
    robot = CoastingRobot(CoastingConfig(path="x", declared=OnSilence.NONE))
    assert robot.spec.on_silence is OnSilence.NONE
    assert robot.spec.halt_command == ()
