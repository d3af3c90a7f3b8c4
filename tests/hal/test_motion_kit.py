"""The kit's part in motion: every honest robot passes, and each planted fault is noticed."""

import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from hal.axes import Way, axis_of, position_of, velocity_of
from hal.kits import Motion, check_robot
from hal.make import CellConfig, make_cell
from hal.robot import OnSilence, Robot, RobotSpec, RobotState
from hal.testing import CoastingConfig, CoastingRobot, FakeRobot
from user_rl.clock import Clock, FakeClock
from user_rl.errors import RobotUnreachable
from user_rl.specs import Array, box

TOP_SPEED = 0.5  # m/s
MOTION = Motion(commands=[np.array([x, -x], np.float32) for x in (0.05, 0.10, 0.15, 0.20, 0.25, 0.30)])


class Rails:
    """Two carriages on rails that run to their targets at a bounded speed, in the clock's time."""

    def __init__(self, clock: Clock | None = None) -> None:
        self.clock = clock or FakeClock(10.0)
        axes = ("left", "right")
        self.spec = RobotSpec(
            model="rails",
            state=box("observation.state", [
                *((f"{axis}.position", "m", -2.0, 2.0) for axis in axes),
                *((f"{axis}.velocity", "m/s", -200.0, 200.0) for axis in axes),
            ]),
            command=box("action", [(f"{axis}.target", "m", -1.0, 1.0) for axis in axes]),
            rate_hz=10.0, on_silence=OnSilence.STOPS,
        )  # fmt: skip
        self._start, self._goal, self._start_s, self._is_open = np.full(2, 0.01), np.full(2, 0.01), 0.0, False

    def open(self) -> None:
        self._is_open = True

    def read(self) -> RobotState:
        self._check()
        position, velocity = self.now()
        return RobotState(stamp_s=self.clock.now_s(), values=np.append(position, velocity).astype(np.float32))

    def command(self, target: Array) -> Array:
        self._check()
        self.spec.command.check(target)
        self._go(target)
        return target

    def halt(self) -> None:
        self._go(self.now()[0])

    def close(self) -> None:
        self.halt()
        self._is_open = False

    def now(self) -> tuple[Array, Array]:
        """Where both are, and how fast."""
        way = self._goal - self._start
        done_s = self.clock.now_s() - self._start_s
        gone = np.clip(way, -TOP_SPEED * done_s, TOP_SPEED * done_s)
        moving = (np.abs(way) > TOP_SPEED * done_s + 1e-9) | (done_s <= 0.101)
        return self._start + gone, np.where(moving, np.clip(way * 10, -TOP_SPEED, TOP_SPEED), 0.0)

    def _go(self, goal: Array) -> None:
        self._start, self._goal, self._start_s = self.now()[0], np.array(goal, np.float64), self.clock.now_s()

    def _check(self) -> None:
        if not self._is_open:
            raise RobotUnreachable("the rails are not open; call open() first")


class FillsWithZeros(Rails):
    def now(self) -> tuple[Array, Array]:
        return super().now()[0], np.zeros(2)


class PositionsForVelocities(Rails):
    def read(self) -> RobotState:
        state = super().read()
        return RobotState(stamp_s=state.stamp_s, values=np.tile(state.values[:2], 2))


class DegreesForRadians(Rails):
    def read(self) -> RobotState:
        state = super().read()
        values = state.values * np.array([1, 1, 57.3, 57.3], np.float32)
        return RobotState(stamp_s=state.stamp_s, values=values)


class AgainstItsSpeed(Rails):
    def read(self) -> RobotState:
        state = super().read()
        return RobotState(stamp_s=state.stamp_s, values=state.values * np.array([1, 1, -1, -1], np.float32))


class HaltsNot(Rails):
    """It goes on to its last target."""

    def command(self, target: Array) -> Array:
        super().command(target)
        self._go(np.sign(target))
        return target

    def halt(self) -> None:
        pass


class StaysWhereItIs(Rails):
    def command(self, target: Array) -> Array:
        self._check()
        self.spec.command.check(target)
        return target

    def read(self) -> RobotState:
        state = super().read()
        return RobotState(stamp_s=state.stamp_s, values=state.values + np.float32(1e-6))


class MeasuresSomethingElse(Rails):
    def __init__(self) -> None:
        super().__init__()
        state = box("observation.state", [(f"battery{i}", "V", -300.0, 300.0) for i in range(4)])
        self.spec = RobotSpec(
            model="rails", state=state, command=self.spec.command, rate_hz=10.0, on_silence=OnSilence.STOPS
        )  # fmt: skip


class WaitsForTheNextSample(Rails):
    def read(self) -> RobotState:
        time.sleep(0.15)
        return super().read()


