"""DeltaEndEffector: a joint-space robot commanded by small steps of its tip.

The command [dx, dy, dz, dyaw] moves a target pose in the work frame; the tool keeps pointing down. The target stays
inside the workspace and within a leash of the measured pose, so that contact builds up a bounded force, which the
state shows as `tip.offset`: target minus measured. Whatever robot is below, this is a Robot of its own.
"""

from dataclasses import dataclass, replace
from typing import Protocol

import numpy as np

from hal.robot import Robot, RobotSpec, RobotState
from user_rl.specs import Array, box


@dataclass(frozen=True, kw_only=True)
class EndEffectorConfig:
    """The work frame, the size of a step, the workspace around the work frame's origin, and the leash."""

    origin_m: tuple[float, ...] = (0.45, 0.0, 0.10)  # of the work frame, in the base's
    max_step_m: float = 0.015
    max_turn_rad: float = 0.1
    low: tuple[float, ...] = (-0.08, -0.08, -0.028, -0.5)  # m, m, m, rad
    high: tuple[float, ...] = (0.08, 0.08, 0.12, 0.5)
    leash_m: float = 0.004
    leash_rad: float = 0.05

    def __post_init__(self) -> None:
        sizes = {"origin_m": (self.origin_m, 3), "low": (self.low, 4), "high": (self.high, 4)}
        for name, (values, count) in sizes.items():
            if len(values) != count:
                raise ValueError(f"{name} = {list(values)}, allowed {count} numbers; change it")
        if not all(low < high for low, high in zip(self.low, self.high, strict=True)):
            raise ValueError(f"low = {list(self.low)}, allowed below high = {list(self.high)}; change one of them")
        steps = {"max_step_m": self.max_step_m, "max_turn_rad": self.max_turn_rad}
        for name, step in (steps | {"leash_m": self.leash_m, "leash_rad": self.leash_rad}).items():
            if step <= 0:
                raise ValueError(f"{name} = {step}, allowed above 0; change it")


class Kinematics(Protocol):
    """Tip poses [x, y, z, yaw] in the base's frame (m, rad), joint angles [J] (rad)."""

    def forward(self, position: Array, velocity: Array) -> tuple[Array, Array]:
        """The tip's pose and its rate [4]."""

    def start(self, posture: Array) -> None:
        """Lets the next `solve` start from `posture`."""

    def solve(self, pose: Array) -> Array:
        """One step of joint angles towards `pose`, from the last one; raises RobotFault when there is none."""

    def search(self, pose: Array) -> Array:
        """Joint angles at `pose`, found from the home posture: the same pose gives the same angles."""


class DeltaEndEffector:
    """See hal.robot.Robot."""

    def __init__(self, robot: Robot, kinematics: Kinematics, config: EndEffectorConfig = EndEffectorConfig()) -> None:
        self.robot, self.kinematics, self.config = robot, kinematics, config
        self._joints = len(robot.spec.command.names)
        self._origin = np.array([*config.origin_m, 0.0])
        self._low, self._high = np.array(config.low), np.array(config.high)
        self._leash = np.array([config.leash_m] * 3 + [config.leash_rad])
        self._target: Array | None = None  # [4] in the work frame
        self.joints: Array = np.zeros(0)  # [J] rad, as last read
        self.led: Array | None = None  # [J] rad, as last commanded by `lead`
        self._measured = np.zeros(4)
        self._seen: Array | None = None  # the inner reading that `_values` were made from, and the target then
        self._seen_for: Array | None = None
        self._values: Array = np.zeros(0, np.float32)
        self._spec = _spec(robot.spec, config)

    @property
    def spec(self) -> RobotSpec:
        return self._spec

    def open(self) -> None:
        self.robot.open()
        self.forget()

    def read(self) -> RobotState:
        state = self.robot.read()
        if state.values is self._seen and self._target is self._seen_for:  # nothing has moved since
            return RobotState(stamp_s=state.stamp_s, values=self._values)
        position, velocity = state.values[: self._joints], state.values[self._joints :]
        pose, rate = self.kinematics.forward(position, velocity)
        pose -= self._origin
        self.joints = position
        if self._target is None:
            self._target = pose
            self.kinematics.start(position)
        self._measured = pose
        turn = (np.sin(pose[3]), np.cos(pose[3]))
        values = np.concatenate((pose[:3], turn, rate, self._target - pose))
        self._seen, self._seen_for, self._values = state.values, self._target, self._spec.state.clip(values)
        return RobotState(stamp_s=state.stamp_s, values=self._values)

    def command(self, target: Array) -> Array:
        self._spec.command.check(target)
        if self._target is None:
            self.read()
        last = self._measured if self._target is None else self._target
        base = np.clip(last, self._measured - self._leash, self._measured + self._leash)
        goal = np.clip(base + target, self._low, self._high)
        sent = self._spec.command.clip(goal - base)
        self._target = base + sent
        joints = self.kinematics.solve(self._target + self._origin)
        self.robot.command(self.robot.spec.command.clip(joints))
        return sent

    def posture(self, pose: Array) -> Array:
        """The joint angles [J] that hold the tip at `pose` [4] of the work frame."""
        return self.kinematics.search(pose + self._origin)

    def reach(self, joints: Array, delta: Array) -> Array:
        """Joint angles [J] close to `joints` whose tip is `delta` [4] further on, in the workspace, the tool down."""
        pose, _ = self.kinematics.forward(joints, np.zeros(self._joints))
        self.kinematics.start(joints)
        return self.kinematics.solve(np.clip(pose - self._origin + delta, self._low, self._high) + self._origin)

    def lead(self, joints: Array) -> None:
        """Commands joint angles [J] in place of a step; where they put the tip becomes the target."""
        pose, _ = self.kinematics.forward(joints, np.zeros(self._joints))
        self._target, self.led = pose - self._origin, joints
        self.robot.command(self.robot.spec.command.clip(joints))

    def forget(self) -> None:
        """Drops the target: the next reading becomes it. For whoever moved the arm in another way."""
        self._target = self.led = None

    def halt(self) -> None:
        self.robot.halt()
        self.forget()

    def close(self) -> None:
        self.robot.close()
        self.forget()


def _spec(inner: RobotSpec, config: EndEffectorConfig) -> RobotSpec:
    step, turn = config.max_step_m, config.max_turn_rad
    state = [(f"tip.{axis}", "m", -2.0, 2.0) for axis in "xyz"]
    state += [("tip.yaw.sin", "", -1.0, 1.0), ("tip.yaw.cos", "", -1.0, 1.0)]
    state += [(f"tip.velocity.{axis}", "m/s", -2.0, 2.0) for axis in "xyz"] + [("tip.velocity.yaw", "rad/s", -6.0, 6.0)]
    state += [(f"tip.offset.{axis}", "m", -0.1, 0.1) for axis in "xyz"] + [("tip.offset.yaw", "rad", -1.0, 1.0)]
    command = [(f"tip.delta.{axis}", "m", -step, step) for axis in "xyz"] + [("tip.delta.yaw", "rad", -turn, turn)]
    model = inner.model.removesuffix("_joints")
    return replace(inner, model=model, state=box("observation.state", state), command=box("action", command))
