"""DeltaJoints: an arm commanded by small steps of its joints, as many as it has; the tool keeps pointing down.

The command holds one step for each joint, from the base outwards: `joint.1.delta` and so on, whatever the maker calls
them, so that arms of different make have names in common. What would tilt the tool or leave the workspace is taken out
of a step before it is sent. The target stays within a leash of the measured joints, so that contact builds up a
bounded force. The state is the hand's, then the joints against a home posture, then target minus measured.
"""

from dataclasses import dataclass, replace

import numpy as np

from hal.end_effector import DeltaEndEffector
from hal.robot import RobotSpec, RobotState
from user_rl.specs import Array, box


@dataclass(frozen=True, kw_only=True)
class JointsConfig:
    """The size of a step and the leash."""

    max_step_rad: float = 0.03  # at half a metre's reach, 1.5 cm of the tip
    leash_rad: float = 0.02

    def __post_init__(self) -> None:
        for name, step in (("max_step_rad", self.max_step_rad), ("leash_rad", self.leash_rad)):
            if step <= 0:
                raise ValueError(f"{name} = {step}, allowed above 0; change it")


class DeltaJoints:
    """See hal.robot.Robot."""

    def __init__(self, hand: DeltaEndEffector, home: Array, config: JointsConfig = JointsConfig()) -> None:
        self.hand, self.home, self.config = hand, home, config
        self._spec = _spec(hand, config)

    @property
    def spec(self) -> RobotSpec:
        return self._spec

    def open(self) -> None:
        self.hand.open()

    def read(self) -> RobotState:
        state = self.hand.read()
        joints = self.hand.joints
        target = joints if self.hand.led is None else self.hand.led
        values = np.concatenate((state.values, joints - self.home, target - joints))
        return RobotState(stamp_s=state.stamp_s, values=self._spec.state.clip(values))

    def command(self, target: Array) -> Array:
        self._spec.command.check(target)
        base = self._base()
        goal = self.hand.reach(self._within(base + target), np.zeros(4))
        sent = self._spec.command.clip(goal - base)
        self.hand.lead(self._within(base + sent))
        return sent

    def steps(self, delta: Array) -> Array:
        """The command [J] that moves the tip by `delta` [4], as far as one step goes."""
        base = self._base()
        return self._spec.command.clip(self.hand.reach(base, delta) - base)

    def halt(self) -> None:
        self.hand.halt()

    def close(self) -> None:
        self.hand.close()

    def _base(self) -> Array:
        """The joint angles [J] that a step starts from: the target, not further than the leash from the measured."""
        if self.hand.led is None:
            self.hand.read()
            return self.hand.joints
        leash = self.config.leash_rad
        return np.clip(self.hand.led, self.hand.joints - leash, self.hand.joints + leash)

    def _within(self, joints: Array) -> Array:
        return self.hand.robot.spec.command.clip(joints)


def _spec(hand: DeltaEndEffector, config: JointsConfig) -> RobotSpec:
    inner, state = hand.spec, hand.spec.state
    numbers = range(1, len(hand.robot.spec.command.names) + 1)
    rows = list(zip(state.names, state.units, state.low, state.high, strict=True))
    rows += [(f"joint.{n}.from_home", "rad", -7.0, 7.0) for n in numbers]
    rows += [(f"joint.{n}.offset", "rad", -1.0, 1.0) for n in numbers]
    step = config.max_step_rad
    command = [(f"joint.{n}.delta", "rad", -step, step) for n in numbers]
    model = hand.robot.spec.model
    return replace(inner, model=model, state=box("observation.state", rows), command=box("action", command))
