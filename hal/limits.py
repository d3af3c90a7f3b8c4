"""Limits: where the axes of a robot may be, how fast they may be asked to go, what it may feel. `Guarded` holds them.

An axis is what a command moves and the state measures (`hal.axes`): limits of `tip.x`, `tip.y` and `tip.z` are a
workspace box, those of `joint1`, `joint2`, … are joint limits. Keys are names or patterns (`joint*`).

What is asked is shortened; what is measured beyond a limit is a fault, which `Guarded` latches.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from typing import Any

import numpy as np

from hal.axes import Way, axis_of, position_of
from hal.robot import RobotSpec
from user_rl.errors import ConfigError
from user_rl.specs import Array, Box

LONGEST_PERIODS = 2.0  # a command that comes late may go no further than in so many periods
Bounds = tuple[float, float]


@dataclass(frozen=True, kw_only=True)
class GuardConfig:
    """Limits beside the command's own box. Empty or None: no such limit."""

    max_state_age_s: float | None = 2.0  # of the reading that a command rests on
    limits: dict[str, Any] = field(default_factory=dict)  # {axis: [low, high]}: workspace box, joint limits
    max_speed: dict[str, float] = field(default_factory=dict)  # {axis: unit/s}: of what is asked
    max_change: tuple[float, ...] = ()  # per element: between one command and the next
    state_limits: dict[str, Any] = field(default_factory=dict)  # {element of the state: [low, high]}
    max_force_n: float | None = None  # of each measured force, a vector `NAME.force.x`, `.y`, `.z`
    max_torque_nm: float | None = None  # of each measured torque, as `NAME.torque.x`
    tolerance: float = 0.02  # of an axis' range: by how much it may be measured beyond its limits
    pace_commands: bool = True  # never faster than the robot's rate, on the given clock

    def __post_init__(self) -> None:
        for name, value in {
            "max_force_n": self.max_force_n, "max_torque_nm": self.max_torque_nm,
            **{f"max_speed.{axis}": speed for axis, speed in self.max_speed.items()},
        }.items():  # fmt: skip
            if value is not None and not 0 < value < math.inf:
                raise ValueError(f"{name} = {value}, allowed above 0; change it")
        if not 0 <= self.tolerance < math.inf:
            raise ValueError(f"tolerance = {self.tolerance}, allowed 0 or more; change it")


class AskLimits:
    """What a command may ask, given what was sent and measured last. Raises ConfigError for limits that cannot be."""

    def __init__(self, spec: RobotSpec, config: GuardConfig) -> None:
        kinds = [axis_of(name) for name in spec.command.names]
        axes = [axis for axis, _ in kinds]
        self._absolute = np.array([kind is Way.TARGET for _, kind in kinds])
        self._measured = np.array([_index(position_of(axis, spec.state)) for axis in axes])  # -1: it is not
        self._period_s = 1.0 / spec.rate_hz
        self._max_change = _max_change(spec, config)
        self._speed = _speeds(axes, kinds, spec.command, config)
        self._low, self._high = np.full(len(axes), -np.inf), np.full(len(axes), np.inf)
        for i, (at, to) in _axis_bounds(axes, spec, config).items():
            self._low[i], self._high[i] = at, to
        self._bounded = bool(np.isfinite(self._low).any())
        if self._bounded:
            self._check_measured(spec)

    @property
    def any(self) -> bool:
        """Whether there is any limit but the command's own box."""
        return self._bounded or self._speed is not None or self._max_change is not None

    def shortened(self, target: Array, sent: Array | None, measured: Array, since_s: float) -> Array:
        """`target` [C] brought inside; `sent` is the command before, `since_s` ago, `measured` the newest reading."""
        if self._max_change is not None and sent is not None:
            target = np.clip(target, sent - self._max_change, sent + self._max_change)
        if self._speed is not None:
            target = self._slowed(target, sent, measured, since_s)
        if self._bounded:
            target = self._inside(target, measured)
        return target.astype(np.float32, copy=False)

    def _slowed(self, target: Array, sent: Array | None, measured: Array, since_s: float) -> Array:
        assert self._speed is not None, "called with a speed limit only"
        way = self._speed * min(since_s, LONGEST_PERIODS * self._period_s)
        if sent is None:  # what is not measured may start anywhere
            sent = np.where(self._measured >= 0, measured[self._measured], target)
        start = np.where(self._absolute, sent, 0.0)
        return np.clip(target, start - way, start + way)

    def _inside(self, target: Array, measured: Array) -> Array:
        """An axis that is outside may come back, and go no further."""
        at = np.where(self._absolute, 0.0, measured[self._measured])
        low, high = np.minimum(self._low - at, 0.0), np.maximum(self._high - at, 0.0)
        low, high = np.where(self._absolute, self._low, low), np.where(self._absolute, self._high, high)
        return np.clip(target, low, high)

    def _check_measured(self, spec: RobotSpec) -> None:
        for i, name in enumerate(spec.command.names):
            if np.isfinite(self._low[i]) and not self._absolute[i] and self._measured[i] < 0:
                axis = axis_of(name)[0]
                raise ConfigError(
                    f"guard.limits.{axis}: {name} moves an axis that {spec.model} does not measure, allowed one whose "
                    f"position is in its state; remove the key"
                )


