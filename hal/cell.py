"""Cell: a robot with its cameras, its operator and its task, as one thing that is leased and driven.

The control loop knows only this class. Observations are named as LeRobot names them.
"""

from contextlib import ExitStack
from dataclasses import dataclass, field

import msgspec

from hal.camera import Camera
from hal.robot import Robot
from hal.task import Task
from hal.teleop import Teleop
from user_rl.specs import Array, Box, Spec


class Observation(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """What the cell saw at one step: arrays by name, and when each was measured."""

    values: dict[str, Array]  # observation.state [S] float32, observation.images.<camera> [H, W, 3] uint8
    stamps_s: dict[str, float]  # by the same names


@dataclass(kw_only=True)
class Cell:
    """The parts of a cell, opened and closed together."""

    name: str
    robot: Robot
    task: Task
    cameras: dict[str, Camera] = field(default_factory=dict)
    teleop: Teleop | None = None

    @property
    def action(self) -> Box:
        """What a policy or an operator puts out: the robot's command."""
        return self.robot.spec.command

    @property
    def observation(self) -> dict[str, Spec]:
        """The specs of `observe().values`, by the same names."""
        specs: dict[str, Spec] = {"observation.state": self.robot.spec.state}
        return specs | {f"observation.images.{name}": camera.spec for name, camera in self.cameras.items()}

    def open(self) -> None:
        """Opens every part; closes what was opened if one of them refuses."""
        with ExitStack() as undo:
            undo.callback(self.close)
            for part in self._parts():
                part.open()
            undo.pop_all()

    def observe(self) -> Observation:
        """Reads the robot and every camera and checks each value against its spec."""
        state = self.robot.read()
        self.robot.spec.state.check(state.values)
        values, stamps_s = {"observation.state": state.values}, {"observation.state": state.stamp_s}
        for name, camera in self.cameras.items():
            frame = camera.read()
            camera.spec.check(frame.pixels)
            values[f"observation.images.{name}"] = frame.pixels
            stamps_s[f"observation.images.{name}"] = frame.stamp_s
        return Observation(values=values, stamps_s=stamps_s)

    def close(self) -> None:
        """Halts the robot, then closes every part; safe to call twice."""
        self.robot.halt()
        for part in reversed(self._parts()):
            part.close()

    def _parts(self) -> list[Robot | Camera | Teleop]:
        return [self.robot, *self.cameras.values(), *([self.teleop] if self.teleop else [])]
