"""As `lerobot.robots.utils`."""

from typing import Any

from lerobot.utils.import_utils import make_device_from_device_class

from .config import RobotConfig


def make_robot_from_config(config: RobotConfig) -> Any:  # noqa: ANN401
    return make_device_from_device_class(config)
