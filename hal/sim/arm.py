"""SimArm: a simulated arm in joint space. `command` lets one control period of physics pass; pacing is the loop's."""

from collections.abc import Mapping

import numpy as np

from hal.robot import OnSilence, RobotSpec, RobotState
from hal.sim.arms import Arm, SimArmConfig
from hal.sim.tools import Tool
from hal.sim.world import Numbers, World
from user_rl.clock import Clock
from user_rl.specs import Array, box

MAX_JOINT_SPEED = 10.0  # rad/s: beyond it the encoder saturates


class SimArm:
    """See hal.robot.Robot. Commands are joint targets; nothing moves between two of them."""

    def __init__(self, arm: Arm, config: SimArmConfig, *, clock: Clock, tool: Tool = Tool.PEG) -> None:
        self.arm, self.config, self.clock = arm, config, clock
        self.world = World(arm, substep_s=config.substep_s, tool=tool)
        self._substeps = max(1, round(1.0 / (config.rate_hz * config.substep_s)))
        self._still: Array | None = None
        positions = [(f"{j.name}.position", "rad", j.low - 0.1, j.high + 0.1) for j in arm.joints]
        speeds = [(f"{j.name}.velocity", "rad/s", -MAX_JOINT_SPEED, MAX_JOINT_SPEED) for j in arm.joints]
        self._spec = RobotSpec(
            model=f"{arm.model}_joints",
            state=box("observation.state", positions + speeds),
            command=box("action", [(f"{j.name}.target", "rad", j.low, j.high) for j in arm.joints]),
            rate_hz=config.rate_hz,
            on_silence=OnSilence.STOPS,
        )

    @property
    def spec(self) -> RobotSpec:
        return self._spec

    def open(self) -> None:
        self.world.open()
        self._still = None

    def read(self) -> RobotState:
        data, joints = self.world.data, len(self.arm.joints)
        if self._still is None:  # between two commands nothing moves: the same array says so
            self._still = self._spec.state.clip(np.concatenate((data.qpos[:joints], data.qvel[:joints])))
        return RobotState(stamp_s=self.clock.now_s(), values=self._still)

    def command(self, target: Array) -> Array:
        self.world.data  # noqa: B018  # raises when not open
        self._spec.command.check(target)
        self._still = None
        self.world.advance(target, self._substeps)
        return target

    def place(self, posture: Array, things: Mapping[str, Numbers] = {}) -> None:
        """Puts the arm at rest at `posture` [J] rad, and things where these say: a simulation's reset."""
        self._still = None
        self.world.place(posture, things)

    def halt(self) -> None:
        """Nothing to do: physics passes in `command` alone."""

    def close(self) -> None:
        self.world.close()
