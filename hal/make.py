"""What a configuration may name, and how a cell is made of it. Vendor SDKs load when their driver is made, not before.

Adding a driver: one file, and one line in a table below. Other packages add theirs by entry points (`hal.driver`).
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, TypeVar

import numpy as np

from hal import plugins
from hal.camera import Camera
from hal.cell import Cell
from hal.driver import Parts
from hal.end_effector import DeltaEndEffector
from hal.guard import GuardConfig, Guarded
from hal.gymnasium import GymnasiumConfig, GymnasiumRobot, GymnasiumTask, GymnasiumTaskConfig
from hal.lerobot.config import LeRobotCameraConfig, LeRobotConfig, LeRobotTeleopConfig
from hal.remote.config import RemoteConfig
from hal.robot import Robot
from hal.sim.arms import ARM6, PANDA, Arm, SimArmConfig
from hal.sim.camera import SimCamera, SimCameraConfig
from hal.sim.operator import ScriptedOperator, ScriptedOperatorConfig
from hal.sim.peg_insertion import PegInsertion, PegInsertionConfig
from hal.task import Task
from hal.teleop import Teleop
from hal.testing import (
    CoastingConfig,
    CoastingRobot,
    FakeCamera,
    FakeCameraConfig,
    FakeRobot,
    FakeRobotConfig,
    FakeTask,
    FakeTaskConfig,
    FakeTeleop,
    FakeTeleopConfig,
)
from user_rl.clock import Clock
from user_rl.config import Tree, build, defaults
from user_rl.errors import ConfigError

T = TypeVar("T")


@dataclass(frozen=True, kw_only=True)
class CellConfig:
    """The parts of a cell: trees with a `name` out of the tables below and that driver's own keys."""

    robot: dict[str, Any]
    task: dict[str, Any]
    cameras: dict[str, dict[str, Any]] = field(default_factory=dict)
    teleop: dict[str, Any] | None = None  # None or {}: nobody
    guard: GuardConfig = field(default_factory=GuardConfig)


Choice = tuple[type, Callable[[Any, Parts], T]]  # as hal.driver.Driver


def make_cell(config: CellConfig, *, name: str, clock: Clock, seed: int) -> Cell:
    """A closed cell, its robot guarded; raises ConfigError naming the key, its value and what is allowed."""
    seeds = [int(s) for s in np.random.SeedSequence(seed).generate_state(3)]
    robot = make_robot(config.robot, Parts(clock=clock, seed=seeds[0]))
    task = _make("task", TASKS, config.task, "task", Parts(clock=clock, seed=seeds[1], robot=robot))
    parts = Parts(clock=clock, seed=seeds[2], robot=robot, task=task)
    cameras = {key: make_camera(key, tree, parts) for key, tree in config.cameras.items()}
    teleop = make_teleop(config.teleop, parts) if config.teleop else None
    guarded = Guarded(robot, config.guard, clock=clock)
    return Cell(name=name, robot=guarded, task=task, cameras=cameras, teleop=teleop)


def make_robot(tree: Mapping[str, Any], parts: Parts) -> Robot:
    """The robot that `tree` names, closed and without a guard; raises ConfigError."""
    return _make("robot", ROBOTS, tree, "robot", parts)


def make_camera(name: str, tree: Mapping[str, Any], parts: Parts) -> Camera:
    """The camera that `tree` names, as camera `name` of the cell; raises ConfigError."""
    return _make("cameras", CAMERAS, tree, f"cameras.{name}", replace(parts, name=name))


def make_teleop(tree: Mapping[str, Any], parts: Parts) -> Teleop:
    """The teleop that `tree` names; raises ConfigError."""
    return _make("teleop", TELEOPS, tree, "teleop", parts)


def cell_store(overrides: Sequence[str]) -> dict[str, dict[str, Tree]]:
    """Hydra's groups with the names that other packages offer; those that the overrides choose have their defaults."""
    store = {group: dict(nodes) for group, nodes in STORE.items()}
    for group, nodes in store.items():
        for name in sorted(set(plugins.offers(group)) - set(nodes)):
            tree = plugins.node(group, name) if f"{group}={name}" in overrides else {"name": name}
            nodes[name] = {name: tree} if group == "cameras" else tree
    return store


def _make(group: str, table: Mapping[str, Choice[T]], tree: Mapping[str, Any], path: str, parts: Parts) -> T:
    name = str(tree.get("name"))
    if name in table:
        plugins.check_ours(group, name)
    choice = table.get(name) or plugins.driver(group, name)
    if choice is None:
        allowed = ", ".join([*table, *(n for n in plugins.offers(group) if n not in table)])
        raise ConfigError(f"{path}.name = {name}, allowed {allowed}; choose one of these")
    cls, make = choice
    return make(build(cls, {key: value for key, value in tree.items() if key != "name"}, f"{path}."), parts)


def _sim_robot(arm: Arm) -> Callable[[SimArmConfig, Parts], Robot]:
    def make(config: SimArmConfig, parts: Parts) -> Robot:
        try:
            from hal.sim.robot import make_sim_robot
        except ImportError as error:
            raise ConfigError(f"robot={arm.model} needs {error.name}; pip install 'user-rl[sim]'") from error
        return make_sim_robot(arm, config, clock=parts.clock)

    return make


def _gymnasium_robot(config: GymnasiumConfig, parts: Parts) -> Robot:
    return GymnasiumRobot(config, clock=parts.clock, seed=parts.seed)


def _gymnasium_task(config: GymnasiumTaskConfig, parts: Parts) -> Task:
    if not isinstance(parts.robot, GymnasiumRobot):
        raise ConfigError(f"task=gymnasium on {parts.robot.spec.model}, allowed on robot=gymnasium; choose that robot")
    return GymnasiumTask(config, parts.robot)


