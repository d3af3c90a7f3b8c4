"""Fakes as products: a point in the plane with its camera, its task and its operator. They pass the kits like the rest.

They need no extra, so that daemons and learners can be tested anywhere: `robot=fake task=fake cameras=fake`.
`CoastingRobot` is the dangerous one: its motion lives in a file and goes on when the process dies, until somebody runs
its halt command, `python -m hal.testing halt FILE`.
"""

import json
import os
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np

from hal.camera import Frame
from hal.robot import OnSilence, Robot, RobotSpec, RobotState
from hal.task import Judgement
from hal.teleop import TeleopReading
from user_rl.clock import Clock, SystemClock
from user_rl.errors import HardwareError, RobotFault, RobotUnreachable
from user_rl.specs import Array, Box, Image, box

_STATE = box("observation.state", [("point.x", "m", -2.0, 2.0), ("point.y", "m", -2.0, 2.0)])
_COMMAND = box("action", [("point.delta.x", "m", -0.1, 0.1), ("point.delta.y", "m", -0.1, 0.1)])


@dataclass(frozen=True, kw_only=True)
class FakeRobotConfig:
    """How often the point is commanded."""

    rate_hz: float = 10.0


class FakeRobot:
    """See hal.robot.Robot. A point that does what it is told; tests may break it: `unreachable`, `fault`."""

    def __init__(self, config: FakeRobotConfig = FakeRobotConfig(), *, clock: Clock) -> None:
        self.clock = clock
        self.unreachable = False
        self.fault = ""
        self.sent: list[Array] = []
        self.halts = 0
        self._position = np.zeros(2)
        self._is_open = False
        self._spec = RobotSpec(
            model="fake", state=_STATE, command=_COMMAND, rate_hz=config.rate_hz, on_silence=OnSilence.STOPS
        )

    @property
    def spec(self) -> RobotSpec:
        return self._spec

    def open(self) -> None:
        if self.unreachable:
            raise RobotUnreachable("the fake robot does not answer; set unreachable = False")
        self._is_open = True

    def read(self) -> RobotState:
        self._check()
        return RobotState(stamp_s=self.clock.now_s(), values=_STATE.clip(self._position))

    def command(self, target: Array) -> Array:
        self._check()
        _COMMAND.check(target)
        self._position += target
        self.sent.append(target.copy())
        return target

    def place(self, position: Array) -> None:
        """Puts the point at `position` [2] m."""
        self._position = np.array(position)

    def halt(self) -> None:
        self.halts += 1

    def close(self) -> None:
        self._is_open = False

    def _check(self) -> None:
        if self.fault:
            raise RobotFault(self.fault)
        if self.unreachable or not self._is_open:
            raise RobotUnreachable("the fake robot is not open; call open() first")


class Placeable(Robot, Protocol):
    """A robot that a simulated task may put somewhere."""

    def place(self, position: Array) -> None: ...


@dataclass(frozen=True, kw_only=True)
class FakeTaskConfig:
    """How far starts are scattered, and how near to the origin counts as there."""

    max_steps: int = 50
    spread_m: float = 0.5
    near_m: float = 0.1


class FakeTask:
    """See hal.task.Task. Go to the origin; reward 1 on arrival."""

    def __init__(self, config: FakeTaskConfig, robot: Placeable) -> None:
        self.config, self.robot = config, robot

    @property
    def name(self) -> str:
        return "fake"

    @property
    def max_steps(self) -> int:
        return self.config.max_steps

    def reset(self, seed: int) -> None:
        spread_m = self.config.spread_m
        self.robot.place(np.random.default_rng(seed).uniform(-spread_m, spread_m, 2))

    def judge(self) -> Judgement:
        success = bool(np.linalg.norm(self.robot.read().values[:2]) < self.config.near_m)
        return Judgement(reward=float(success), done=success, success=success)


@dataclass(frozen=True, kw_only=True)
class FakeCameraConfig:
    """The pictures' size and rate, and a fault that somebody can plant: while the file `fails_while` is there."""

    height: int = 16
    width: int = 16
    rate_hz: float = 0.0  # a read waits for the next picture; 0: there is a new one whenever somebody asks
    fails_while: str = ""


class FakeCamera:
    """See hal.camera.Camera. A counting picture: every pixel of the n-th frame is n modulo 256; tests may break it."""

    def __init__(self, config: FakeCameraConfig = FakeCameraConfig(), *, name: str = "fake", clock: Clock) -> None:
        self.config, self.clock = config, clock
        self.frames = 0
        self.unreachable = False
        self._is_open = False
        self._spec = Image(name=f"observation.images.{name}", height=config.height, width=config.width)
        self._due_s = 0.0

    @property
    def spec(self) -> Image:
        return self._spec

    @property
    def blocks(self) -> bool:
        """See hal.background."""
        return self.config.rate_hz > 0

    def open(self) -> None:
        self._check_answer()
        self._is_open, self._due_s = True, self.clock.now_s()

    def read(self) -> Frame:
        if not self._is_open:
            raise HardwareError(f"{self._spec.name} is not open; call open() first")
        self._check_answer()
        self.frames += 1
        if self.blocks:
            self._due_s = max(self._due_s + 1 / self.config.rate_hz, self.clock.now_s())
            self.clock.sleep_until(self._due_s)
        return Frame(stamp_s=self.clock.now_s(), pixels=np.full(self._spec.shape, self.frames % 256, np.uint8))

    def close(self) -> None:
        self._is_open = False

    def _check_answer(self) -> None:
        planted = self.config.fails_while
        if self.unreachable or (planted and Path(planted).exists()):
            raise HardwareError(f"{self._spec.name} does not answer; set unreachable = False, remove {planted!r}")


