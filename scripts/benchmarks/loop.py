"""loop: the system's env steps/s and updates/s over the bare simulator's and the bare update loop's, same run.

Each has a core to itself: in one run of the real system the learner only waits (control on core 0, everything else on
core 1), in another the robot stands at its permit (learner on core 0, everything else on core 1). The baselines take
turns with them on core 0, a few seconds each, while the measured processes are stopped: the bare simulator repeats the
episodes that were just recorded, the same starts and the same commands, with nothing but reset, command, read and
judge; the bare update loop calls `algorithm.update` on batches that lie ready. Medians of the turns' ratios, so that a
machine whose speed wanders does not wander into the figure.
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
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import psutil

from cloud.cells import trial_cells
from cloud.config import LaunchConfig, algorithm_config, build_launch, compose_launch
from cloud.report import read_metrics
from cloud.run import RunFolder, read_json
from edge.desk import episode_seed
from hal.cell import Cell
from scripts.benchmarks.machine import record
from user_rl.log import Reader
from user_rl.rows import Kind
from user_rl.specs import Array

EXPERIMENT = "experiment=peg_insertion_rlpd"
TURN_S = 4.0
TURNS, REPEATS = 5, 3
ALONE, OTHERS = {0}, {1}
NOBODY = ("teleop=none", "demonstrations.count=0")
PATIENCE_S = 120.0

Rates = list[tuple[float, float]]  # (the system's, the bare one's) of each turn


class Experience:
    """The one robot's rows in the log of a running system."""

    def __init__(self, folder: RunFolder) -> None:
        self._reader = Reader(folder.log)
        ((self.stream, self._schema),) = self._reader.streams().items()

    def synced(self) -> int:
        return self._reader.synced(self.stream)

    def rows(self, first: int, last: int) -> Array:
        """The rows `first`..`last`."""
        chunks = self._reader.read(self.stream, first, (last - first + 1) * self._schema.row_bytes)
        return np.concatenate([self._schema.view(chunk.data) for chunk in chunks])


def the_cell() -> Cell:
    """The experiment's cell, built but not opened."""
    return trial_cells(compose_launch([EXPERIMENT]))[0]


def env_turns(config: LaunchConfig, folder: RunFolder) -> Rates:
    """Control steps/s: the system's, and the simulator's alone with the same commands."""
    _wait(lambda: any(p.get("env_steps") for p in read_metrics(folder.metrics)))
    family = _edge_family(read_json(folder.status))
    _pin(p for p in family if "edge.control" in p.cmdline())
    experience, cell = Experience(folder), the_cell()
    rates: Rates = []
    cell.open()
    for _ in range(TURNS):
        time.sleep(1.0)
        first, start_s = experience.synced(), time.perf_counter()
        time.sleep(TURN_S)
        last, took_s = experience.synced(), time.perf_counter() - start_s
        rows = experience.rows(first + 1, last)
        with _stopped(family):
            bare = replayed(cell, config.seed, experience.stream, rows)
        rates.append((np.count_nonzero(rows["kind"] == Kind.STEP) / took_s, bare))
    cell.close()
    return rates


def replayed(cell: Cell, seed: int, stream: str, rows: Array) -> float:
    """Steps/s of the bare simulator on the whole episodes of `rows`, for half a turn, on one core."""
    name, boot, _ = stream.split("/")
    starts = np.flatnonzero((rows["frame_index"] == 0) & (rows["kind"] == Kind.STEP))
    ends = np.flatnonzero(rows["kind"] == Kind.LAST)
    pieces = [rows[start : ends[ends > start][0]] for start in starts if (ends > start).any()]
    episodes = [(episode_seed(seed, name, boot, int(p["episode"][0])), p["action.sent"].copy()) for p in pieces]
    steps, start_s = 0, time.perf_counter()
    with _on_core_0():
        for start, commands in episodes:
            _repeat(cell, start, commands)
            steps += len(commands)
            if time.perf_counter() - start_s > TURN_S / 2:
                break
    return steps / (time.perf_counter() - start_s)


def _repeat(cell: Cell, start: int, commands: Array) -> None:
    robot, task = cell.robot.robot, cell.task  # type: ignore[attr-defined]  # without its guard
    task.reset(start)
    robot.read()
    for command in commands:
        robot.command(command)
        robot.read()
        task.judge()


