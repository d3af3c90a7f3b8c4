"""What a configuration may name, and how a cell is made of it. Vendor SDKs load when their driver is made, not before.

Adding a driver: one file, and one line in a table below.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, TypeVar

import numpy as np

from hal.camera import Camera
from hal.cell import Cell
from hal.embodiment import Embodied, EmbodiedTeleop, Layout
from hal.end_effector import DeltaEndEffector
from hal.guard import GuardConfig, Guarded
from hal.gymnasium import GymnasiumConfig, GymnasiumRobot, GymnasiumTask, GymnasiumTaskConfig
from hal.joints import DeltaJoints, JointOperator
from hal.robot import Robot
from hal.sim.arms import ARM6, PANDA, Arm, SimArmConfig
from hal.sim.button_press import ButtonPress, ButtonPressConfig
from hal.sim.camera import SimCamera, SimCameraConfig
from hal.sim.cap_tightening import CapTightening, CapTighteningConfig
from hal.sim.charger_plugging import ChargerPlugging, ChargerPluggingConfig
from hal.sim.operator import ScriptedOperator, ScriptedOperatorConfig
from hal.sim.peg_insertion import PegInsertion, PegInsertionConfig
from hal.sim.pick_and_place import PickAndPlace, PickAndPlaceConfig
from hal.sim.script import Scripted
from hal.sim.sighted import Scenic, Sighted
from hal.sim.table_cleanup import TableCleanup, TableCleanupConfig
from hal.sim.tools import Tool
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
    layout: Layout | None = None  # what it has in common with the other cells of a run; None: they are all alike


@dataclass(frozen=True, kw_only=True)
class Parts:
    """What a part is made from: the clock, a seed, and the parts made before it (the robot without its guard)."""

    clock: Clock
    seed: int
    name: str = ""  # of a camera
    tool: Tool = Tool.PEG  # what a simulated arm holds
    robot: Any = None
    task: Any = None


Choice = tuple[type, Callable[[Any, Parts], T]]  # a driver's config, and what makes the driver


def make_cell(config: CellConfig, *, name: str, clock: Clock, seed: int) -> Cell:
    """A closed cell, its robot guarded; raises ConfigError naming the key, its value and what is allowed."""
    seeds = [int(s) for s in np.random.SeedSequence(seed).generate_state(3)]
    robot = _make(ROBOTS, config.robot, "robot", Parts(clock=clock, seed=seeds[0], tool=_tool(config.task)))
    hand = robot.hand if isinstance(robot, DeltaJoints) else robot
    task = _make(TASKS, config.task, "task", Parts(clock=clock, seed=seeds[1], robot=hand))
    parts = Parts(clock=clock, seed=seeds[2], robot=_sighted(hand, task), task=task)
    cameras = {
        key: _make(CAMERAS, tree, f"cameras.{key}", replace(parts, name=key)) for key, tree in config.cameras.items()
    }
    teleop = _make(TELEOPS, config.teleop, "teleop", parts) if config.teleop else None
    if isinstance(robot, DeltaJoints) and teleop is not None:
        teleop = JointOperator(teleop, robot)
    guarded = Guarded(_sighted(robot, task), config.guard, clock=clock)
    cell = Cell(name=name, robot=guarded, task=task, cameras=cameras, teleop=teleop)
    return cell if config.layout is None else _embodied(cell, config.layout)


def _embodied(cell: Cell, layout: Layout) -> Cell:
    robot = Embodied(cell.robot, layout, task=cell.task.name)
    return replace(cell, robot=robot, teleop=EmbodiedTeleop(cell.teleop, robot) if cell.teleop else None)


def _make(table: Mapping[str, Choice[T]], tree: Mapping[str, Any], path: str, parts: Parts) -> T:
    name = tree.get("name")
    if name not in table:
        raise ConfigError(f"{path}.name = {name}, allowed {', '.join(table)}; choose one of these")
    cls, make = table[str(name)]
    return make(build(cls, {key: value for key, value in tree.items() if key != "name"}, f"{path}."), parts)


def _sighted(robot: Robot, task: Task) -> Robot:
    return Sighted(robot, task) if isinstance(task, Scenic) else robot


def _tool(task: Mapping[str, Any]) -> Tool:
    """What the task's config wants in the hand; the peg where it wants nothing."""
    config, _ = TASKS.get(str(task.get("name")), (None, None))
    return getattr(config, "tool", Tool.PEG)


