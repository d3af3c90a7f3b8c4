"""ScriptedOperator: a script in a person's place at the peg task. It demonstrates whole insertions, and may take over.

It sees what a person would: where the peg is against the hole, and whether it presses without sinking. It drives at a
careful person's pace with a shaky hand, hovers until aligned, lowers, and lifts again when it hits the rim.
"""

from dataclasses import dataclass

import numpy as np

from hal.end_effector import DeltaEndEffector
from hal.teleop import TeleopReading
from user_rl.clock import Clock
from user_rl.errors import HardwareError
from user_rl.specs import Array, Box


@dataclass(frozen=True, kw_only=True)
class ScriptedOperatorConfig:
    """The pace and shake of the hand, and when it takes over from a policy."""

    speed: float = 0.25  # share of the largest step
    shake: float = 0.2  # standard deviation, share of the largest step
    hover_m: float = 0.008  # height of the tip until it is aligned
    intervene_after_steps: int | None = None  # without progress; None: never
    intervene_share: float = 1.0  # of those occasions
    intervene_steps: int = 10  # and for how long


_ALIGNED_M, _ALIGNED_RAD = 0.0007, 0.03
_MOUTH_M = -0.0015  # the tip below it is in the hole
_PRESSED_M = 0.005  # a target so far below the tip means that the rim is in the way
_GOAL_M = -0.035  # below the floor: lowering never slows down
_STEADY_M = 0.05
_LIFT_STEPS = 2
_PROGRESS_M = 0.002
_TURN_M = 0.1  # a radian of yaw counts as so many metres of distance


class ScriptedOperator:
    """See hal.teleop.Teleop."""

    def __init__(self, config: ScriptedOperatorConfig, hand: DeltaEndEffector, *, clock: Clock, seed: int) -> None:
        self.config, self.hand, self.clock = config, hand, clock
        self._random = np.random.default_rng(seed)
        self._high = np.asarray(hand.spec.command.high)
        self._is_open = False
        self._demonstrates = False
        self._lift_steps = self._takeover_steps = self._stalled_steps = 0
        self._best_m = np.inf

    @property
    def action(self) -> Box:
        return self.hand.spec.command

    def open(self) -> None:
        self._is_open = True

    def begin(self, *, demonstrate: bool) -> None:
        self._demonstrates = demonstrate
        self._lift_steps = self._takeover_steps = self._stalled_steps = 0
        self._best_m = np.inf

    def poll(self) -> TeleopReading:
        if not self._is_open:
            raise HardwareError("the scripted operator is not open; call open() first")
        if not self._demonstrates and self.config.intervene_after_steps is None:
            return TeleopReading(stamp_s=self.clock.now_s(), action=None)
        state = self.hand.read()
        x, y, z, sine, cosine = state.values[:5]
        pose = np.array([x, y, z, np.arctan2(sine, cosine)])
        takes_over = not self._demonstrates and self._takes_over(pose)
        action = self._drive(pose, float(state.values[11])) if self._demonstrates or takes_over else None
        return TeleopReading(stamp_s=state.stamp_s, action=action, is_intervention=takes_over)

    def close(self) -> None:
        self._is_open = False

    def _drive(self, pose: Array, offset_z_m: float) -> Array:
        step = np.clip((self._goal(pose, offset_z_m) - pose) / self._high, -self.config.speed, self.config.speed)
        steadiness = min(1.0, float(np.abs(pose[:3]).max()) / _STEADY_M)  # near the hole the hand calms down
        step += self.config.shake * max(steadiness, 0.2) * self._random.standard_normal(4)
        return self.action.clip(step * self._high)

    def _goal(self, pose: Array, offset_z_m: float) -> Array:
        """Where the tip should go next: over the hole, or into it."""
        in_hole = pose[2] < _MOUTH_M
        aligned = np.abs(pose[:2]).max() < _ALIGNED_M and abs(pose[3]) < _ALIGNED_RAD
        if not in_hole and offset_z_m < -_PRESSED_M:
            self._lift_steps = _LIFT_STEPS
        if self._lift_steps:
            self._lift_steps -= 1
            return np.array([0.0, 0.0, 2 * self.config.hover_m, 0.0])
        return np.array([0.0, 0.0, _GOAL_M if in_hole or aligned else self.config.hover_m, 0.0])

    def _takes_over(self, pose: Array) -> bool:
        """Whether the operator acts at this step of a policy's episode."""
        patience = self.config.intervene_after_steps
        distance_m = float(np.abs(pose[:3] - (0, 0, _GOAL_M)).sum() + _TURN_M * abs(pose[3]))
        self._stalled_steps = 0 if distance_m < self._best_m - _PROGRESS_M else self._stalled_steps + 1
        self._best_m = distance_m if self._stalled_steps == 0 else self._best_m
        if self._takeover_steps:
            self._takeover_steps -= 1
        elif patience is not None and self._stalled_steps >= patience:
            self._stalled_steps = 0
            self._best_m = distance_m
            willing = self._random.random() < self.config.intervene_share
            self._takeover_steps = self.config.intervene_steps if willing else 0
        return self._takeover_steps > 0
