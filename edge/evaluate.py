"""Evaluation: seeded, deterministic episodes of a cell under one weight version, with no wire and no operator."""

import dataclasses
import statistics
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from hal.cell import Cell
from hal.make import CellConfig, make_cell
from policies.load import load
from policies.policy import Policy
from user_rl.clock import FreeRunningClock
from user_rl.errors import ConfigError

Progress = Callable[[int, int, float], None]  # episodes done, of how many, success rate so far


def evaluate(config: CellConfig, weights: Path, *, episodes: int, seed: int, progress: Progress) -> dict[str, Any]:
    """The result as plain data: success_rate, episodes, mean_steps, mean_return, seed, version."""
    if episodes < 1:
        raise ConfigError(f"--episodes {episodes}, allowed 1 or more; a rate needs one")
    version, policy = load(weights, seed=seed)
    cell = make_cell(
        dataclasses.replace(config, teleop=None), name="evaluation", clock=FreeRunningClock(), seed=seed
    )  # fmt: skip
    starts = np.random.SeedSequence(seed).generate_state(episodes)
    done: list[tuple[bool, int, float]] = []
    try:
        cell.open()
        for start in starts:
            done.append(play(cell, policy, int(start)))
            progress(len(done), episodes, sum(success for success, _, _ in done) / len(done))
    finally:
        cell.close()
    return {
        "success_rate": sum(success for success, _, _ in done) / episodes,
        "episodes": episodes,
        "mean_steps": statistics.fmean(steps for _, steps, _ in done),
        "mean_return": statistics.fmean(total for _, _, total in done),
        "seed": seed,
        "version": version.number,
    }


def play(cell: Cell, policy: Policy, seed: int) -> tuple[bool, int, float]:
    """One episode without exploration: success, steps, return."""
    cell.task.reset(seed)
    total = 0.0
    for step in range(1, cell.task.max_steps + 1):
        cell.robot.command(policy.act(cell.observe().values, explore=False))
        worth = cell.task.judge()
        total += worth.reward
        if worth.done or worth.truncated:
            return worth.success, step, total
    return False, cell.task.max_steps, total
