"""A point and a camera that are well, or broken in one way each; and the doctor's child that knows them by name."""

import math
import os
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from edge.doctor import examination
from hal.camera import Frame
from hal.driver import Parts
from hal.robot import OnSilence, RobotSpec, RobotState
from hal.tables.cameras import CAMERAS
from hal.tables.robots import ROBOTS
from hal.tables.tasks import TASKS
from hal.testing import CoastingConfig, CoastingRobot, FakeTask, FakeTaskConfig
from user_rl.clock import Clock
from user_rl.errors import HardwareError, RobotUnreachable, SensorStale
from user_rl.specs import Array, Image, box

PLACES = [("point.x", "m", -2.0, 2.0), ("point.y", "m", -2.0, 2.0)]
SPEEDS = [("point.velocity.x", "m/s", -5.0, 5.0), ("point.velocity.y", "m/s", -5.0, 5.0)]
COMMANDS = {
    "delta": [("point.delta.x", "m", -0.1, 0.1), ("point.delta.y", "m", -0.1, 0.1)],
    "target": [("point.target.x", "m", -1.0, 1.0), ("point.target.y", "m", -1.0, 1.0)],
    "effort": [("point.effort.x", "N", 0.5, 1.0), ("point.effort.y", "N", 0.5, 1.0)],
}


@dataclass(frozen=True, kw_only=True)
class PointConfig:
    """`flaw`: what is wrong with it, by name; empty: nothing."""

    flaw: str = ""
    command: str = "delta"
    on_silence: OnSilence = OnSilence.STOPS
    halt_command: tuple[str, ...] = ()


class Point:
    """See hal.robot.Robot. Goes at once where it is told; what it says of that is flawed."""

    def __init__(self, config: PointConfig, clock: Clock) -> None:
        self.flaw, self.clock = config.flaw, clock
        state = PLACES if self.flaw == "no velocity" else PLACES + SPEEDS
        self.is_target = config.command == "target"
        self._place, self._before = np.array([0.5, 0.5]), np.array([0.5, 0.5])
        self._is_open, self.reads, self.halts, self.sent = False, 0, 0, 0
        self._spec = RobotSpec(
            model="point", state=box("observation.state", state), command=box("action", COMMANDS[config.command]),
            rate_hz=10.0, on_silence=config.on_silence, halt_command=config.halt_command,
        )  # fmt: skip

    @property
    def spec(self) -> RobotSpec:
        return self._spec

    def open(self) -> None:
        if self.flaw == "off":
            raise RobotUnreachable("no answer from 10.0.0.2; look at power and cable")
        if self.flaw == "hangs at open":
            threading.Event().wait()
        self._is_open = True

    def read(self) -> RobotState:
        if not self._is_open:
            raise RobotUnreachable("the point is not open; call open() first")
        self.reads += 1
        now_s = self.clock.now_s()
        if self.flaw == "read waits":
            self.clock.sleep_until(now_s + 0.08)
        if self.flaw == "jitter" and self.reads % 10 == 5:
            self.clock.sleep_until(now_s + 0.2)
        if self.flaw == "crashes" and self.reads > 3:
            os.abort()
        return RobotState(stamp_s=self._stamp_s(), values=self._values())

    def command(self, target: Array) -> Array:
        self._spec.command.check(target)
        self.sent += 1
        if self.flaw == "command waits":
            self.clock.sleep_until(self.clock.now_s() + 0.15)
        self._before = self._place
        goes = {"stands": 0.0, "does not come back": float((target < 0).any())}.get(self.flaw, 1.0)
        self._place = self._place + goes * ((target - self._place) if self.is_target else target)
        return target

    def place(self, position: Array) -> None:
        self._place = self._before = np.array(position)

    def halt(self) -> None:
        self.halts += 1

    def close(self) -> None:
        self.halt()
        if self.flaw == "hangs at close" and self._is_open:
            threading.Event().wait()
        self._is_open = False

    def emergency_stop_pressed(self) -> bool:
        return self.flaw == "stopped"

    def _stamp_s(self) -> float:
        now_s = self.clock.now_s()
        return {
            "frozen": 0.0, "future": now_s + 3.0, "epoch": now_s - 1e9, "late": now_s - 0.5,
            "back": now_s - 0.15 * (self.reads % 2), "half the rate": math.floor(now_s * 5) / 5,
        }.get(self.flaw, now_s)  # fmt: skip

    def _values(self) -> Array:
        speed = 10 * (self._place - self._before)
        if self.flaw == "zeros for velocity":
            speed = np.zeros(2)
        if self.flaw == "places for velocity":
            speed = self._place
        place = np.array([9.0, np.nan]) if self.flaw == "wild values" else self._place
        both = place if self.flaw == "no velocity" else np.concatenate([place, speed])
        return both.astype(np.float32)


