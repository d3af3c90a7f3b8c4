"""Guarded: any robot behind limits that hold whatever a policy or an operator asks for.

On the way in: a command that is not finite or of another shape is refused (SpecError), one outside its box is clipped,
one that goes too far, too fast or out of the workspace is shortened (`hal.limits`), one that comes too early waits for
its turn on the clock. On the way out: a reading beyond its limits, or any fault of the robot, halts it and latches:
every later call raises RobotFault until a person has looked and cleared it. Nothing here clears a fault.
A command on a reading older than its limit halts the robot and raises SensorStale; a fresh reading mends that.
"""

import logging
from math import isfinite
from typing import NoReturn

import numpy as np

from hal.limits import AskLimits, FeltLimits
from hal.limits import GuardConfig as GuardConfig
from hal.robot import Robot, RobotSpec, RobotState
from user_rl.clock import Clock
from user_rl.errors import HardwareError, RobotFault, RobotUnreachable, SensorStale, SpecError
from user_rl.specs import Array

log = logging.getLogger(__name__)

_EARLY = 0.5  # periods by which one command may come early: a loop that was late once may catch up


class Guarded:
    """See hal.robot.Robot."""

    def __init__(self, robot: Robot, config: GuardConfig | None = None, *, clock: Clock) -> None:
        config = config or GuardConfig()
        self.robot, self.config, self.clock = robot, config, clock
        self._spec = robot.spec
        self._low = np.asarray(self._spec.command.low, np.float32)
        self._high = np.asarray(self._spec.command.high, np.float32)
        self._ask, self._felt = AskLimits(self._spec, config), FeltLimits(self._spec, config)
        self._fault: str | None = None
        self._is_open = False
        self._stamp_s = -np.inf  # of the newest reading
        self._due_s = -np.inf  # before which no command is sent
        self._sent: Array | None = None
        self._sent_s = -np.inf
        self._measured: Array = np.zeros(self._spec.state.shape, np.float32)

    @property
    def spec(self) -> RobotSpec:
        return self._spec

    def open(self) -> None:
        self._check_latch()
        self._sent, self._stamp_s = None, -np.inf
        try:
            self.robot.open()
        except RobotFault as error:
            self._latch(str(error), error)
        self._is_open = True

    def read(self) -> RobotState:
        self._check_latch()
        try:
            state = self.robot.read()
        except RobotFault as error:
            self._latch(str(error), error)
        if self._felt.any and (broken := self._felt.broken(state.values)) is not None:
            self._latch(f"{self._spec.model}: {broken}")
        self._stamp_s, self._measured = state.stamp_s, state.values
        return state

    def command(self, target: Array) -> Array:
        self._check_latch()
        if not self._is_open:
            raise RobotUnreachable(f"{self._spec.model} is not open; call open() first")
        self._check_form(target)
        self._check_age()
        self._wait_for_turn()
        target = self._limited(target)
        try:
            self._sent = self.robot.command(target)
        except RobotFault as error:
            self._latch(str(error), error)
        self._sent_s = self.clock.now_s()
        return self._sent

    def halt(self) -> None:
        self._sent = None
        self.robot.halt()

    def close(self) -> None:
        self._is_open = False
        self.robot.close()

    def _check_form(self, target: Array) -> None:
        if target.shape != self._low.shape or not all(map(isfinite, target.tolist())):
            raise SpecError(
                f"{self._spec.model} was asked for {target.tolist()}, allowed {len(self._low)} finite numbers; "
                "nothing was sent, mend what produced it"
            )

    def _limited(self, target: Array) -> Array:
        target = target.astype(np.float32, copy=False)
        if self._ask.any:
            since_s = self.clock.now_s() - self._sent_s
            target = self._ask.shortened(target, self._sent, self._measured, since_s)
        return target if self._spec.command.has(target) else np.minimum(np.maximum(target, self._low), self._high)

    def _check_age(self) -> None:
        limit_s = self.config.max_state_age_s
        age_s = self.clock.now_s() - self._stamp_s
        if limit_s is not None and age_s > limit_s:
            self.halt()
            age = f"{age_s:.3g} s old" if np.isfinite(age_s) else "still to come"
            raise SensorStale(
                f"{self._spec.model}'s last reading is {age}, allowed {limit_s:.3g} s old; "
                "halted, read again before commanding"
            )

    def _wait_for_turn(self) -> None:
        if self.config.pace_commands:
            period_s = 1.0 / self._spec.rate_hz
            earliest_s = self._due_s - _EARLY * period_s
            if self.clock.now_s() < earliest_s:
                self.clock.sleep_until(earliest_s)
            self._due_s = max(self._due_s, self.clock.now_s()) + period_s

    def _check_latch(self) -> None:
        if self._fault is not None:
            raise RobotFault(self._fault)

    def _latch(self, fault: str, cause: RobotFault | None = None) -> NoReturn:
        self._fault = fault
        log.error("latched: %s", fault)
        try:
            self.halt()
        except HardwareError as error:
            log.error("%s could not be halted either: %s", self._spec.model, error)
        raise RobotFault(fault) from cause
