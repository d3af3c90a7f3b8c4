"""Cameras: what `cameras.<camera>.name` may be, and how each is made."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from hal.camera import Camera
from hal.driver import Parts
from hal.lerobot.config import LeRobotCameraConfig
from hal.realsense import RealSense, RealSenseConfig
from hal.remote.config import RemoteConfig
from hal.sim.camera import SimCamera, SimCameraConfig
from hal.tables.choose import Choice, choose
from hal.tables.simulated import simulated
from hal.testing import FakeCamera, FakeCameraConfig
from hal.v4l2 import V4l2Camera, V4l2Config
from hal.video import VideoCamera, VideoConfig
from user_rl.errors import ConfigError


def make_camera(name: str, tree: Mapping[str, Any], parts: Parts) -> Camera:
    """The camera that `tree` names, as camera `name` of the cell; raises ConfigError."""
    return choose("cameras", CAMERAS, tree, f"cameras.{name}", replace(parts, name=name))


def _sim_camera(config: SimCameraConfig, parts: Parts) -> Camera:
    hand, arm = simulated(parts, f"cameras.{parts.name}")
    return SimCamera(config, arm.world, name=parts.name, origin_m=hand.config.origin_m, clock=parts.clock)


def _remote_camera(config: RemoteConfig, parts: Parts) -> Camera:
    from hal.remote.client import RemoteCamera

    return RemoteCamera(config, name=parts.name, clock=parts.clock)


def _lerobot_camera(config: LeRobotCameraConfig, parts: Parts) -> Camera:
    from hal.lerobot.driver import LeRobotRobot

    if not isinstance(parts.robot, LeRobotRobot):
        raise ConfigError(f"cameras.{parts.name}.name = lerobot, allowed on robot=lerobot; choose that robot")
    return parts.robot.camera(config, parts.name)


CAMERAS: dict[str, Choice[Camera]] = {
    "sim": (SimCameraConfig, _sim_camera),
    "realsense": (RealSenseConfig, lambda config, parts: RealSense(config, name=parts.name, clock=parts.clock)),
    "v4l2": (V4l2Config, lambda config, parts: V4l2Camera(config, name=parts.name, clock=parts.clock)),
    "video": (VideoConfig, lambda config, parts: VideoCamera(config, name=parts.name, clock=parts.clock)),
    "fake": (FakeCameraConfig, lambda config, parts: FakeCamera(config, name=parts.name, clock=parts.clock)),
    "remote": (RemoteConfig, _remote_camera),
    "lerobot": (LeRobotCameraConfig, _lerobot_camera),
}
