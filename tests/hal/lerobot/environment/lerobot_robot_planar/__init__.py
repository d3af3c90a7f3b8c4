"""A robot plugin of LeRobot's shape: two joints and a gripper that follow their goals, and a camera."""

from .config_planar import PlanarConfig
from .planar import Planar

__all__ = ["Planar", "PlanarConfig"]