class FeltLimits:
    """What may be measured. Raises ConfigError for limits that cannot be."""

    def __init__(self, spec: RobotSpec, config: GuardConfig) -> None:
        self._state = spec.state
        bounds = _state_bounds(spec, config)
        for i, (low, high) in _measured_axis_bounds(spec, config).items():
            more = config.tolerance * (high - low)
            bounds.setdefault(i, (low - more, high + more))
        self._bounds = sorted(bounds.items())
        self._norms = [
            *_norms(spec.state, "force", "max_force_n", config.max_force_n),
            *_norms(spec.state, "torque", "max_torque_nm", config.max_torque_nm),
        ]

    @property
    def any(self) -> bool:
        """Whether anything is limited."""
        return bool(self._bounds or self._norms)

    def broken(self, values: Array) -> str | None:
        """The first limit that the reading `values` [S] breaks, in words."""
        for i, (low, high) in self._bounds:
            if not low <= values[i] <= high:
                unit = f" {self._state.units[i]}" if self._state.units[i] else ""
                return (
                    f"{self._state.names[i]} = {values[i]:.4g}{unit}, allowed [{low:.4g}, {high:.4g}]; look at the "
                    "robot, bring it back inside, start again"
                )
        for name, elements, most, unit in self._norms:
            size = float(np.linalg.norm(values[elements]))
            if not size <= most:
                return f"{name} = {size:.4g} {unit}, allowed {most:.4g}; look at what it touches, free it, start again"
        return None


def _index(found: int | None) -> int:
    return -1 if found is None else found


def _axis_bounds(axes: Sequence[str], spec: RobotSpec, config: GuardConfig) -> dict[int, Bounds]:
    """By element of the command."""
    found: dict[int, Bounds] = {}
    for i, axis in enumerate(axes):
        for key, value in config.limits.items():
            if fnmatchcase(axis, key):
                if axis_of(spec.command.names[i])[1] is None:
                    raise ConfigError(
                        f"guard.limits.{key}: {spec.command.names[i]} is neither a target nor a delta, allowed axes of "
                        f"{spec.model} that are; remove the key"
                    )
                found[i] = _bounds(f"guard.limits.{key}", value)
    return found


def _measured_axis_bounds(spec: RobotSpec, config: GuardConfig) -> dict[int, Bounds]:
    """By element of the state; every key of `limits` must be an axis that is measured or commanded."""
    measured = {name.removesuffix(".position").removesuffix(".pos"): i for i, name in enumerate(spec.state.names)}
    commanded = {axis_of(name)[0] for name in spec.command.names}
    found: dict[int, Bounds] = {}
    for key, value in config.limits.items():
        axes = [axis for axis in {*measured, *commanded} if fnmatchcase(axis, key)]
        if not axes:
            allowed = ", ".join(sorted(commanded | {a for a, i in measured.items() if _is_place(spec.state.names[i])}))
            raise ConfigError(f"guard.limits.{key}: {spec.model} has no such axis, allowed {allowed}; change the key")
        found |= {measured[axis]: _bounds(f"guard.limits.{key}", value) for axis in axes if axis in measured}
    return found


def _is_place(name: str) -> bool:
    return name.endswith((".position", ".pos")) or name.rpartition(".")[0] == "tip"


def _state_bounds(spec: RobotSpec, config: GuardConfig) -> dict[int, Bounds]:
    found: dict[int, Bounds] = {}
    for key, value in config.state_limits.items():
        elements = [i for i, name in enumerate(spec.state.names) if fnmatchcase(name, key)]
        if not elements:
            allowed = ", ".join(spec.state.names)
            raise ConfigError(f"guard.state_limits.{key}: no such element, allowed {allowed}; change the key")
        found |= dict.fromkeys(elements, _bounds(f"guard.state_limits.{key}", value))
    return found


def _norms(state: Box, what: str, key: str, most: float | None) -> list[tuple[str, list[int], float, str]]:
    """(name, elements, limit, unit) of each vector of that kind in the state."""
    if most is None:
        return []
    vectors: dict[str, list[int]] = {}
    for i, name in enumerate(state.names):
        stem, _, axis = name.rpartition(".")
        if axis in "xyz" and stem.rpartition(".")[2] == what:
            vectors.setdefault(stem, []).append(i)
    if not vectors:
        raise ConfigError(
            f"guard.{key} = {most:g}, but the robot measures no {what} (NAME.{what}.x, .y, .z); remove the key, or "
            "limit what it measures by guard.state_limits"
        )
    return [(stem, elements, most, state.units[elements[0]]) for stem, elements in vectors.items()]


def _max_change(spec: RobotSpec, config: GuardConfig) -> Array | None:
    if not config.max_change:
        return None
    if len(config.max_change) != len(spec.command.names) or min(config.max_change) <= 0:
        raise ConfigError(
            f"guard.max_change = {list(config.max_change)}, allowed {len(spec.command.names)} positive numbers "
            f"({', '.join(spec.command.names)}) or []; change its value"
        )
    return np.asarray(config.max_change, np.float32)


def _speeds(
    axes: Sequence[str], kinds: Sequence[tuple[str, Way | None]], command: Box, config: GuardConfig
) -> Array | None:
    """[C] unit/s, infinite where there is no limit."""
    if not config.max_speed:
        return None
    found = np.full(len(axes), np.inf)
    for key, speed in config.max_speed.items():
        hit = [i for i, axis in enumerate(axes) if fnmatchcase(axis, key) and kinds[i][1] is not None]
        if not hit:
            allowed = ", ".join(axis for axis, kind in kinds if kind is not None) or "none of this robot's"
            raise ConfigError(
                f"guard.max_speed.{key}: no such axis in {command.name}, allowed {allowed}; change the key"
            )
        found[hit] = speed
    return found


def _bounds(key: str, value: Any) -> Bounds:  # noqa: ANN401  # what a configuration holds
    try:
        low, high = (float(x) for x in value)
    except (TypeError, ValueError) as error:
        raise ConfigError(f"{key} = {value!r}, allowed [low, high]; change it") from error
    if not low < high:
        raise ConfigError(f"{key} = [{low:g}, {high:g}], allowed low < high; change one of them")
    return low, high
