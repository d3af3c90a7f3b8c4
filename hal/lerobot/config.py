"""What the bridge to LeRobot may be told. LeRobot's features have names and no bounds: these are given here."""

from dataclasses import dataclass, field
from typing import Any

from hal.robot import OnSilence


@dataclass(frozen=True, kw_only=True)
class LeRobotConfig:
    """A robot of LeRobot's. Bounds are {feature: [low, high, unit]}; a feature may be a pattern, as `*.pos`."""

    type: str  # LeRobot's name: so101_follower, or a plugin's
    python: str  # the interpreter of LeRobot's environment
    options: dict[str, Any] = field(default_factory=dict)  # of that type: port, id, cameras
    bounds: dict[str, Any] = field(default_factory=dict)  # of what is commanded, and of what is measured
    state_bounds: dict[str, Any] = field(default_factory=dict)  # of what is measured, where that is another range
    ignore: tuple[str, ...] = ()  # measured features that are left out
    hold: dict[str, Any] = field(default_factory=dict)  # {feature: value that keeps it still}, where it is not measured
    on_silence: OnSilence | None = None  # None: stops if all commands are positions (.pos), else none
    rate_hz: float = 30.0
    start_s: float = 90.0  # LeRobot imports, and makes the robot
    open_s: float = 60.0
    deadline_s: float = 0.5


@dataclass(frozen=True, kw_only=True)
class LeRobotCameraConfig:
    """A camera of the LeRobot robot of this cell."""

    key: str | None = None  # its name there; None: as here


@dataclass(frozen=True, kw_only=True)
class LeRobotTeleopConfig:
    """A teleoperator of LeRobot's. One without events of its own drives demonstrations, and never takes over."""

    type: str  # LeRobot's name: so101_leader, gamepad, or a plugin's
    python: str  # the interpreter of LeRobot's environment
    options: dict[str, Any] = field(default_factory=dict)
    bounds: dict[str, Any] = field(default_factory=dict)  # see LeRobotConfig
    start_s: float = 90.0
    open_s: float = 60.0
    deadline_s: float = 0.25
