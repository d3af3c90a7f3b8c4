"""Teleop: how a person (or a script in a person's place) takes over, and says success, failure, again.

Events carry LeRobot's names. `hal.kits.check_teleop` is the contract as a program.
"""

from typing import Protocol

import msgspec

from user_rl.specs import Array, Box


class TeleopReading(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """What the operator wants at this step."""

    stamp_s: float
    action: Array | None  # [A] float32 in the cell's action units; None: hands off
    is_intervention: bool = False
    success: bool = False
    failure: bool = False
    rerecord_episode: bool = False
    terminate_episode: bool = False
    is_enabled: bool = True  # the enabling device (dead-man) is held, or there is none: only then `action` counts


class Teleop(Protocol):
    """A SpaceMouse, a leader arm, a gamepad, a scripted operator."""

    @property
    def action(self) -> Box: ...

    def open(self) -> None:
        """Connects; raises HardwareError."""

    def begin(self, *, demonstrate: bool) -> None:
        """A new episode starts; with `demonstrate` the operator drives it from the first step."""

    def poll(self) -> TeleopReading:
        """What the operator does now; never blocks."""

    def close(self) -> None:
        """Lets go of the device; safe to call twice."""
