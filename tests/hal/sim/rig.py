"""Simulated cells with their operators, and the few moves that the tests of all tasks make."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np

from hal.cell import Cell
from hal.make import TASKS, CellConfig, make_cell
from hal.robot import Robot
from hal.task import Task
from user_rl.clock import FreeRunningClock

ARMS = ("panda_sim", "arm6_sim")
SIMULATED = tuple(name for name in TASKS if name not in ("gymnasium", "fake"))


def make(task: str, robot: str = "panda_sim", *, teleop: dict[str, Any] | None = None, **config: Any) -> Cell:  # noqa: ANN401
    """A closed cell with its scripted operator."""
    parts = CellConfig(
        robot={"name": robot}, task={"name": task, **config}, teleop={"name": "scripted", **(teleop or {})}
    )
    return make_cell(parts, name="cell", clock=FreeRunningClock(), seed=1)


@contextmanager
def opened(task: str, robot: str = "panda_sim", **config: Any) -> Iterator[Cell]:  # noqa: ANN401
    """The same, open."""
    cell = make(task, robot, **config)
    cell.open()
    try:
        yield cell
    finally:
        cell.close()


def parts(task: str, robot: str) -> tuple[Robot, Task]:
    """What `check_task` asks for."""
    cell = make(task, robot)
    return cell.robot, cell.task


def seen(cell: Cell) -> dict[str, float]:
    """The state by its elements' names."""
    values = cell.observe().values["observation.state"]
    return dict(zip(cell.robot.spec.state.names, values.tolist(), strict=True))


def place(cell: Cell, pose: tuple[float, float, float, float], things: dict[str, Any] | None = None) -> None:
    """Puts the tip at `pose` of the work frame, and things where these say."""
    task: Any = cell.task
    task.arm.place(task.hand.posture(np.array(pose)), things or {})
    task.hand.forget()


def drive(cell: Cell, *action: float, steps: int = 1) -> bool:
    """Commands the same action so many times; whether the task has then succeeded."""
    for _ in range(steps):
        cell.observe()
        cell.robot.command(cell.action.clip(np.array(action)))
        if cell.task.judge().done:
            break
    return cell.task.judge().success


def demonstrate(cell: Cell, seed: int) -> tuple[bool, int]:
    """One demonstration: whether it succeeded, and its length."""
    assert cell.teleop is not None
    cell.task.reset(seed)
    cell.teleop.begin(demonstrate=True)
    steps = 0
    while steps < cell.task.max_steps and not (steps and cell.task.judge().done):
        cell.observe()
        reading = cell.teleop.poll()
        assert reading.action is not None
        cell.robot.command(reading.action)
        steps += 1
    return cell.task.judge().success, steps


def starts(cell: Cell, names: tuple[str, ...], seeds: int = 60) -> np.ndarray[Any, Any]:
    """[names, seeds]: the elements of the state at the starts of so many episodes."""
    rows = []
    for seed in range(seeds):
        cell.task.reset(seed)
        state = seen(cell)
        rows.append([state[name] for name in names])
    return np.array(rows).T


def assert_spread(values: np.ndarray[Any, Any], low: float, high: float) -> None:
    """Values fill the range evenly and do not leave it."""
    width = high - low
    assert low - 0.01 * width <= values.min() < low + 0.15 * width
    assert high - 0.15 * width < values.max() <= high + 0.01 * width
    assert abs(values.mean() - (low + high) / 2) < 0.15 * width
