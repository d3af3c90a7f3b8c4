"""Robots: what `robot.name` may be, and how each is made. Vendor SDKs load when their driver is opened, not before."""

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

import numpy as np

from hal.composite import Composite, CompositeConfig
from hal.dh import FRANKA_FLANGE_M, FRANKA_HAND_RAD, FRANKA_HOME, FRANKA_LINKS, UR_HOME, UR_LINKS, mjcf
from hal.driver import Parts
from hal.end_effector import DeltaEndEffector, EndEffectorConfig
from hal.franka import Franka, FrankaConfig
from hal.gymnasium import GymnasiumConfig, GymnasiumRobot
from hal.lerobot.config import LeRobotConfig
from hal.remote.config import RemoteConfig
from hal.robot import Robot
from hal.robotiq import Robotiq, RobotiqConfig
from hal.sim.arms import ARM6, PANDA, Arm, SimArmConfig
from hal.so101 import So101, So101Config
from hal.tables.choose import Choice, choose
from hal.testing import CoastingConfig, CoastingRobot, FakeRobot, FakeRobotConfig
from hal.ur import Ur, UrConfig
from hal.xarm import XArm, XArmConfig
from user_rl.errors import ConfigError


def make_robot(tree: Mapping[str, Any], parts: Parts, *, path: str = "robot") -> Robot:
    """The robot that `tree` names, closed and without a guard; raises ConfigError."""
    return choose("robot", ROBOTS, tree, path, parts)


def _sim_robot(arm: Arm) -> Callable[[SimArmConfig, Parts], Robot]:
    def make(config: SimArmConfig, parts: Parts) -> Robot:
        try:
            from hal.sim.robot import make_sim_robot
        except ImportError as error:
            raise ConfigError(f"robot={arm.model} needs {error.name}; pip install 'user-rl[sim]'") from error
        return make_sim_robot(arm, config, parts.tool, clock=parts.clock)

    return make


def _ur(config: UrConfig, parts: Parts) -> Robot:
    xml = mjcf(UR_LINKS[config.model], tip_m=config.tool_m)
    return _handed(Ur(config, clock=parts.clock), config.hand, xml, UR_HOME)


def _franka(config: FrankaConfig, parts: Parts) -> Robot:
    xml = mjcf(FRANKA_LINKS, tip_m=FRANKA_FLANGE_M + config.tool_m, tip_rad=FRANKA_HAND_RAD)
    return _handed(Franka(config, clock=parts.clock), config.hand, xml, FRANKA_HOME)


def _handed(arm: Robot, hand: EndEffectorConfig | None, xml: str, home: tuple[float, ...]) -> Robot:
    """The arm itself, commanded by joint angles, or by steps of its tip where its `hand` is configured."""
    if hand is None:
        return arm
    try:
        from hal.kinematics import MinkKinematics
    except ImportError as error:
        raise ConfigError(f"robot.hand needs {error.name}; pip install 'user-rl[sim]'") from error
    return DeltaEndEffector(arm, MinkKinematics(xml, np.array(home), period_s=1.0 / arm.spec.rate_hz), hand)


def _composite(config: CompositeConfig, parts: Parts) -> Robot:
    made = {
        name: make_robot(tree, replace(parts, seed=parts.seed + i), path=f"robot.parts.{name}")
        for i, (name, tree) in enumerate(config.parts.items())
    }
    return Composite(made)


def _gymnasium_robot(config: GymnasiumConfig, parts: Parts) -> Robot:
    return GymnasiumRobot(config, clock=parts.clock, seed=parts.seed)


def _remote_robot(config: RemoteConfig, parts: Parts) -> Robot:
    from hal.remote.client import RemoteRobot  # here: nobody else needs sockets

    return RemoteRobot(config, clock=parts.clock)


def _lerobot_robot(config: LeRobotConfig, parts: Parts) -> Robot:
    from hal.lerobot.driver import LeRobotRobot

    return LeRobotRobot(config, clock=parts.clock)


ROBOTS: dict[str, Choice[Robot]] = {
    PANDA.model: (SimArmConfig, _sim_robot(PANDA)),
    ARM6.model: (SimArmConfig, _sim_robot(ARM6)),
    "ur": (UrConfig, _ur),
    "franka": (FrankaConfig, _franka),
    "gymnasium": (GymnasiumConfig, _gymnasium_robot),
    "so101": (So101Config, lambda config, parts: So101(config, clock=parts.clock)),
    "robotiq": (RobotiqConfig, lambda config, parts: Robotiq(config, clock=parts.clock)),
    "xarm": (XArmConfig, lambda config, parts: XArm(config, clock=parts.clock)),
    "composite": (CompositeConfig, _composite),
    "fake": (FakeRobotConfig, lambda config, parts: FakeRobot(config, clock=parts.clock)),
    "coasting": (CoastingConfig, lambda config, parts: CoastingRobot(config)),
    "remote": (RemoteConfig, _remote_robot),
    "lerobot": (LeRobotConfig, _lerobot_robot),
}
