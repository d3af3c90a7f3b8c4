"""Gripping: a simulated hand with two fingers, as one robot. The hand's elements come first, then the width.

The command's last element is the width that the fingers should leave between them; they pull towards it with a bounded
force, so that the measured width, the state's last element, shows what they hold.
"""

from dataclasses import replace

import numpy as np

from hal.end_effector import DeltaEndEffector
from hal.robot import RobotSpec, RobotState
from hal.sim.sighted import joined
from hal.sim.tools import OPENING_M
from hal.sim.world import World
from user_rl.specs import Array, box

_WIDTH = box("gripper", [("gripper.width", "m", -0.01, OPENING_M + 0.01)])
_TARGET = box("gripper", [("gripper.width.target", "m", 0.0, OPENING_M)])


class Gripping:
    """See hal.robot.Robot."""

    def __init__(self, robot: DeltaEndEffector, world: World) -> None:
        self.robot, self.world = robot, world
        self._seen: Array | None = None  # the inner reading that `_values` were made from
        self._values: Array = np.zeros(0, np.float32)
        self._spec = replace(
            robot.spec,
            state=joined("observation.state", robot.spec.state, _WIDTH),
            command=joined("action", robot.spec.command, _TARGET),
        )

    @property
    def spec(self) -> RobotSpec:
        return self._spec

    def open(self) -> None:
        self.robot.open()

    def read(self) -> RobotState:
        state = self.robot.read()
        if state.values is not self._seen:  # else nothing has moved since
            self._seen = state.values
            self._values = np.append(state.values, _WIDTH.clip(np.array([self.world.width_m])))
        return RobotState(stamp_s=state.stamp_s, values=self._values)

    def command(self, target: Array) -> Array:
        self._spec.command.check(target)
        self.world.grip(float(target[-1]))  # time passes in the hand's command
        return np.append(self.robot.command(target[:-1]), target[-1:])

    def halt(self) -> None:
        self.robot.halt()

    def close(self) -> None:
        self.robot.close()
