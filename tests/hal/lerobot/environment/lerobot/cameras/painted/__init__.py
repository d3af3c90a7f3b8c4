"""A camera of LeRobot's own, registered when its package is imported."""

from dataclasses import dataclass

from lerobot.cameras.configs import CameraConfig


@CameraConfig.register_subclass("painted")
@dataclass(kw_only=True)
class PaintedConfig(CameraConfig):
    """Nothing of its own."""
