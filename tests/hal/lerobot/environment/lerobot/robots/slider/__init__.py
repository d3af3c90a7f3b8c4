"""A device of LeRobot's own, registered when its package is imported: one axis driven by its speed."""

from .config_slider import SliderConfig
from .slider import Slider

__all__ = ["Slider", "SliderConfig"]
