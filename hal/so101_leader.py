"""The SO-101's leader arm as an operator's device: whoever moves it moves the follower by as much.

It has no torque, so that a hand can lead it. Its movement counts from where both arms are when the operator takes over,
so that the follower never jumps. Demonstrations are led from the first step; in a policy's episode a leader that moves
takes over, and one that rests lets go. It has no buttons: success and failure come from elsewhere.
Needs pyserial (extra `serial`) and the leader's calibration file, as `hal.so101` does.
"""

import math
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from hal import feetech
from hal.feetech import RAD_PER_STEP, Bus, BusConfig, open_port
from hal.robot import Robot
from hal.so101 import (
    JOINTS,
    MEASURED,
    SERVOS,
    Connect,
    check_servos,
    command_names,
    load_calibration,
    open_bus,
    scale_of,
)
from hal.teleop import TeleopReading
from user_rl.clock import Clock
from user_rl.errors import ConfigError, HardwareError
from user_rl.specs import Array, Box


@dataclass(frozen=True, kw_only=True)
class So101LeaderConfig:
    """Where the leader is, and from when to when a hand is on it."""

    port: str
    calibration: str  # a file
    grab_rad_s: float = 0.3  # of any joint: faster, and the operator has taken over
    release_s: float = 1.0  # slower for so long, and the policy goes on
    bus: BusConfig = field(default_factory=BusConfig)


class So101Leader:
    """See hal.teleop.Teleop."""

    def __init__(self, config: So101LeaderConfig, *, robot: Robot, clock: Clock, connect: Connect = open_port) -> None:
        if robot.spec.command.names != command_names():
            raise ConfigError(f"teleop=so101_leader on {robot.spec.model}, allowed on robot=so101; choose that robot")
        self.config, self.robot, self.clock, self._connect = config, robot, clock, connect
        self._calibration = load_calibration(Path(config.calibration))
        self._scale = scale_of(self._calibration)
        self._bus: Bus | None = None
        self._demonstrates = False
        self._led_until_s = -math.inf
        self._offset: Array | None = None  # [6] follower minus leader when the operator took over

    @property
    def action(self) -> Box:
        return self.robot.spec.command

    def open(self) -> None:
        self._bus = open_bus(self.config.port, self.config.bus, self._connect)
        try:
            check_servos(self._bus, self._calibration, self.config.calibration)
            for servo in SERVOS:
                self._bus.write(servo, feetech.TORQUE_ENABLE, 0)
        except HardwareError:
            self.close()
            raise

    def begin(self, *, demonstrate: bool) -> None:
        self._demonstrates, self._led_until_s, self._offset = demonstrate, -math.inf, None

    def poll(self) -> TeleopReading:
        if self._bus is None:
            raise HardwareError(f"the leader arm at {self.config.port} is not open; call open() first")
        now_s = self.clock.now_s()
        measured = self._bus.sync_read(SERVOS, MEASURED)
        steps, steps_s = np.array([measured[servo] for servo in SERVOS], float).T
        if np.abs(steps_s).max() * RAD_PER_STEP > self.config.grab_rad_s:
            self._led_until_s = now_s + self.config.release_s
        leads = now_s < self._led_until_s
        action = self._follow(self._scale.values(steps)) if leads or self._demonstrates else None
        if action is None:
            self._offset = None
        return TeleopReading(stamp_s=now_s, action=action, is_intervention=leads and not self._demonstrates)

    def close(self) -> None:
        if self._bus is not None:
            self._bus.close()
            self._bus = None

    def _follow(self, leader: Array) -> Array:
        if self._offset is None:
            self._offset = self.robot.read().values[: len(JOINTS)] - leader
        return self.action.clip(leader + self._offset)
