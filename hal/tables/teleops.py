"""Teleops: what `teleop.name` may be, and how each is made for the robot and the task that there are."""

from collections.abc import Mapping
from typing import Any

from hal.driver import Parts
from hal.lerobot.config import LeRobotTeleopConfig
from hal.remote.config import RemoteConfig
from hal.sim.operator import ScriptedOperator, ScriptedOperatorConfig
from hal.sim.script import Scripted
from hal.so101_leader import So101Leader, So101LeaderConfig
from hal.tables.choose import Choice, choose
from hal.tables.simulated import simulated
from hal.teleop import Teleop
from hal.testing import FakeTeleop, FakeTeleopConfig
from user_rl.errors import ConfigError


def make_teleop(tree: Mapping[str, Any], parts: Parts) -> Teleop:
    """The teleop that `tree` names; raises ConfigError."""
    return choose("teleop", TELEOPS, tree, "teleop", parts)


def _scripted_operator(config: ScriptedOperatorConfig, parts: Parts) -> Teleop:
    simulated(parts, "teleop=scripted")
    if not isinstance(parts.task, Scripted):
        raise ConfigError(f"teleop=scripted at task={parts.task.name}, which has no script; choose another teleop")
    script = parts.task.script(config.hover_m)
    return ScriptedOperator(config, parts.robot, script, clock=parts.clock, seed=parts.seed)


def _remote_teleop(config: RemoteConfig, parts: Parts) -> Teleop:
    from hal.remote.client import RemoteTeleop

    return RemoteTeleop(config, clock=parts.clock)


def _lerobot_teleop(config: LeRobotTeleopConfig, parts: Parts) -> Teleop:
    from hal.lerobot.driver import LeRobotTeleop

    return LeRobotTeleop(config, clock=parts.clock)


TELEOPS: dict[str, Choice[Teleop]] = {
    "scripted": (ScriptedOperatorConfig, _scripted_operator),
    "fake": (FakeTeleopConfig, lambda config, parts: FakeTeleop(config, robot=parts.robot, clock=parts.clock)),
    "so101_leader": (
        So101LeaderConfig,
        lambda config, parts: So101Leader(config, robot=parts.robot, clock=parts.clock),
    ),
    "remote": (RemoteConfig, _remote_teleop),
    "lerobot": (LeRobotTeleopConfig, _lerobot_teleop),
}