def bare_updates(config: LaunchConfig) -> float:
    """Updates/s of the algorithm on batches that lie ready, on one core and one thread."""
    import torch

    from cloud.algorithms import make
    from cloud.batch import Batch
    from user_rl.rows import make_schema

    torch.set_num_threads(1)
    cell, recipe, rng = the_cell(), algorithm_config(config.algorithm), np.random.default_rng(0)
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
    while time.perf_counter() - start_s < TURN_S:
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


def update_turns(config: LaunchConfig, folder: RunFolder) -> Rates:
    """Updates/s: the system's, and those of the bare loop."""
    _wait(lambda: any(p.get("updates") for p in read_metrics(folder.metrics)))
    learner = psutil.Process(read_json(folder.status)["learner_pid"])
    _pin([learner])
    rates: Rates = []
    for _ in range(TURNS):
        first = last = _next_line(folder)
        while last["wall_s"] - first["wall_s"] < TURN_S:
            last = _next_line(folder)
        with _stopped([learner]), _on_core_0():
            bare = bare_updates(config)
        rates.append(((last["updates"] - first["updates"]) / (last["wall_s"] - first["wall_s"]), bare))
    return rates


def _next_line(folder: RunFolder) -> dict[str, Any]:
    """The next line of metrics, which comes every second."""
    count = len(read_metrics(folder.metrics))
    _wait(lambda: len(read_metrics(folder.metrics)) > count)
    return dict(read_metrics(folder.metrics)[-1])


def _wait(condition: Callable[[], object]) -> None:
    until_s = time.monotonic() + PATIENCE_S
    while not condition():
        if time.monotonic() > until_s:
            raise SystemExit(f"the run did not get going within {PATIENCE_S:.0f} s")
        time.sleep(0.1)


def _edge_family(status: dict[str, Any]) -> list[psutil.Process]:
    """The edge's processes; the daemon last, for it must not find control silent when they go on."""
    daemon = psutil.Process(next(iter(status["edge_pids"].values())))
    return [*daemon.children(recursive=True), daemon]


def _pin(processes: Iterable[psutil.Process]) -> None:
    for process in processes:
        for thread in process.threads():
            os.sched_setaffinity(thread.id, ALONE)


@contextlib.contextmanager
def _stopped(processes: list[psutil.Process]) -> Iterator[None]:
    for process in reversed(processes):
        process.suspend()
    try:
        yield
    finally:
        for process in processes:
            process.resume()


@contextlib.contextmanager
def _on_core_0() -> Iterator[None]:
    everywhere = os.sched_getaffinity(0)
    os.sched_setaffinity(0, ALONE)
    try:
        yield
    finally:
        os.sched_setaffinity(0, everywhere)


def one_round(config: LaunchConfig) -> tuple[Rates, Rates]:
    """The turns of one run for each of the two figures."""
    free = ("learner.max_minutes=null", "learner.pace_robots=false", "learner.warmup_rows=1000000000", *NOBODY)
    with tempfile.TemporaryDirectory(prefix="bench-loop-") as root, system(Path(root), *free) as folder:
        env = env_turns(config, folder)
    with tempfile.TemporaryDirectory(prefix="bench-loop-") as root, system(Path(root), free[0]) as folder:
        update = update_turns(config, folder)
    return env, update


def measure(repeats: int) -> dict[str, float]:
    """Every figure, from the turns of all repeats."""
    config = build_launch(compose_launch([EXPERIMENT]))
    turns: dict[str, Rates] = {"env": [], "update": []}
    for _ in range(repeats):
        for name, rates in zip(turns, one_round(config), strict=True):
            turns[name] += rates
            print(name, " ".join(f"{got:.0f}/{bare:.0f}={got / bare:.2f}" for got, bare in rates), flush=True)
    figures = {f"{name}_rate_ratio": statistics.median(g / b for g, b in turns[name]) for name in turns}
    for name, key in (("env", "env_steps_s"), ("update", "updates_s")):
        figures[key] = statistics.median(got for got, _ in turns[name])
        figures[f"bare_{key}"] = statistics.median(bare for _, bare in turns[name])
    return figures


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json")
    parser.add_argument("--repeats", type=int, default=REPEATS)
    args = parser.parse_args()
    record("loop", measure(args.repeats), args.json)
