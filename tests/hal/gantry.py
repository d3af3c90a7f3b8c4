"""A made-up arm whose joints are its pose, and its kinematics: every number can be checked by hand."""

import numpy as np

from hal.robot import OnSilence, RobotSpec, RobotState
from user_rl.clock import FakeClock
from user_rl.errors import RobotUnreachable
from user_rl.specs import Array, box

JOINTS = "abcd"
ORIGIN = np.array([0.4, 0.0, 0.1, 0.0])


class Gantry:
    """A robot of four joints which are x, y, z, yaw of its tip; `stiff` is the share of a command that it follows."""

    def __init__(self, stiff: float = 1.0) -> None:
        self.position, self.velocity, self.stiff = ORIGIN.copy(), np.zeros(4), stiff
        self.clock, self.halts, self._is_open = FakeClock(3.0), 0, False
        state = [(f"{j}.position", "rad", -9, 9) for j in JOINTS] + [(f"{j}.velocity", "rad/s", -9, 9) for j in JOINTS]
        self.spec = RobotSpec(
            model="gantry_joints",
            state=box("observation.state", state),
            command=box("action", [(f"{j}.target", "rad", -9, 9) for j in JOINTS]),
            rate_hz=10.0,
            on_silence=OnSilence.STOPS,
        )

    def open(self) -> None:
        self._is_open = True

    def read(self) -> RobotState:
        if not self._is_open:
            raise RobotUnreachable("the gantry is not open; call open() first")
        values = np.concatenate((self.position, self.velocity)).astype(np.float32)
        return RobotState(stamp_s=self.clock.now_s(), values=values)

    def command(self, target: Array) -> Array:
        self.read()
        self.spec.command.check(target)
        self.position = self.position + self.stiff * (target - self.position)
        return target

    def halt(self) -> None:
        self.halts += 1

    def close(self) -> None:
        self._is_open = False


class Identity:
    """See hal.end_effector.Kinematics."""

    def __init__(self) -> None:
        self.started = np.zeros(4)

    def forward(self, position: Array, velocity: Array) -> tuple[Array, Array]:
        return np.array(position, np.float64), np.array(velocity, np.float64)

    def start(self, posture: Array) -> None:
        self.started = np.array(posture)

    def solve(self, pose: Array) -> Array:
        return pose

    def search(self, pose: Array) -> Array:
        return pose
