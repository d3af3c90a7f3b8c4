"""Cell: a robot with its cameras, its operator and its task, as one thing that is leased and driven.

The control loop knows only this class. Observations are named as LeRobot names them. A camera that gives no frames
breaks nothing else: it is named in `broken`, and whoever needs its pictures waits until `mend` has brought it back.
"""

from contextlib import ExitStack
from dataclasses import dataclass, field

import msgspec

from hal.camera import Camera, Frame
from hal.robot import Robot
from hal.task import Task
from hal.teleop import Teleop
from user_rl.errors import HardwareError, SensorStale
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
    broken: dict[str, str] = field(default_factory=dict, init=False)  # cameras that give no frames, and why

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
        """Opens every part; a camera that refuses is broken, any other part that does closes what was opened."""
        self.broken = {}
        with ExitStack() as undo:
            undo.callback(self.close)
            self.robot.open()
            for name in self.cameras:
                self._open_camera(name)
            if self.teleop is not None:
                self.teleop.open()
            undo.pop_all()

    def mend(self) -> None:
        """Opens broken cameras again and looks once through each: one that gives no frame now is broken."""
        for name, camera in self.cameras.items():
            if name not in self.broken or self._open_camera(name):
                try:
                    camera.read()
                except HardwareError as error:
                    self._break(name, error)

    def observe(self) -> Observation:
        """Reads the robot and every camera and checks each value against its spec; raises SensorStale for a camera that
        gives no frame, and what the robot raises."""
        state = self.robot.read()
        self.robot.spec.state.check(state.values)
        values, stamps_s = {"observation.state": state.values}, {"observation.state": state.stamp_s}
        for name, camera in self.cameras.items():
            frame = self._frame(name, camera)
            camera.spec.check(frame.pixels)
            values[f"observation.images.{name}"] = frame.pixels
            stamps_s[f"observation.images.{name}"] = frame.stamp_s
        return Observation(values=values, stamps_s=stamps_s)

    def close(self) -> None:
        """Halts the robot, then closes every part, whatever one of them raises; safe to call twice."""
        with ExitStack() as last:
            for part in self._parts():
                last.callback(part.close)
            last.callback(self.robot.halt)

    def _frame(self, name: str, camera: Camera) -> Frame:
        if name not in self.broken:
            try:
                return camera.read()
            except SensorStale:
                raise
            except HardwareError as error:
                self._break(name, error)
        raise SensorStale(f"camera {name} of {self.name} gives no frames: {self.broken[name]}")

    def _open_camera(self, name: str) -> bool:
        try:
            self.cameras[name].open()
        except HardwareError as error:
            self._break(name, error)
            return False
        self.broken.pop(name, None)
        return True

    def _break(self, name: str, error: HardwareError) -> None:
        self.broken[name] = str(error)
        self.cameras[name].close()

    def _parts(self) -> list[Robot | Camera | Teleop]:
        return [self.robot, *self.cameras.values(), *([self.teleop] if self.teleop else [])]
