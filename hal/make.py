"""How a cell is made of its configuration; what that may name stands in `hal.tables` and in others' entry points."""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from hal import plugins
from hal.background import BackgroundCamera, BackgroundTeleop, blocks
from hal.cell import Cell
from hal.driver import Parts
from hal.embodiment import Embodied, Layout
from hal.guard import GuardConfig, Guarded
from hal.joints import DeltaJoints
from hal.robot import Robot
from hal.sim.sighted import Scenic, Sighted
from hal.tables.cameras import CAMERAS, make_camera
from hal.tables.choose import nodes
from hal.tables.robots import ROBOTS, make_robot
from hal.tables.tasks import TASKS, make_task, tool_of
from hal.tables.teleops import TELEOPS, make_teleop
from hal.task import Drives, Task
from hal.translated import Translated
from user_rl.clock import Clock
from user_rl.config import Tree


@dataclass(frozen=True, kw_only=True)
class CellConfig:
    """The parts of a cell: trees with a `name` out of the tables and that driver's own keys."""

    robot: dict[str, Any]
    task: dict[str, Any]
    cameras: dict[str, dict[str, Any]] = field(default_factory=dict)
    teleop: dict[str, Any] | None = None  # None or {}: nobody
    guard: GuardConfig = field(default_factory=GuardConfig)
    layout: Layout | None = None  # what it has in common with the other cells of a run; None: they are all alike


def make_cell(config: CellConfig, *, name: str, clock: Clock, seed: int, background: bool = False) -> Cell:
    """A closed cell, its robot guarded; raises ConfigError naming the key, its value and what is allowed.

    `background`: cameras and operators whose drivers wait are read on threads of their own. Time must be real then.
    """
    seeds = [int(s) for s in np.random.SeedSequence(seed).generate_state(3)]
    robot = make_robot(config.robot, Parts(clock=clock, seed=seeds[0], tool=tool_of(config.task)))
    hand = robot.hand if isinstance(robot, DeltaJoints) else robot
    task = make_task(config.task, Parts(clock=clock, seed=seeds[1], robot=hand))
    parts = Parts(clock=clock, seed=seeds[2], robot=_sighted(hand, task), task=task)
    cameras = {key: make_camera(key, tree, parts) for key, tree in config.cameras.items()}
    teleop = make_teleop(config.teleop, parts) if config.teleop else None
    if background:
        cameras = {key: BackgroundCamera(c, clock=clock) if blocks(c) else c for key, c in cameras.items()}
        teleop = BackgroundTeleop(teleop, clock=clock) if teleop is not None and blocks(teleop) else teleop
    if isinstance(robot, DeltaJoints) and teleop is not None:
        teleop = Translated(teleop, robot.spec.command, robot.steps)
    guarded = Guarded(_sighted(robot, task), config.guard, clock=clock)
    if isinstance(task, Drives):
        task.drive(guarded)
    cell = Cell(name=name, robot=guarded, task=task, cameras=cameras, teleop=teleop)
    return cell if config.layout is None else _embodied(cell, config.layout)


def _embodied(cell: Cell, layout: Layout) -> Cell:
    robot = Embodied(cell.robot, layout, task=cell.task.name)
    teleop = Translated(cell.teleop, layout.command, robot.widened) if cell.teleop else None
    return replace(cell, robot=robot, teleop=teleop)


def _sighted(robot: Robot, task: Task) -> Robot:
    return Sighted(robot, task) if isinstance(task, Scenic) else robot


def cell_store(overrides: Sequence[str]) -> dict[str, dict[str, Tree]]:
    """Hydra's groups with the names that other packages offer; those that the overrides choose have their defaults."""
    store = {group: dict(known) for group, known in STORE.items()}
    for group, known in store.items():
        for name in sorted(set(plugins.offers(group)) - set(known)):
            tree = plugins.node(group, name) if f"{group}={name}" in overrides else {"name": name}
            known[name] = {name: tree} if group == "cameras" else tree
    return store


_CAMERAS = nodes(CAMERAS)
STORE: dict[str, dict[str, Tree]] = {  # Hydra's groups
    "robot": nodes(ROBOTS),
    "task": nodes(TASKS),
    "cameras": {
        "none": {},
        "two_sim": {view: {**_CAMERAS["sim"], "view": view} for view in ("front", "wrist")},
        **{name: {"front": node} for name, node in _CAMERAS.items() if name != "sim"},
    },
    "teleop": {"none": {}, **nodes(TELEOPS)},
}