def _peg_insertion(config: PegInsertionConfig, parts: Parts) -> Task:
    return PegInsertion(config, *_simulated(parts, "task=peg_insertion"))


def _sim_camera(config: SimCameraConfig, parts: Parts) -> Camera:
    hand, arm = _simulated(parts, f"cameras.{parts.name}")
    return SimCamera(config, arm.world, name=parts.name, origin_m=hand.config.origin_m, clock=parts.clock)


def _scripted_operator(config: ScriptedOperatorConfig, parts: Parts) -> Teleop:
    hand, _ = _simulated(parts, "teleop=scripted")
    return ScriptedOperator(config, hand, clock=parts.clock, seed=parts.seed)


def _fake_task(config: FakeTaskConfig, parts: Parts) -> Task:
    if not isinstance(parts.robot, FakeRobot | CoastingRobot):
        raise ConfigError(
            f"task=fake on {parts.robot.spec.model}, allowed on robot=fake or coasting; choose one of these"
        )
    return FakeTask(config, parts.robot)


def _remote_robot(config: RemoteConfig, parts: Parts) -> Robot:
    from hal.remote.client import RemoteRobot  # here: nobody else needs sockets

    return RemoteRobot(config, clock=parts.clock)


def _remote_camera(config: RemoteConfig, parts: Parts) -> Camera:
    from hal.remote.client import RemoteCamera

    return RemoteCamera(config, name=parts.name, clock=parts.clock)


def _remote_teleop(config: RemoteConfig, parts: Parts) -> Teleop:
    from hal.remote.client import RemoteTeleop

    return RemoteTeleop(config, clock=parts.clock)


def _lerobot_robot(config: LeRobotConfig, parts: Parts) -> Robot:
    from hal.lerobot.driver import LeRobotRobot

    return LeRobotRobot(config, clock=parts.clock)


def _lerobot_camera(config: LeRobotCameraConfig, parts: Parts) -> Camera:
    from hal.lerobot.driver import LeRobotRobot

    if not isinstance(parts.robot, LeRobotRobot):
        raise ConfigError(f"cameras.{parts.name}.name = lerobot, allowed on robot=lerobot; choose that robot")
    return parts.robot.camera(config, parts.name)


def _lerobot_teleop(config: LeRobotTeleopConfig, parts: Parts) -> Teleop:
    from hal.lerobot.driver import LeRobotTeleop

    return LeRobotTeleop(config, clock=parts.clock)


def _simulated(parts: Parts, who: str) -> Any:  # noqa: ANN401  # (hand, arm); the arm's type would load mujoco
    hand = parts.robot
    if not (isinstance(hand, DeltaEndEffector) and hasattr(hand.robot, "world")):
        allowed = " or ".join(f"robot={name}" for name, (cls, _) in ROBOTS.items() if cls is SimArmConfig)
        raise ConfigError(f"{who} on {hand.spec.model}, allowed on {allowed}; choose one of these")
    return hand, hand.robot


ROBOTS: dict[str, Choice[Robot]] = {
    PANDA.model: (SimArmConfig, _sim_robot(PANDA)),
    ARM6.model: (SimArmConfig, _sim_robot(ARM6)),
    "gymnasium": (GymnasiumConfig, _gymnasium_robot),
    "fake": (FakeRobotConfig, lambda config, parts: FakeRobot(config, clock=parts.clock)),
    "coasting": (CoastingConfig, lambda config, parts: CoastingRobot(config)),
    "remote": (RemoteConfig, _remote_robot),
    "lerobot": (LeRobotConfig, _lerobot_robot),
}
TASKS: dict[str, Choice[Task]] = {
    "peg_insertion": (PegInsertionConfig, _peg_insertion),
    "gymnasium": (GymnasiumTaskConfig, _gymnasium_task),
    "fake": (FakeTaskConfig, _fake_task),
}
CAMERAS: dict[str, Choice[Camera]] = {
    "sim": (SimCameraConfig, _sim_camera),
    "fake": (FakeCameraConfig, lambda config, parts: FakeCamera(config, name=parts.name, clock=parts.clock)),
    "remote": (RemoteConfig, _remote_camera),
    "lerobot": (LeRobotCameraConfig, _lerobot_camera),
}
TELEOPS: dict[str, Choice[Teleop]] = {
    "scripted": (ScriptedOperatorConfig, _scripted_operator),
    "fake": (FakeTeleopConfig, lambda config, parts: FakeTeleop(config, robot=parts.robot, clock=parts.clock)),
    "remote": (RemoteConfig, _remote_teleop),
    "lerobot": (LeRobotTeleopConfig, _lerobot_teleop),
}


def _nodes(table: Mapping[str, Choice[Any]]) -> dict[str, Tree]:
    return {name: {"name": name, **defaults(cls)} for name, (cls, _) in table.items()}


STORE: dict[str, dict[str, Tree]] = {  # Hydra's groups
    "robot": _nodes(ROBOTS),
    "task": _nodes(TASKS),
    "cameras": {
        "none": {},
        "two_sim": {view: {"name": "sim", **defaults(SimCameraConfig), "view": view} for view in ("front", "wrist")},
        "fake": {"front": {"name": "fake", **defaults(FakeCameraConfig)}},
        "remote": {"front": {"name": "remote", **defaults(RemoteConfig)}},
        "lerobot": {"front": {"name": "lerobot", **defaults(LeRobotCameraConfig)}},
    },
    "teleop": {"none": {}, **_nodes(TELEOPS)},
}