@dataclass(frozen=True, kw_only=True)
class EyeConfig:
    """A camera of 30 Hz with one flaw, or none."""

    flaw: str = ""
    rate_hz: float = 30.0


class Eye:
    """See hal.camera.Camera. Its frames come by the clock, whoever reads."""

    def __init__(self, config: EyeConfig, name: str, clock: Clock) -> None:
        self.config, self.flaw, self.rate_hz, self.clock = config, config.flaw, config.rate_hz, clock
        self._spec = Image(name=f"observation.images.{name}", height=8, width=8)
        self._is_open = False

    @property
    def spec(self) -> Image:
        return self._spec

    def open(self) -> None:
        if self.flaw == "unplugged":
            raise HardwareError("no camera 042; look at its cable")
        self._is_open = True

    def read(self) -> Frame:
        if not self._is_open:
            raise HardwareError("the eye is not open; call open() first")
        now_s = self.clock.now_s()
        number = math.floor(now_s * {"slow": 5.0}.get(self.flaw, self.rate_hz))
        if self.flaw == "waits":
            self.clock.sleep_until(now_s + 0.05)
        if self.flaw == "hangs":
            threading.Event().wait()
        if self.flaw == "drops":
            number -= number % 10 in (3, 6, 9)
        if self.flaw == "stale" and now_s % 1.0 > 0.5:
            raise SensorStale("the newest frame is old")
        stamp_s = {"frozen": 0.0, "jitter": number / self.rate_hz + 0.016 * (number % 7 == 0)}.get(
            self.flaw, number / {"slow": 5.0}.get(self.flaw, self.rate_hz)
        )
        level = {"stuck": 1}.get(self.flaw, number % 250)
        pixels = np.full((4 if self.flaw == "small" else 8, 8, 3), level, np.uint8)
        if self.flaw != "covered":
            pixels[0, 0] = 255
        return Frame(stamp_s=stamp_s, pixels=pixels)

    def close(self) -> None:
        self._is_open = False


class HangingCoaster(CoastingRobot):
    """Moves on whatever happens to its process, which hangs when it is read the third time."""

    reads = 0

    def read(self) -> RobotState:
        self.reads += 1
        if self.reads == 3:
            self.command(np.array([0.1, 0.0], np.float32))
            threading.Event().wait()
        return super().read()


def register() -> None:
    """Makes them choices of a configuration, in this process."""
    ROBOTS["point"] = (PointConfig, lambda config, parts: Point(config, parts.clock))
    ROBOTS["hanging_coaster"] = (CoastingConfig, lambda config, parts: HangingCoaster(config))
    CAMERAS["eye"] = (EyeConfig, lambda config, parts: Eye(config, parts.name, parts.clock))
    TASKS["still"] = (FakeTaskConfig, _still)


def _still(config: FakeTaskConfig, parts: Parts) -> FakeTask:
    return FakeTask(config, parts.robot)


def examine(argument: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """What the doctor's child runs in these tests."""
    register()
    return examination.examine(argument)


def tree_of(flaw: str = "", *, cameras: dict[str, str] | None = None, **robot: Any) -> dict[str, Any]:  # noqa: ANN401
    """A cell's configuration."""
    eyes = {name: {"name": "eye", "flaw": eye} for name, eye in (cameras or {}).items()}
    return {"robot": {"name": "point", "flaw": flaw, **robot}, "task": {"name": "still"}, "cameras": eyes}


def coaster_at(path: Path) -> dict[str, Any]:
    """A cell whose robot must be halted out of band."""
    return {"robot": {"name": "hanging_coaster", "path": str(path)}, "task": {"name": "still"}}