def _sim_robot(arm: Arm) -> Callable[[SimArmConfig, Parts], Robot]:
    def make(config: SimArmConfig, parts: Parts) -> Robot:
        try:
            from hal.sim.robot import make_sim_robot
        except ImportError as error:
            raise ConfigError(f"robot={arm.model} needs {error.name}; pip install 'user-rl[sim]'") from error
        return make_sim_robot(arm, config, parts.tool, clock=parts.clock)

    return make


def _gymnasium_robot(config: GymnasiumConfig, parts: Parts) -> Robot:
    return GymnasiumRobot(config, clock=parts.clock, seed=parts.seed)


def _gymnasium_task(config: GymnasiumTaskConfig, parts: Parts) -> Task:
    if not isinstance(parts.robot, GymnasiumRobot):
        raise ConfigError(f"task=gymnasium on {parts.robot.spec.model}, allowed on robot=gymnasium; choose that robot")
    return GymnasiumTask(config, parts.robot)


def _sim_task(name: str, cls: Callable[[Any, Any, Any], Task]) -> Callable[[Any, Parts], Task]:
    return lambda config, parts: cls(config, *_simulated(parts, f"task={name}"))


def _sim_camera(config: SimCameraConfig, parts: Parts) -> Camera:
    hand, arm = _simulated(parts, f"cameras.{parts.name}")
    return SimCamera(config, arm.world, name=parts.name, origin_m=hand.config.origin_m, clock=parts.clock)


def _scripted_operator(config: ScriptedOperatorConfig, parts: Parts) -> Teleop:
    _simulated(parts, "teleop=scripted")
    if not isinstance(parts.task, Scripted):
        raise ConfigError(f"teleop=scripted at task={parts.task.name}, which has no script; choose another teleop")
    script = parts.task.script(config.hover_m)
    return ScriptedOperator(config, parts.robot, script, clock=parts.clock, seed=parts.seed)


def _fake_task(config: FakeTaskConfig, parts: Parts) -> Task:
    if not isinstance(parts.robot, FakeRobot | CoastingRobot):
        raise ConfigError(
            f"task=fake on {parts.robot.spec.model}, allowed on robot=fake or coasting; choose one of these"
        )
    return FakeTask(config, parts.robot)


def _simulated(parts: Parts, who: str) -> Any:  # noqa: ANN401  # (hand, arm); the arm's type would load mujoco
    hand = parts.robot
    while not isinstance(hand, DeltaEndEffector) and hasattr(hand, "robot"):
        hand = hand.robot
    if not (isinstance(hand, DeltaEndEffector) and hasattr(hand.robot, "world")):
        allowed = " or ".join(f"robot={name}" for name, (cls, _) in ROBOTS.items() if cls is SimArmConfig)
        raise ConfigError(f"{who} on {parts.robot.spec.model}, allowed on {allowed}; choose one of these")
    return hand, hand.robot


ROBOTS: dict[str, Choice[Robot]] = {
    PANDA.model: (SimArmConfig, _sim_robot(PANDA)),
    ARM6.model: (SimArmConfig, _sim_robot(ARM6)),
    "gymnasium": (GymnasiumConfig, _gymnasium_robot),
    "fake": (FakeRobotConfig, lambda config, parts: FakeRobot(config, clock=parts.clock)),
    "coasting": (CoastingConfig, lambda config, parts: CoastingRobot(config)),
}
TASKS: dict[str, Choice[Task]] = {
    "peg_insertion": (PegInsertionConfig, _sim_task("peg_insertion", PegInsertion)),
    "button_press": (ButtonPressConfig, _sim_task("button_press", ButtonPress)),
    "charger_plugging": (ChargerPluggingConfig, _sim_task("charger_plugging", ChargerPlugging)),
    "pick_and_place": (PickAndPlaceConfig, _sim_task("pick_and_place", PickAndPlace)),
    "cap_tightening": (CapTighteningConfig, _sim_task("cap_tightening", CapTightening)),
    "table_cleanup": (TableCleanupConfig, _sim_task("table_cleanup", TableCleanup)),
    "gymnasium": (GymnasiumTaskConfig, _gymnasium_task),
    "fake": (FakeTaskConfig, _fake_task),
}
CAMERAS: dict[str, Choice[Camera]] = {
    "sim": (SimCameraConfig, _sim_camera),
    "fake": (FakeCameraConfig, lambda config, parts: FakeCamera(config, name=parts.name, clock=parts.clock)),
}
TELEOPS: dict[str, Choice[Teleop]] = {
    "scripted": (ScriptedOperatorConfig, _scripted_operator),
    "fake": (FakeTeleopConfig, lambda config, parts: FakeTeleop(config, robot=parts.robot, clock=parts.clock)),
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
    },
    "teleop": {"none": {}, **_nodes(TELEOPS)},
}
