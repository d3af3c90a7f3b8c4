"""A leader arm: three joints that somebody's hand moves a little further at every look."""

from dataclasses import dataclass
from typing import Any

from lerobot.teleoperators import Teleoperator, TeleoperatorConfig

MOTORS = ("shoulder", "elbow", "gripper")


@TeleoperatorConfig.register_subclass("planar_leader")
@dataclass(kw_only=True)
class PlanarLeaderConfig(TeleoperatorConfig):
    """Where it is plugged in."""

    port: str


class PlanarLeader(Teleoperator):
    """It moves by one degree at a time."""

    config_class = PlanarLeaderConfig
    name = "planar_leader"

    def __init__(self, config: PlanarLeaderConfig) -> None:
        super().__init__(config)
        self.looks = 0
        self._is_connected = False

    @property
    def action_features(self) -> dict[str, Any]:
        return {f"{motor}.pos": float for motor in MOTORS}

    @property
    def feedback_features(self) -> dict[str, Any]:
        return {}

    @property
    def is_connected(self) -> bool:
        return self._is_connected

    @property
    def is_calibrated(self) -> bool:
        return True

    def connect(self, calibrate: bool = True) -> None:
        self._is_connected = True

    def calibrate(self) -> None:
        """Nothing to measure."""

    def configure(self) -> None:
        """Nothing to set."""

    def get_action(self) -> dict[str, Any]:
        self.looks += 1
        return {f"{motor}.pos": float(self.looks) for motor in MOTORS}

    def send_feedback(self, feedback: dict[str, Any]) -> None:
        raise NotImplementedError

    def disconnect(self) -> None:
        self._is_connected = False