@dataclass(frozen=True, kw_only=True)
class FakeTeleopConfig:
    """Takes over a policy's episode at one step, for some; None: never."""

    intervene_at_step: int | None = None
    intervene_steps: int = 3


class FakeTeleop:
    """See hal.teleop.Teleop. Drives the point straight to the origin; `says` adds events to the next readings."""

    def __init__(self, config: FakeTeleopConfig = FakeTeleopConfig(), *, robot: Robot, clock: Clock) -> None:
        self.config, self.robot, self.clock = config, robot, clock
        self.says: list[TeleopReading] = []  # returned, one by one, in place of what it would do
        self._is_open = self._demonstrates = False
        self._step = 0

    @property
    def action(self) -> Box:
        return self.robot.spec.command

    def open(self) -> None:
        self._is_open = True

    def begin(self, *, demonstrate: bool) -> None:
        self._demonstrates, self._step = demonstrate, 0

    def poll(self) -> TeleopReading:
        if not self._is_open:
            raise HardwareError("the fake teleop is not open; call open() first")
        step, self._step = self._step, self._step + 1
        if self.says:
            return self.says.pop(0)
        first = self.config.intervene_at_step
        intervenes = (
            not self._demonstrates and first is not None and first <= step < first + self.config.intervene_steps
        )
        action = self.action.clip(-self.robot.read().values[:2]) if self._demonstrates or intervenes else None
        return TeleopReading(stamp_s=self.clock.now_s(), action=action, is_intervention=intervenes)

    def close(self) -> None:
        self._is_open = False


@dataclass(frozen=True, kw_only=True)
class CoastingConfig:
    """Where the motion lives."""

    path: str
    rate_hz: float = 10.0
    declared: OnSilence = OnSilence.OUT_OF_BAND  # NONE: it does not say how to halt it


class CoastingRobot:
    """See hal.robot.Robot. A point that keeps the speed of its last command, whoever lives; only a halt stops it."""

    def __init__(self, config: CoastingConfig) -> None:
        self.path, self.rate_hz = Path(config.path), config.rate_hz
        self.clock = SystemClock()  # its motion is real
        self._is_open = False
        out_of_band = config.declared is OnSilence.OUT_OF_BAND
        self._spec = RobotSpec(
            model="coasting",
            state=_STATE,
            command=_COMMAND,
            rate_hz=config.rate_hz,
            on_silence=config.declared,
            halt_command=(sys.executable, "-m", "hal.testing", "halt", str(self.path)) if out_of_band else (),
        )

    @property
    def spec(self) -> RobotSpec:
        return self._spec

    def open(self) -> None:
        if not self.path.parent.is_dir():
            raise RobotUnreachable(f"no folder {self.path.parent} for the coasting robot; make it")
        if not self.path.exists():
            Motion(0.0, 0.0, 0.0, 0.0, self.clock.now_s()).save(self.path)
        self._is_open = True

    def read(self) -> RobotState:
        now_s = self.clock.now_s()
        motion = self._motion().at(now_s)
        return RobotState(stamp_s=now_s, values=_STATE.clip(np.array([motion.x, motion.y])))

    def command(self, target: Array) -> Array:
        motion = self._motion().at(self.clock.now_s())
        _COMMAND.check(target)
        dx, dy = (float(delta) * self.rate_hz for delta in target)
        Motion(motion.x, motion.y, dx, dy, motion.since_s).save(self.path)
        return target

    def place(self, position: Array) -> None:
        """Puts the point, at rest, at `position` [2] m."""
        Motion(float(position[0]), float(position[1]), 0.0, 0.0, self.clock.now_s()).save(self.path)

    def halt(self) -> None:
        halt_coasting(self.path)

    def close(self) -> None:
        self.halt()
        self._is_open = False

    def _motion(self) -> "Motion":
        if not self._is_open:
            raise RobotUnreachable("the coasting robot is not open; call open() first")
        return Motion.load(self.path)


@dataclass(frozen=True)
class Motion:
    """Where the point was at an instant of the machine's monotonic clock, and how fast."""

    x: float
    y: float
    speed_x: float
    speed_y: float
    since_s: float

    @property
    def moves(self) -> bool:
        return self.speed_x != 0 or self.speed_y != 0

    def at(self, now_s: float) -> "Motion":
        """The same motion, seen at `now_s`."""
        gone_s = now_s - self.since_s
        x, y = self.x + self.speed_x * gone_s, self.y + self.speed_y * gone_s
        return Motion(x, y, self.speed_x, self.speed_y, now_s)

    def save(self, path: Path) -> None:
        """Replaces the file whole."""
        draft = path.with_name(f"{path.name}.{os.getpid()}")
        draft.write_text(json.dumps([self.x, self.y, self.speed_x, self.speed_y, self.since_s]))
        draft.replace(path)

    @staticmethod
    def load(path: Path) -> "Motion":
        return Motion(*json.loads(path.read_text()))


def halt_coasting(path: Path) -> None:
    """Stops the point where it is; what the halt command runs."""
    if path.exists():
        now_s = SystemClock().now_s()
        here = Motion.load(path).at(now_s)
        Motion(here.x, here.y, 0.0, 0.0, now_s).save(path)


if __name__ == "__main__":
    if len(sys.argv) != 3 or sys.argv[1] != "halt":
        sys.exit("usage: python -m hal.testing halt FILE")
    halt_coasting(Path(sys.argv[2]))
