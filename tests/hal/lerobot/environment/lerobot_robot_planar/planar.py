"""The planar arm: joints in degrees, a gripper from 0 to 100, as LeRobot's arms have them."""

import os
from typing import Any

import numpy as np
from lerobot.robots import Robot
from lerobot.utils.errors import DeviceAlreadyConnectedError, DeviceNotConnectedError

from .config_planar import PlanarConfig

MOTORS = ("shoulder", "elbow", "gripper")


class Planar(Robot):
    """It is where it was last told to be, and its camera shows how often it has been looked at."""

    config_class = PlanarConfig
    name = "planar"

    def __init__(self, config: PlanarConfig) -> None:
        super().__init__(config)
        self.config = config
        self.present = dict.fromkeys(MOTORS, 10.0)
        self.looks = 0
        self._is_connected = False
        self._tell("made")

    @property
    def observation_features(self) -> dict[str, Any]:
        return {**self.action_features, "front": (4, 6, 3), "front_depth": (4, 6, 1), "is_warm": bool}

    @property
    def action_features(self) -> dict[str, Any]:
        return {f"{motor}.pos": float for motor in MOTORS}

    @property
    def is_connected(self) -> bool:
        return self._is_connected

    @property
    def is_calibrated(self) -> bool:
        return self.config.calibrated

    def connect(self, calibrate: bool = True) -> None:
        if self._is_connected:
            raise DeviceAlreadyConnectedError(f"{self} is already connected")
        if self.config.port == "/dev/nowhere":
            raise ConnectionError("no such port:\n/dev/nowhere\n")
        self._is_connected = True
        self._tell(f"connect calibrate={calibrate}")
        if calibrate and not self.is_calibrated:
            self.calibrate()

    def calibrate(self) -> None:
        input("Move the arm to the middle of its range and press ENTER")

    def configure(self) -> None:
        """Nothing to set."""

    def get_observation(self) -> dict[str, Any]:
        self._check()
        self.looks += 1
        if self.config.breaks_after is not None and self.looks > self.config.breaks_after:
            raise RuntimeError("motor 2 is overloaded")
        if self.config.dies_after is not None and self.looks > self.config.dies_after:
            os.write(2, b"a library of the vendor's gave up\n")
            os._exit(7)
        measured = {f"{motor}.pos": value for motor, value in self.present.items()}
        front = np.full((4, 6, 3), self.looks % 256, np.uint8)
        return {**measured, "front": front, "front_depth": np.zeros((4, 6, 1), np.uint16), "is_warm": True}

    def send_action(self, action: dict[str, Any]) -> dict[str, Any]:
        self._check()
        self._tell(f"send {[round(action[f'{motor}.pos'], 3) for motor in MOTORS]}")
        most = self.config.max_relative_target
        for motor in MOTORS:
            there = self.present[motor]
            self.present[motor] = min(max(action[f"{motor}.pos"], there - most), there + most)
        return {f"{motor}.pos": value for motor, value in self.present.items()}

    def disconnect(self) -> None:
        self._check()
        self._is_connected = False
        self._tell("disconnect")

    def _check(self) -> None:
        if not self._is_connected:
            raise DeviceNotConnectedError(f"{self} is not connected")

    def _tell(self, what: str) -> None:
        with open(self.config.journal, "a") as file:
            file.write(what + "\n")
