"""The slider's config."""

from dataclasses import dataclass

from lerobot.robots.config import RobotConfig


@RobotConfig.register_subclass("slider")
@dataclass(kw_only=True)
class SliderConfig(RobotConfig):
    """Nothing of its own."""
