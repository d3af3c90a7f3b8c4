"""What a planar arm is configured by."""

from dataclasses import dataclass

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
