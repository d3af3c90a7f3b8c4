"""Guarded: any robot behind limits that hold whatever a policy or an operator asks for.

On the way in: a command that is not finite or of another shape is refused (SpecError), one outside its box is clipped,
one that changes too much against the last is shortened, one that comes too early waits for its turn on the clock.
On the way out: a reading that left its limits, or any fault of the robot, halts it and latches: every later call
raises RobotFault until a person has looked and the process is started again. Nothing here clears a fault.
A command on a reading older than its limit halts the robot and raises SensorStale; a fresh reading mends that.
"""

import logging
from dataclasses import dataclass, field
from math import isfinite
from typing import Any, NoReturn

import numpy as np

from hal.robot import Robot, RobotSpec, RobotState
from user_rl.clock import Clock
from user_rl.errors import ConfigError, HardwareError, RobotFault, RobotUnreachable, SensorStale, SpecError
from user_rl.specs import Array

log = logging.getLogger(__name__)

_EARLY = 0.5  # periods by which one command may come early: a loop that was late once may catch up


@dataclass(frozen=True, kw_only=True)
class GuardConfig:
    """Limits beside the command's own box. Empty or None: no such limit."""

    max_state_age_s: float | None = 2.0  # of the reading that a command rests on
    max_change: tuple[float, ...] = ()  # per element: between one command and the next
    state_limits: dict[str, Any] = field(default_factory=dict)  # {element of the state: [low, high]}
    pace_commands: bool = True  # never faster than the robot's rate, on the given clock


class Guarded:
    """See hal.robot.Robot."""

    def __init__(self, robot: Robot, config: GuardConfig = GuardConfig(), *, clock: Clock) -> None:
        self.robot, self.config, self.clock = robot, config, clock
        self._spec = robot.spec
        self._low = np.asarray(self._spec.command.low, np.float32)
        self._high = np.asarray(self._spec.command.high, np.float32)
        self._max_change = _max_change(self._spec, config)
        self._limits = _state_limits(self._spec, config)
        self._fault: str | None = None
        self._is_open = False
        self._stamp_s = -np.inf  # of the newest reading
        self._due_s = -np.inf  # before which no command is sent
        self._sent: Array | None = None

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
        if self._limits:
            self._check_state(state.values)
        self._stamp_s = state.stamp_s
        return state

    def command(self, target: Array) -> Array:
        self._check_latch()
        if not self._is_open:
            raise RobotUnreachable(f"{self._spec.model} is not open; call open() first")
        target = self._limited(target)
        self._check_age()
        self._wait_for_turn()
        try:
            self._sent = self.robot.command(target)
        except RobotFault as error:
            self._latch(str(error), error)
        return self._sent

    def halt(self) -> None:
        self._sent = None
        self.robot.halt()

    def close(self) -> None:
        self._is_open = False
        self.robot.close()

    def _limited(self, target: Array) -> Array:
        if target.shape != self._low.shape or not all(map(isfinite, target.tolist())):
            raise SpecError(
                f"{self._spec.model} was asked for {target.tolist()}, allowed {len(self._low)} finite numbers; "
                "nothing was sent, mend what produced it"
            )
        target = target.astype(np.float32, copy=False)
        if self._max_change is not None and self._sent is not None:
            target = np.clip(target, self._sent - self._max_change, self._sent + self._max_change)
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

    def _check_state(self, values: Array) -> None:
        for i, low, high in self._limits:
            if not low <= values[i] <= high:
                state = self._spec.state
                self._latch(
                    f"{self._spec.model}: {state.names[i]} = {values[i]:.4g} {state.units[i]}, "
                    f"allowed [{low:.4g}, {high:.4g}]; look at the robot, bring it back inside, start again"
                )

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


def _max_change(spec: RobotSpec, config: GuardConfig) -> Array | None:
    if not config.max_change:
        return None
    if len(config.max_change) != len(spec.command.names) or min(config.max_change) <= 0:
        raise ConfigError(
            f"guard.max_change = {list(config.max_change)}, allowed {len(spec.command.names)} positive numbers "
            f"({', '.join(spec.command.names)}) or []; change its value"
        )
    return np.asarray(config.max_change, np.float32)


def _state_limits(spec: RobotSpec, config: GuardConfig) -> list[tuple[int, float, float]]:
    limits = []
    for name, bounds in config.state_limits.items():
        if name not in spec.state.names:
            allowed = ", ".join(spec.state.names)
            raise ConfigError(f"guard.state_limits.{name}: no such element, allowed {allowed}; change the key")
        try:
            low, high = (float(x) for x in bounds)
        except (TypeError, ValueError) as error:
            raise ConfigError(f"guard.state_limits.{name} = {bounds!r}, allowed [low, high]; change it") from error
        limits.append((spec.state.names.index(name), low, high))
    return limits
