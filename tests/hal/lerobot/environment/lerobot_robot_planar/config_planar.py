"""What a planar arm is configured by."""

from dataclasses import dataclass, field
from typing import Any

from lerobot.cameras import CameraConfig
from lerobot.robots import RobotConfig


@RobotConfig.register_subclass("planar")
@dataclass(kw_only=True)
class PlanarConfig(RobotConfig):
    """`journal`: a file that gets one line for everything that happens to the arm."""

    port: str
    journal: str = "/dev/null"
    calibrated: bool = True
    breaks_after: int | None = None  # observations
    dies_after: int | None = None  # observations
    max_relative_target: float = 100.0
    cameras: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        unknown = {camera["type"] for camera in self.cameras.values()} - set(CameraConfig.get_known_choices())
        if unknown:
            raise ValueError(f"no camera of type {unknown} is registered")
