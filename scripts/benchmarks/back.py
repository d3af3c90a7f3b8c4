"""back: seconds from the restart of a killed robot to its first new row, durable in the cloud; what others felt.

Two robots in real time at 10 Hz in one run of the real system. One daemon is killed with its children, again and again;
the launcher starts it anew. Beside it, from the rows: the longest time between two commands of the other robot, in
periods; from the metrics: how often the learner was started.
"""

import argparse
import os
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import psutil

from cloud.report import read_metrics
from cloud.run import RunFolder, read_json
from scripts.benchmarks.machine import record
from user_rl.log import Reader
from user_rl.rows import Kind

KILLS = 5
PERIOD_S = 0.1
PATIENCE_S = 90.0
STEADY_S = 3.0  # at work, before the next kill
ROBOTS = (
    "robot=fake", "task=fake", "teleop=none", "demonstrations.count=0", "task.max_steps=50", "robots.count=2",
    "edge={pace: real}", "learner.warmup_rows=20", "learner.pace_robots=false", "learner.tolerance=1e6",
    "algorithm.update_ratio=10", "algorithm.batch_size=32",
)  # fmt: skip


@contextmanager
def system(root: Path) -> Iterator[RunFolder]:
    """A running launcher, its run's folder; stopped at the end."""
    argv = [sys.executable, "-m", "cloud.main", "launch", f"runs={root}/runs", f"home={root}/home", "run=r", *ROBOTS]
    with (root / "out.log").open("wb") as out:
        driver = subprocess.Popen(argv, stdout=out, stderr=out)
    try:
        yield RunFolder(root / "runs" / "r")
    finally:
        driver.send_signal(signal.SIGTERM)
        driver.wait(PATIENCE_S)
        os.kill(read_json(root / "home/fleet/address.json")["pid"], signal.SIGTERM)


def back_s(folder: RunFolder, cell: str) -> float:
    """Kills the daemon of `cell`; seconds from the next one's start to its first row."""
    pid, old = read_json(folder.status)["edge_pids"][cell], _streams(folder, cell)
    daemon = psutil.Process(pid)
    for process in [daemon, *daemon.children(recursive=True)]:
        process.kill()
    _wait(lambda: read_json(folder.status)["edge_pids"].get(cell) not in (pid, None))
    started_s = psutil.Process(read_json(folder.status)["edge_pids"][cell]).create_time()
    _wait(lambda: _streams(folder, cell) - old)
    return time.time() - started_s


def longest_gap_periods(folder: RunFolder, cell: str) -> float:
    """The longest time between two commands within an episode, over the period."""
    longest, streams = 0.0, _streams(folder, cell)
    with Reader(folder.log) as reader:
        for stream in streams:
            schema = reader.streams()[stream]
            rows = np.concatenate([schema.view(chunk.data) for chunk in reader.read(stream, 0, 2**30)])
            steps = rows[rows["kind"] == Kind.STEP]
            gaps_s = np.diff(steps["stamp.action"])[np.diff(steps["episode"]) == 0]
            longest = max(longest, float(gaps_s.max(initial=0.0)))
    return longest / PERIOD_S


def _streams(folder: RunFolder, cell: str) -> set[str]:
    with Reader(folder.log) as reader:
        return {stream for stream in reader.streams() if stream.startswith(f"{cell}/")}


def _wait(condition: Callable[[], Any]) -> None:
    until_s = time.monotonic() + PATIENCE_S
    while not condition():
        if time.monotonic() > until_s:
            raise TimeoutError(f"not within {PATIENCE_S:.0f} s")
        time.sleep(0.02)


def main() -> None:
    """Measures and prints."""
    parser = argparse.ArgumentParser(prog="scripts/bench back", description=__doc__)
    parser.add_argument("--json", help="where to write the figures")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as path, system(Path(path)) as folder:
        _wait(lambda: read_json(folder.status).get("updates", 0) > 20)
        victim, other = sorted(read_json(folder.status)["edge_pids"])
        times_s = []
        for _ in range(KILLS):
            time.sleep(STEADY_S)
            times_s.append(back_s(folder, victim))
        lives = {point["incarnation"] for point in read_metrics(folder.metrics)}
        figures = {
            "robot_back_s": statistics.median(times_s), "robot_back_max_s": max(times_s),
            "other_longest_gap_periods": longest_gap_periods(folder, other), "learner_lives": float(len(lives)),
        }  # fmt: skip
    record("back", figures, options.json)


if __name__ == "__main__":
    main()
