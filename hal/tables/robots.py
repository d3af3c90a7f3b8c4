"""Robots: what `robot.name` may be, and how each is made. Vendor SDKs load when their driver is opened, not before."""

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

from hal.composite import Composite, CompositeConfig
from hal.driver import Parts
from hal.gymnasium import GymnasiumConfig, GymnasiumRobot
from hal.lerobot.config import LeRobotConfig
from hal.remote.config import RemoteConfig
from hal.robot import Robot
from hal.robotiq import Robotiq, RobotiqConfig
from hal.sim.arms import ARM6, PANDA, Arm, SimArmConfig
from hal.so101 import So101, So101Config
from hal.tables.choose import Choice, choose
from hal.testing import CoastingConfig, CoastingRobot, FakeRobot, FakeRobotConfig
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
