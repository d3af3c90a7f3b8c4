"""Embodiment: cells that differ as one kind of cell, so that one policy learns on all of them.

A layout is the union of what the cells of a run measure and accept, matched by the elements' names: two arms that
have `tip.x` share it, and a seventh joint is padding for an arm of six. `Embodied` takes a robot and a layout and *is*
a robot: it reads its own elements among the padding, then a mask of the command elements that it has, and, where the
run's cells differ, a one-hot of its model and of its task. What is commanded beyond its own elements is ignored and
comes back as the value nearest to zero. Nothing is written by hand: specs decide.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from hal.cell import Cell
from hal.robot import Robot, RobotSpec, RobotState
from user_rl.embodiment import EMBODIMENT, FLAGS, MASK, TASK
from user_rl.errors import ConfigError, SpecError
from user_rl.specs import Array, Box, box

_Row = tuple[str, str, float, float]


@dataclass(frozen=True, kw_only=True)
class Layout:
    """The state and the command that all cells of a run have in common."""

    state: Box
    command: Box


def make_layout(cells: Sequence[Cell]) -> Layout:
    """The layout of `cells`, which are as they would be without one; raises ConfigError when they do not fit."""
    _check_cameras(cells)
    specs = [cell.robot.spec for cell in cells]
    models = list(dict.fromkeys(spec.model for spec in specs))
    tasks = list(dict.fromkeys(cell.task.name for cell in cells))
    state = _union([(spec.model, spec.state) for spec in specs])
    command = _union([(spec.model, spec.command) for spec in specs])
    flags = [MASK + name for name, *_ in command]
    flags += [EMBODIMENT + model for model in models] if len(models) > 1 else []
    flags += [TASK + task for task in tasks] if len(tasks) > 1 else []
    return Layout(
        state=box("observation.state", [*state, *((name, "", 0.0, 1.0) for name in flags)]),
        command=box("action", command),
    )


class Embodied:
    """See hal.robot.Robot."""

    def __init__(self, robot: Robot, layout: Layout, *, task: str) -> None:
        self.robot = robot
        own = robot.spec
        self._spec = replace(own, state=layout.state, command=layout.command)
        self._state = _places(own.state, layout.state, own.model)
        self._command = _places(own.command, layout.command, own.model)
        self._blank = layout.state.clip(np.zeros(layout.state.shape))
        self._blank[_own_flags(layout.state, own, task)] = 1.0
        self._unsent = layout.command.clip(np.zeros(layout.command.shape))

    @property
    def spec(self) -> RobotSpec:
        return self._spec

    def open(self) -> None:
        self.robot.open()

    def read(self) -> RobotState:
        state = self.robot.read()
        values = self._blank.copy()
        values[self._state] = state.values
        return RobotState(stamp_s=state.stamp_s, values=values)

    def command(self, target: Array) -> Array:
        if target.shape != self._unsent.shape:
            raise SpecError(
                f"{self._spec.model} was asked for {target.tolist()}, allowed {len(self._unsent)} numbers; "
                "nothing was sent, mend what produced it"
            )
        return self.widened(self.robot.command(target[self._command]))

    def widened(self, command: Array) -> Array:
        """The robot's own command among the padding."""
        whole = self._unsent.copy()
        whole[self._command] = command
        return whole

    def halt(self) -> None:
        self.robot.halt()

    def close(self) -> None:
        self.robot.close()


def _union(boxes: Sequence[tuple[str, Box]]) -> list[_Row]:
    """The elements of all boxes, each once, with the widest bounds."""
    rows: dict[str, _Row] = {}
    owner: dict[str, str] = {}
    for model, each in boxes:
        for name, unit, low, high in zip(each.names, each.units, each.low, each.high, strict=True):
            if name.startswith(FLAGS):
                raise ConfigError(f"{model} measures {name}, allowed names without {', '.join(FLAGS)}; rename it")
            _, known, least, most = rows.get(name, (name, unit, low, high))
            if known != unit:
                raise ConfigError(f"{name} is in {known!r} for {owner[name]}, in {unit!r} for {model}; rename one")
            rows[name] = (name, unit, min(low, least), max(high, most))
            owner.setdefault(name, model)
    return list(rows.values())


def _places(own: Box, common: Box, model: str) -> Array:
    missing = [name for name in own.names if name not in common.names]
    if missing:
        raise ConfigError(f"{model} has {missing[0]}, the layout's {common.name} has not; make the layout of all cells")
    return np.array([common.names.index(name) for name in own.names])


def _own_flags(state: Box, own: RobotSpec, task: str) -> list[int]:
    """Where the flags are that hold for this robot at this task."""
    wanted = {MASK + name for name in own.command.names} | {EMBODIMENT + own.model, TASK + task}
    for prefix, flag in ((EMBODIMENT, EMBODIMENT + own.model), (TASK, TASK + task)):
        known = [name for name in state.names if name.startswith(prefix)]
        if known and flag not in known:
            raise ConfigError(f"the layout knows {', '.join(known)}, not {flag}; make the layout of all cells")
    return [i for i, name in enumerate(state.names) if name in wanted]


def _check_cameras(cells: Sequence[Cell]) -> None:
    first = {name: camera.spec for name, camera in cells[0].cameras.items()}
    for cell in cells[1:]:
        if {name: camera.spec for name, camera in cell.cameras.items()} != first:
            here, there = ", ".join(cell.cameras) or "none", ", ".join(first) or "none"
            raise ConfigError(
                f"{cell.name} has cameras {here}, {cells[0].name} has {there}, allowed the same names and sizes; "
                "give every cell the same cameras"
            )
