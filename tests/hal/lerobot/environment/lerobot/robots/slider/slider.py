"""The slider: what it is told it keeps doing."""

from typing import Any

from lerobot.robots.robot import Robot

from .config_slider import SliderConfig


class Slider(Robot):
    """Never moves: it is asked for its features only."""

    config_class = SliderConfig
    name = "slider"
    is_connected = False
    is_calibrated = True

    @property
    def observation_features(self) -> dict[str, Any]:
        return {"axis.pos": float}

    @property
    def action_features(self) -> dict[str, Any]:
        return {"axis.vel": float}

    def connect(self, calibrate: bool = True) -> None:
        raise NotImplementedError

    def calibrate(self) -> None:
        raise NotImplementedError

    def configure(self) -> None:
        raise NotImplementedError

    def get_observation(self) -> dict[str, Any]:
        raise NotImplementedError

    def send_action(self, action: dict[str, Any]) -> dict[str, Any]:
        raise NotImplementedError

    def disconnect(self) -> None:
        raise NotImplementedError
