"""A pad, with features in the other form that LeRobot's gamepad has, a bare connect(), and events by their enum."""

from dataclasses import dataclass
from enum import Enum
from typing import Any

import numpy as np
from lerobot.teleoperators import TeleoperatorConfig

from .planar_leader import PlanarLeader


class TeleopEvents(Enum):
    """As `lerobot.teleoperators.utils.TeleopEvents`."""

    SUCCESS = "success"
    FAILURE = "failure"
    RERECORD_EPISODE = "rerecord_episode"
    IS_INTERVENTION = "is_intervention"
    TERMINATE_EPISODE = "terminate_episode"


@TeleoperatorConfig.register_subclass("planar_pad")
@dataclass(kw_only=True)
class PlanarPadConfig(TeleoperatorConfig):
    """Nothing of its own."""


class PlanarPad(PlanarLeader):
    """Intervenes at its third look, and says success at its fifth."""

    config_class = PlanarPadConfig
    name = "planar_pad"

    def __init__(self, config: Any) -> None:  # noqa: ANN401
        super().__init__(config)

    @property
    def action_features(self) -> dict[str, Any]:
        return {"dtype": "float32", "shape": (3,), "names": {"delta_y": 1, "delta_x": 0, "gripper": 2}}

    def connect(self) -> None:  # type: ignore[override]
        self._is_connected = True

    def is_calibrated(self) -> bool:  # type: ignore[override]
        return True

    def get_action(self) -> dict[str, Any]:
        self.looks += 1
        return {"delta_x": np.float32(0.5), "delta_y": np.float32(-9.0), "gripper": 1}

    def get_teleop_events(self) -> dict[Any, bool]:
        look = self.looks + 1
        return {
            TeleopEvents.IS_INTERVENTION: look == 3,
            TeleopEvents.TERMINATE_EPISODE: False,
            TeleopEvents.SUCCESS: look == 5,
            TeleopEvents.RERECORD_EPISODE: False,
        }
