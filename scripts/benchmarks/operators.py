"""operators: the scripted operator's success, its steps an episode and control steps/s, by task and simulated arm.

Demonstrations from 100 seeded starts each, without cameras. A step is observe, poll, command and judge on one core;
`steps_s` counts CPU time, which other work on the machine disturbs less.
"""

import argparse
import time
from itertools import product

import numpy as np

from hal.cell import Cell
from hal.make import TASKS, CellConfig, make_cell
from hal.sim.script import Scripted
from scripts.benchmarks.machine import record
from user_rl.clock import FreeRunningClock

ARMS = ("panda_sim", "arm6_sim")
SEEDS = 100


def make(task: str, robot: str) -> Cell:
    """A closed cell with its scripted operator."""
    config = CellConfig(robot={"name": robot}, task={"name": task}, teleop={"name": "scripted"})
    return make_cell(config, name="bench", clock=FreeRunningClock(), seed=0)


def demonstrate(cell: Cell, seed: int) -> tuple[bool, int]:
    """One demonstration: whether it succeeded, and its length."""
    assert cell.teleop is not None
    cell.task.reset(seed)
    cell.teleop.begin(demonstrate=True)
    for step in range(1, cell.task.max_steps + 1):
        cell.observe()
        action = cell.teleop.poll().action
        assert action is not None
        cell.robot.command(action)
        if (judgement := cell.task.judge()).done:
            return judgement.success, step
    return False, cell.task.max_steps


def measure(task: str, robot: str, seeds: int) -> dict[str, float]:
    """Every figure of one task on one arm."""
    cell = make(task, robot)
    cell.open()
    start_s = time.process_time()
    successes, steps = zip(*(demonstrate(cell, seed) for seed in range(seeds)), strict=True)
    took_s = time.process_time() - start_s
    cell.close()
    figures = {"success": np.mean(successes), "steps": np.median(steps), "steps_p95": np.percentile(steps, 95)}
    return {f"{task}_{robot}_{key}": float(x) for key, x in (figures | {"steps_s": sum(steps) / took_s}).items()}


def scripted() -> list[str]:
    """The tasks that the scripted operator knows."""
    simulated = (task for task in TASKS if task not in ("gymnasium", "fake"))
    return [task for task in simulated if isinstance(make(task, ARMS[0]).task, Scripted)]


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json")
    parser.add_argument("--seeds", type=int, default=SEEDS)
    parser.add_argument("--tasks", nargs="*", help="all if none is named")
    args = parser.parse_args()
    runs = [measure(task, robot, args.seeds) for task, robot in product(args.tasks or scripted(), ARMS)]
    record("operators", {key: x for run in runs for key, x in run.items()}, args.json)
