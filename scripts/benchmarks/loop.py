"""loop: the system's env steps/s and updates/s over the bare simulator's and the bare update loop's, same run.

Each has a core to itself: one run of the real system with a learner that only waits (control on core 0, everything
else on core 1) gives the env rate, one with the robot at its permit (learner on core 0, everything else on core 1) the
update rate. The baselines run on core 0 in turn with them: the simulator alone (command, read, judge), and
`algorithm.update` on batches that lie ready. Medians of the repeats.
"""

import argparse
import contextlib
import os
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import psutil

from cloud.config import LaunchConfig, algorithm_config, build_launch, compose_launch, trial_cell
from cloud.report import read_metrics
from cloud.run import RunFolder, read_json
from scripts.benchmarks.machine import record

EXPERIMENT = "experiment=peg_insertion_rlpd"
SECONDS = 12.0  # of every measurement
REPEATS = 5
ALONE, OTHERS = {0}, {1}
NOBODY = ("teleop=none", "demonstrations.count=0")  # the fresh policy moves like the baseline's random commands
PATIENCE_S = 120.0


def bare_simulator(config: LaunchConfig) -> float:
    """Control steps/s of the simulator alone, with random commands, on one core."""
    cell = trial_cell(config)
    cell.open()
    rng, low, high = np.random.default_rng(0), np.array(cell.action.low), np.array(cell.action.high)
    robot = cell.robot.robot  # without its guard
    actions = rng.uniform(low, high, (4096, len(low))).astype(np.float32)
    steps, start_s = 0, time.perf_counter()
    while time.perf_counter() - start_s < SECONDS / 2:
        cell.task.reset(steps)
        for _ in range(cell.task.max_steps):
            robot.command(actions[steps % len(actions)])
            robot.read()
            steps += 1
            if cell.task.judge().done:
                break
    took_s = time.perf_counter() - start_s
    cell.close()
    return steps / took_s


def bare_updates(config: LaunchConfig) -> float:
    """Updates/s of the algorithm on batches that lie ready, on one core and one thread."""
    import torch

    from cloud.algorithms import make
    from cloud.batch import Batch
    from user_rl.rows import make_schema

    torch.set_num_threads(1)
    cell, recipe, rng = trial_cell(config), algorithm_config(config.algorithm), np.random.default_rng(0)
    schema = make_schema(cell.observation, cell.action)
    algorithm, size = make(recipe, schema, 0), recipe.batch_size

    def observation() -> dict[str, Any]:
        return {n: rng.normal(size=(size, *s.shape)).astype(np.float32) for n, s in cell.observation.items()}

    low, high = np.array(cell.action.low), np.array(cell.action.high)
    batches = [
        Batch(
            observation(),
            rng.uniform(low, high, (size, len(low))).astype(np.float32),
            (rng.random(size) < 0.1).astype(np.float32),
            rng.random(size) < 0.1,
            observation(),
        )
        for _ in range(16)
    ]
    algorithm.fit_normaliser(observation())
    for batch in batches:
        algorithm.update(batch)
    updates, start_s = 0, time.perf_counter()
    while time.perf_counter() - start_s < SECONDS / 2:
        algorithm.update(batches[updates % len(batches)])
        updates += 1
    return updates / (time.perf_counter() - start_s)


@contextlib.contextmanager
def system(root: Path, *overrides: str) -> Iterator[RunFolder]:
    """A running launcher on core 1, its run's folder; stopped at the end."""
    folder = RunFolder(root / "runs" / "bench")
    argv = [sys.executable, "-m", "cloud.main", "launch", EXPERIMENT]
    argv += [f"runs={root}/runs", f"home={root}/home", "run=bench"]
    with (root / "launcher.log").open("ab") as out:
        driver = subprocess.Popen([*argv, *overrides], stdout=out, stderr=out)
    os.sched_setaffinity(driver.pid, OTHERS)
    try:
        yield folder
    finally:
        driver.send_signal(signal.SIGTERM)
        driver.wait(PATIENCE_S)


def rate_of(folder: RunFolder, key: str, lone: Callable[[dict[str, Any]], list[int]]) -> float:
    """How fast the counter `key` of metrics.jsonl grows once the processes `lone` have core 0 to themselves."""
    _wait(lambda: any(p.get(key) for p in read_metrics(folder.metrics)))
    for pid in lone(read_json(folder.status)):
        for thread in psutil.Process(pid).threads():
            os.sched_setaffinity(thread.id, ALONE)
    time.sleep(3.0)
    first = read_metrics(folder.metrics)[-1]
    _wait(lambda: read_metrics(folder.metrics)[-1]["wall_s"] - first["wall_s"] >= SECONDS)
    last = read_metrics(folder.metrics)[-1]
    return float((last[key] - first[key]) / (last["wall_s"] - first["wall_s"]))


def _wait(condition: Callable[[], object]) -> None:
    until_s = time.monotonic() + PATIENCE_S
    while not condition():
        if time.monotonic() > until_s:
            raise SystemExit(f"the run did not get going within {PATIENCE_S:.0f} s")
        time.sleep(0.1)


def _control(status: dict[str, Any]) -> list[int]:
    family = psutil.Process(next(iter(status["edge_pids"].values()))).children(recursive=True)
    return [p.pid for p in family if "edge.control" in p.cmdline()]


def one_round(config: LaunchConfig) -> dict[str, float]:
    """All four rates, one after the other."""
    everywhere = os.sched_getaffinity(0)
    os.sched_setaffinity(0, ALONE)
    bare_env, bare_update = bare_simulator(config), bare_updates(config)
    os.sched_setaffinity(0, everywhere)
    free = ("learner.max_minutes=null", "learner.pace_robots=false", "learner.warmup_rows=1000000000", *NOBODY)
    with tempfile.TemporaryDirectory(prefix="bench-loop-") as root, system(Path(root), *free) as folder:
        env = rate_of(folder, "env_steps", _control)
    with tempfile.TemporaryDirectory(prefix="bench-loop-") as root, system(Path(root), free[0]) as folder:
        update = rate_of(folder, "updates", lambda s: [s["learner_pid"]])
    return {"bare_env_steps_s": bare_env, "env_steps_s": env, "bare_updates_s": bare_update, "updates_s": update}


def measure(repeats: int) -> dict[str, float]:
    """Every figure, from interleaved repeats."""
    config = build_launch(compose_launch([EXPERIMENT]))
    rounds = []
    for _ in range(repeats):
        rounds.append(one_round(config))
        print({key: round(value, 1) for key, value in rounds[-1].items()}, flush=True)
    figures = {key: statistics.median(r[key] for r in rounds) for key in rounds[0]}
    return {
        "env_rate_ratio": statistics.median(r["env_steps_s"] / r["bare_env_steps_s"] for r in rounds),
        "update_rate_ratio": statistics.median(r["updates_s"] / r["bare_updates_s"] for r in rounds),
        **figures,
    }


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json")
    parser.add_argument("--repeats", type=int, default=REPEATS)
    args = parser.parse_args()
    record("loop", measure(args.repeats), args.json)