BROKEN: dict[str, tuple[Callable[[], Robot], str]] = {
    "zeros": (
        FillsWithZeros,
        "left.velocity is exactly zero in each of 7 readings, at rest and in motion: what is not",
    ),
    "positions": (PositionsForVelocities, "the velocity of left is its position in each reading"),
    "degrees": (DegreesForRadians, "it is of another unit, sign or axis"),
    "sign": (AgainstItsSpeed, "left went 0.29, its measured velocity adds up to -0."),
    "halt": (HaltsNot, "left still moves after halt: "),
    "still": (StaysWhereItIs, "no axis of ['left', 'right'] moved by 0.001 while commands were carried out"),
    "else": (MeasuresSomethingElse, "nothing that a command moves is measured"),
}


@pytest.mark.parametrize("name", BROKEN)
def test_the_kit_notices_a_fault_that_only_motion_shows(name: str) -> None:
    make, sentence = BROKEN[name]
    robot = make()
    with pytest.raises(AssertionError) as caught:
        check_robot(lambda: robot, motion=MOTION, clock=robot.clock)  # type: ignore[attr-defined]
    assert sentence in str(caught.value)


@pytest.mark.parametrize("name", [name for name in BROKEN if name not in ("else",)])
def test_at_rest_none_of_these_faults_shows(name: str) -> None:
    robot = BROKEN[name][0]()
    check_robot(lambda: robot)


@pytest.mark.slow
def test_the_kit_notices_a_read_that_blocks() -> None:
    with pytest.raises(AssertionError, match=r"^every read after open blocks for 0\.15 s or more, allowed 0\.1 s$"):
        check_robot(WaitsForTheNextSample)


def test_honest_rails_keep_the_contract_in_motion() -> None:
    robot = Rails()
    check_robot(lambda: robot, motion=MOTION, clock=robot.clock)


def test_what_is_constant_by_nature_is_named() -> None:
    robot = FillsWithZeros()
    motion = Motion(commands=MOTION.commands, constant=("*.velocity",))
    check_robot(lambda: robot, motion=motion, clock=robot.clock)


def test_the_fake_robot_keeps_the_contract_in_motion() -> None:
    clock = FakeClock()
    check_robot(lambda: FakeRobot(clock=clock), motion=Motion(commands=[np.full(2, 0.05, np.float32)] * 5), clock=clock)


@pytest.mark.slow
def test_the_coasting_robot_keeps_the_contract_in_motion(tmp_path: Path) -> None:
    commands = [np.full(2, 0.01, np.float32)] * 5
    check_robot(
        lambda: CoastingRobot(CoastingConfig(path=str(tmp_path / "m"))), motion=Motion(commands=commands)
    )  # fmt: skip


@pytest.mark.slow
@pytest.mark.parametrize("arm", ["panda_sim", "arm6_sim"])
def test_simulated_arms_keep_the_contract_in_motion_by_the_tip_and_by_the_joints(arm: str) -> None:
    clock = FakeClock(5.0)
    config = CellConfig(robot={"name": arm}, task={"name": "peg_insertion"})
    robot = make_cell(config, name="a", clock=clock, seed=1).robot
    step = np.array([0.008, -0.006, 0.005, 0.05], np.float32)
    check_robot(lambda: robot, motion=Motion(commands=[step] * 6), clock=clock)
    joints = robot.robot.robot  # type: ignore[attr-defined]  # guard, tip, joints
    home = np.array(joints.arm.home, np.float32)
    commands = [(home + 0.02 * i).astype(np.float32) for i in range(1, 8)]
    check_robot(lambda: joints, harmless=home, motion=Motion(commands=commands), clock=clock)


@pytest.mark.parametrize(
    ("element", "axis", "way", "position", "velocity"),
    [
        ("joint1.target", "joint1", Way.TARGET, 0, 1),
        ("joint1.delta", "joint1", Way.DELTA, 0, 1),
        ("tip.delta.x", "tip.x", Way.DELTA, 2, 3),
        ("left.joint2.target", "left.joint2", Way.TARGET, None, None),
        ("elbow_flex.pos", "elbow_flex", Way.TARGET, 4, None),
        ("action.0", "action.0", None, None, None),
    ],
)
def test_the_names_say_which_axis_moves_and_what_measures_it(
    element: str, axis: str, way: Way | None, position: int | None, velocity: int | None
) -> None:
    names = ("joint1.position", "joint1.velocity", "tip.x", "tip.velocity.x", "elbow_flex.pos")
    state = box("observation.state", [(name, "", -1.0, 1.0) for name in names])
    assert axis_of(element) == (axis, way)
    assert (position_of(axis, state), velocity_of(axis, state)) == (position, velocity)
