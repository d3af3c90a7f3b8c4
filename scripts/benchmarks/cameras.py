"""cameras: control steps/s of both simulated arms with two 128x128 cameras, and as a share of the same without any.

A step is observe (with both frames), command and judge; the GL backend is what MUJOCO_GL says, else what is there.
Medians of the repeats, interleaved.
"""

import argparse
import statistics
import time
from itertools import product
from typing import Any

import numpy as np

from cloud.config import STORE
from hal.make import CellConfig, make_cell
from scripts.benchmarks.machine import record
from user_rl.clock import FreeRunningClock

SECONDS, REPEATS = 4.0, 5


def rate(robot: str, cameras: dict[str, Any]) -> float:
    """Control steps/s of one cell, random commands."""
    config = CellConfig(robot={"name": robot}, task={"name": "peg_insertion"}, cameras=cameras)
    cell = make_cell(config, name="bench", clock=FreeRunningClock(), seed=0)
    cell.open()
    rng, low, high = np.random.default_rng(0), np.array(cell.action.low), np.array(cell.action.high)
    steps, start_s = 0, time.perf_counter()
    while time.perf_counter() - start_s < SECONDS:
        if steps % cell.task.max_steps == 0:
            cell.task.reset(steps)
        cell.observe()
        cell.robot.command(rng.uniform(low, high).astype(np.float32))
        cell.task.judge()
        steps += 1
    took_s = time.perf_counter() - start_s
    cell.close()
    return steps / took_s


def measure(repeats: int) -> dict[str, float]:
    """Every figure, from interleaved repeats."""
    arms, sets = ("panda_sim", "arm6_sim"), {"none": {}, "two": STORE["cameras"]["two_sim"]}
    rounds = [{(arm, s): rate(arm, sets[s]) for arm, s in product(arms, sets)} for _ in range(repeats)]
    figures = {f"{arm}_steps_s_{s}": statistics.median(r[arm, s] for r in rounds) for arm, s in product(arms, sets)}
    shares = {f"{arm}_share": statistics.median(r[arm, "two"] / r[arm, "none"] for r in rounds) for arm in arms}
    return {"two_cameras_steps_s": min(figures[f"{arm}_steps_s_two"] for arm in arms), **figures, **shares}


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json")
    parser.add_argument("--repeats", type=int, default=REPEATS)
    args = parser.parse_args()
    record("cameras", measure(args.repeats), args.json)
