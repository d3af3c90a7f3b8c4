"""ScriptedOperator: a script in a person's place. It demonstrates whole episodes, and may take over.

The task's script says where to go; the operator drives there at a careful person's pace with a shaky hand, and notices
when a policy does not get on.
"""

from dataclasses import dataclass

import numpy as np

from hal.robot import Robot
from hal.sim.script import Glance, Script, glance
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


_STEADY_M = 0.05
_PROGRESS_M = 0.002


class ScriptedOperator:
    """See hal.teleop.Teleop."""

    def __init__(
        self, config: ScriptedOperatorConfig, robot: Robot, script: Script, *, clock: Clock, seed: int
    ) -> None:
        self.config, self.robot, self.script, self.clock = config, robot, script, clock
        self._random = np.random.default_rng(seed)
        self._high = np.asarray(robot.spec.command.high)[:4]
        self._is_open = False
        self._demonstrates = False
        self._takeover_steps = self._stalled_steps = 0
        self._best_m = np.inf

    @property
    def action(self) -> Box:
        return self.robot.spec.command

    def open(self) -> None:
        self._is_open = True

    def begin(self, *, demonstrate: bool) -> None:
        self._demonstrates = demonstrate
        self._takeover_steps = self._stalled_steps = 0
        self._best_m = np.inf
        self.script.begin()

    def poll(self) -> TeleopReading:
        if not self._is_open:
            raise HardwareError("the scripted operator is not open; call open() first")
        if not self._demonstrates and self.config.intervene_after_steps is None:
            return TeleopReading(stamp_s=self.clock.now_s(), action=None)
        state = self.robot.read()
        seen = glance(self.robot.spec.state.names, state.values)
        takes_over = not self._demonstrates and self._takes_over(self.script.left_m(seen))
        action = self._drive(seen) if self._demonstrates or takes_over else None
        return TeleopReading(stamp_s=state.stamp_s, action=action, is_intervention=takes_over)

    def close(self) -> None:
        self._is_open = False

    def _drive(self, seen: Glance) -> Array:
        aim = self.script.aim(seen)
        step = np.clip((aim.pose - seen.pose) / self._high, -self.config.speed, self.config.speed)
        away_m = float(np.abs(seen.pose[:3] - aim.at_m).max())
        steadiness = min(1.0, away_m / _STEADY_M)  # near its work the hand calms down
        step += self.config.shake * max(steadiness, 0.2) * self._random.standard_normal(4)
        fingers = [] if aim.width_m is None else [aim.width_m]
        return self.action.clip(np.append(step * self._high, fingers))

    def _takes_over(self, left_m: float) -> bool:
        """Whether the operator acts at this step of a policy's episode, from how much is left to do."""
        patience = self.config.intervene_after_steps
        self._stalled_steps = 0 if left_m < self._best_m - _PROGRESS_M else self._stalled_steps + 1
        self._best_m = left_m if self._stalled_steps == 0 else self._best_m
        if self._takeover_steps:
            self._takeover_steps -= 1
        elif patience is not None and self._stalled_steps >= patience:
            self._stalled_steps = 0
            self._best_m = left_m
            willing = self._random.random() < self.config.intervene_share
            self._takeover_steps = self.config.intervene_steps if willing else 0
        return self._takeover_steps > 0
