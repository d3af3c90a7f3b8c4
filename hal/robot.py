"""Robot: the one interface that every arm, hand, base, composite and remote proxy keeps.

A driver opens, reads, commands, halts and closes; nothing else. Limits are `Guarded`'s, reconnection is the edge's,
cameras are their own. `hal.kits.check_robot` is the contract as a program.
"""

from dataclasses import dataclass
from enum import StrEnum
from typing import Protocol, runtime_checkable

import msgspec

from user_rl.specs import Array, Box


class OnSilence(StrEnum):
    """What the robot itself does when commands stop coming."""

    STOPS = "stops"  # its own watchdog stops it
    OUT_OF_BAND = "out_of_band"  # another process must run `halt_command`
    NONE = "none"  # goes on with the last command: the daemon refuses without an explicit flag


@dataclass(frozen=True, kw_only=True)
class RobotSpec:
    """What a robot is: model, measured state, accepted command, rate, and what silence does to it."""

    model: str
    state: Box  # what `read` returns; an element that cannot be measured is absent
    command: Box  # what `command` accepts
    rate_hz: float
    on_silence: OnSilence
    halt_command: tuple[str, ...] = ()  # argv of the out-of-band halt


class RobotState(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """One reading. `stamp_s` is when it was measured, on the driver's Clock."""

    stamp_s: float
    values: Array  # [S] float32, as spec.state says


class Robot(Protocol):
    """An arm, a hand, several of them, or one far away. All calls come from one thread."""

    @property
    def spec(self) -> RobotSpec: ...

    def open(self) -> None:
        """Connects; raises RobotUnreachable. Calling it twice is an error of the caller."""

    def read(self) -> RobotState:
        """The newest measurement; raises RobotUnreachable when not open, RobotFault when latched."""

    def command(self, target: Array) -> Array:
        """Sends `target` [C] and returns what was really sent; raises SpecError, RobotUnreachable, RobotFault."""

    def halt(self) -> None:
        """Stops all motion now; safe to call at any time, any number of times, open or not."""

    def close(self) -> None:
        """Lets go of the device; safe to call twice. A closed robot is not moving."""


@runtime_checkable
class TellsEmergencyStop(Protocol):
    """A robot that can say, beside the rest, how its emergency stop stands. Daemon and doctor ask."""

    def emergency_stop_pressed(self) -> bool:
        """Whether motion is barred by it; raises RobotUnreachable."""


def tells_emergency_stop(robot: Robot) -> TellsEmergencyStop | None:
    """The layer of `robot` that can say so, outermost first; None: no layer can."""
    layer: object = robot
    while layer is not None:
        if isinstance(layer, TellsEmergencyStop):
            return layer
        layer = getattr(layer, "robot", None)
    return None
