"""Camera: frames with stamps. `hal.kits.check_camera` is the contract as a program."""

from typing import Protocol

import msgspec

from user_rl.specs import Array, Image


class Frame(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """One picture. `stamp_s` is when it was exposed, on the driver's Clock."""

    stamp_s: float
    pixels: Array  # [H, W, 3] uint8


class Camera(Protocol):
    """A source of frames of one fixed size."""

    @property
    def spec(self) -> Image: ...

    def open(self) -> None:
        """Starts the stream; raises HardwareError."""

    def read(self) -> Frame:
        """The newest frame, never blocking longer than one frame period; raises SensorStale, HardwareError."""

    def close(self) -> None:
        """Stops the stream; safe to call twice."""
