"""As `lerobot.teleoperators.utils`."""

from typing import Any

from lerobot.utils.import_utils import make_device_from_device_class

from .config import TeleoperatorConfig


def make_teleoperator_from_config(config: TeleoperatorConfig) -> Any:  # noqa: ANN401
    return make_device_from_device_class(config)
