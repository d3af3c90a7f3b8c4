"""Cells: the simulated cells of a run, each as the edge reads it. They are alike, or `cells` names how they differ.

    cells: {panda: {}, arm6: {robot: arm6_sim, task: {start_spread_m: 0.03}}}

Each cell has the run's own robot, task, cameras, teleop and guard, but for what stands here: a choice by its name, or
keys. Cells that differ get a layout (`hal.embodiment`), so that one policy learns on all of them.
"""

import copy
import re
from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

from cloud.run import ALIKE
from hal.cell import Cell
from hal.embodiment import make_layout
from hal.make import STORE, CellConfig, make_cell
from user_rl.clock import FreeRunningClock
from user_rl.config import Tree, build, nearest
from user_rl.errors import ConfigError

PARTS = ("robot", "task", "cameras", "teleop", "guard")
_NAME = re.compile(r"[a-z][a-z0-9_]{0,23}")


def cell_trees(tree: Tree) -> dict[str, Tree]:
    """The configurations of the run's cells, by name; raises ConfigError for one that cannot be."""
    root = {key: tree.get(key) for key in PARTS} | {"layout": None}
    changes = tree.get("cells") or {}
    if not changes:
        return {ALIKE: root}
    trees = {name: _changed(root, changes[name], f"cells.{name}") for name in changes}
    layout = asdict(make_layout([_trial(trees[name], name, f"cells.{name}.") for name in trees]))
    return {name: each | {"layout": layout} for name, each in trees.items()}


def trial_cells(tree: Tree) -> list[Cell]:
    """Every cell, built but not opened: a wrong key of a driver is told here and not in a child's log."""
    return [_trial(each, name) for name, each in cell_trees(tree).items()]


def _trial(tree: Tree, name: str, path: str = "") -> Cell:
    try:
        return make_cell(build(CellConfig, tree), name=name, clock=FreeRunningClock(), seed=0)
    except ConfigError as error:
        raise ConfigError(f"{path}{error}") from error


def _changed(root: Tree, changes: Any, path: str) -> Tree:  # noqa: ANN401  # whatever a person wrote
    name = path.rpartition(".")[2]
    if not _NAME.fullmatch(name):
        raise ConfigError(f"{path}: allowed up to 24 small letters, digits and _, a letter first; rename the cell")
    if not isinstance(changes, Mapping):
        raise ConfigError(f"{path} = {changes!r}, allowed a group of keys; give {path}={{robot: NAME}}")
    for key in changes:
        if key not in PARTS:
            raise ConfigError(f"{path}.{key}: no such key, {nearest(str(key), list(PARTS))}")
    return root | {key: _part(root[key], value, key, f"{path}.{key}") for key, value in changes.items()}


def _part(root: Tree | None, value: Any, key: str, path: str) -> Tree:  # noqa: ANN401
    """A part of the run with changes, or another one in its place."""
    if isinstance(value, str) and key in STORE:
        if value not in STORE[key]:
            raise ConfigError(f"{path} = {value!r}: no such choice, {nearest(value, list(STORE[key]))}")
        return copy.deepcopy(STORE[key][value])
    if not isinstance(value, Mapping):
        allowed = "a choice by name or a group of keys" if key in STORE else "a group of keys"
        raise ConfigError(f"{path} = {value!r}, allowed {allowed}; change it")
    other = value.get("name", (root or {}).get("name")) != (root or {}).get("name")
    return dict(value) if other else _merged(root or {}, value)


def _merged(below: Mapping[str, Any], above: Mapping[str, Any]) -> Tree:
    pairs = {k: _merged(below[k], v) if _both_groups(below.get(k), v) else v for k, v in above.items()}
    return {**below, **pairs}


def _both_groups(below: object, above: object) -> bool:
    return isinstance(below, Mapping) and isinstance(above, Mapping)
