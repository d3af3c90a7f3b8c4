"""Sighted: a robot that also measures where the things of its task are, as named elements of its state.

In the world this is a camera's or a tracker's work; a simulation knows. Policies, guards, logs and operators find the
things in `observation.state` behind what the robot below measures.
"""

from dataclasses import replace
from typing import Protocol, runtime_checkable

import numpy as np

from hal.robot import Robot, RobotSpec, RobotState
from user_rl.specs import Array, Box


@runtime_checkable
class Scenic(Protocol):
    """A task with things to see."""

    @property
    def scene(self) -> Box: ...

    def see(self) -> Array:
        """The values of `scene` now."""


class Sighted:
    """See hal.robot.Robot."""

    def __init__(self, robot: Robot, task: Scenic) -> None:
        self.robot, self.task = robot, task
        self._seen: Array | None = None  # the inner reading that `_values` were made from
        self._values: Array = np.zeros(0, np.float32)
        self._spec = replace(robot.spec, state=joined("observation.state", robot.spec.state, task.scene))

    @property
    def spec(self) -> RobotSpec:
        return self._spec

    def open(self) -> None:
        self.robot.open()

    def read(self) -> RobotState:
        state = self.robot.read()
        if state.values is not self._seen:  # else nothing has moved since
            self._seen = state.values
            self._values = np.concatenate((state.values, self.task.scene.clip(self.task.see())))
        return RobotState(stamp_s=state.stamp_s, values=self._values)

    def command(self, target: Array) -> Array:
        return self.robot.command(target)

    def halt(self) -> None:
        self.robot.halt()

    def close(self) -> None:
        self.robot.close()


def joined(name: str, *boxes: Box) -> Box:
    """One Box with the elements of several, in their order."""
    fields = {key: sum((getattr(b, key) for b in boxes), ()) for key in ("names", "units", "low", "high")}
    return Box(name=name, **fields)
