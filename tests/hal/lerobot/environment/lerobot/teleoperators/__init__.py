"""As `lerobot.teleoperators`."""

from .config import TeleoperatorConfig
from .teleoperator import Teleoperator
from .utils import make_teleoperator_from_config

__all__ = ["Teleoperator", "TeleoperatorConfig", "make_teleoperator_from_config"]
