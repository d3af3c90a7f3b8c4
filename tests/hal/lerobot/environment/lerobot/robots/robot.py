"""As `lerobot.robots.robot`."""

import abc
from typing import Any

from .config import RobotConfig


class Robot(abc.ABC):
    """The base of every robot."""

    config_class: type[RobotConfig]
    name: str

    def __init__(self, config: RobotConfig) -> None:
        self.robot_type, self.id = self.name, config.id

    def __str__(self) -> str:
        return f"{self.id} {self.__class__.__name__}"

    @property
    @abc.abstractmethod
    def observation_features(self) -> dict[str, Any]: ...

    @property
    @abc.abstractmethod
    def action_features(self) -> dict[str, Any]: ...

    @property
    @abc.abstractmethod
    def is_connected(self) -> bool: ...

    @abc.abstractmethod
    def connect(self, calibrate: bool = True) -> None: ...

    @property
    @abc.abstractmethod
    def is_calibrated(self) -> bool: ...

    @abc.abstractmethod
    def calibrate(self) -> None: ...

    @abc.abstractmethod
    def configure(self) -> None: ...

    @abc.abstractmethod
    def get_observation(self) -> dict[str, Any]: ...

    @abc.abstractmethod
    def send_action(self, action: dict[str, Any]) -> dict[str, Any]: ...

    @abc.abstractmethod
    def disconnect(self) -> None: ...
