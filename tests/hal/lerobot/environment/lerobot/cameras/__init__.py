"""As `lerobot.cameras`."""

from .configs import CameraConfig

__all__ = ["CameraConfig"]
