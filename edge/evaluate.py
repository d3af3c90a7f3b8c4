"""Evaluation: seeded, deterministic episodes of a cell under one weight version, with no wire and no operator."""

import dataclasses
import statistics
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np

from edge.acting import ChunkActor, LocalActor, actor_of
from edge.recording import Recording
from hal.cell import Cell
from hal.make import CellConfig, make_cell
from policies.load import load
from user_rl.clock import FreeRunningClock
from user_rl.errors import ConfigError

Progress = Callable[[int, int, float], None]  # episodes done, of how many, success rate so far


def evaluate(
    config: CellConfig, weights: Path, *, episodes: int, seed: int, progress: Progress, record: Path | None = None,
    recorded: int = 0,
) -> dict[str, Any]:  # fmt: skip
    """The result as plain data: success_rate, episodes, mean_steps, mean_return, seed, version.

    The first `recorded` episodes become rows in the log `record`.
    """
    if episodes < 1:
        raise ConfigError(f"--episodes {episodes}, allowed 1 or more; a rate needs one")
    version, policy = load(weights, seed=seed)
    actor = actor_of(policy, version)
    cell = make_cell(
        dataclasses.replace(config, teleop=None), name="evaluation", clock=FreeRunningClock(), seed=seed
    )  # fmt: skip
    starts = np.random.SeedSequence(seed).generate_state(episodes)
    done: list[tuple[bool, int, float]] = []
    with ExitStack() as on_exit:
        on_exit.callback(cell.close)
        cell.open()
        recording = Recording(record, cell, version) if record is not None and recorded else None
        if recording is not None:
            on_exit.callback(recording.close)
        for number, start in enumerate(starts):
            done.append(play(cell, actor, int(start), recording=recording if number < recorded else None))
            progress(len(done), episodes, sum(success for success, _, _ in done) / len(done))
    return {
        "success_rate": sum(success for success, _, _ in done) / episodes,
        "episodes": episodes,
        "mean_steps": statistics.fmean(steps for _, steps, _ in done),
        "mean_return": statistics.fmean(total for _, _, total in done),
        "seed": seed,
        "version": version.number,
    }


def play(
    cell: Cell, actor: LocalActor | ChunkActor, seed: int, *, recording: Recording | None = None
) -> tuple[bool, int, float]:
    """One episode without exploration: success, steps, return."""
    cell.task.reset(seed)
    actor.begin()
    success, steps, total = False, 0, 0.0
    for _ in range(cell.task.max_steps):
        seen = cell.observe()
        action = actor.propose(seen, explore=False).action
        sent = cell.robot.command(action)
        worth = cell.task.judge()
        steps, total = steps + 1, total + worth.reward
        if recording is not None:
            recording.act(seen, action, sent, worth)
        if worth.done or worth.truncated:
            success = worth.success
            break
    if recording is not None:
        recording.end(cell.observe())
    return success, steps, total
