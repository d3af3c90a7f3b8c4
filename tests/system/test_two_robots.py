"""Two robots in real time in one run: one is killed, the other does not notice, and the first is back.

How soon, and what the other felt in milliseconds, is measured by `scripts/bench back`.
"""

import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import psutil
import pytest

from tests.system.rig import Run
from user_rl.log import Reader
from user_rl.rows import Kind

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]
MAX_STEPS = 20
BACK_S = 30.0  # on a busy machine; scripts/bench back measures it


@pytest.fixture
def run(tmp_path: Path) -> Iterator[Run]:
    made = Run(
        tmp_path, "robot=fake", "task=fake", "teleop=fake", f"task.max_steps={MAX_STEPS}", "robots.count=2",
        "edge={pace: real}", "learner.pace_robots=false", "learner.warmup_rows=20", "learner.metrics_s=0.3",
        "learner.tolerance=1e6", "algorithm.update_ratio=1000",
    )  # fmt: skip
    yield made
    made.close()


def streams_of(log: Path, cell: str) -> dict[str, int]:
    """{stream: rows} of one cell that the cloud has, durably."""
    with Reader(log) as reader:
        return {s: reader.synced(s) + 1 for s in reader.streams() if s.startswith(f"{cell}/")}


def kill_with_children(pid: int) -> None:
    daemon = psutil.Process(pid)
    for process in [daemon, *daemon.children(recursive=True)]:
        process.send_signal(signal.SIGKILL)


def cut_episodes(log: Path, cell: str) -> int:
    """Episodes of one cell, but the last of each stream, that came neither to their end nor to their time limit."""
    cut = 0
    for stream in streams_of(log, cell):
        with Reader(log) as reader:
            schema = reader.streams()[stream]
            rows = np.concatenate([schema.view(chunk.data) for chunk in reader.read(stream, 0, 2**30)])
        steps = rows[(rows["kind"] == Kind.STEP) & (rows["episode"] < rows["episode"].max())]
        last = steps[np.flatnonzero(np.diff(steps["episode"], append=-1))]
        cut += int(np.count_nonzero((last["next.done"] == 0) & (last["frame_index"] < MAX_STEPS - 1)))
    return cut


def test_a_killed_robot_is_back_within_seconds_and_nobody_else_notices(run: Run) -> None:
    status = run.wait(lambda s: s.get("updates", 0) > 20 and s.get("env_steps", 0) > 60, "both at work")
    victim, other = sorted(status["edge_pids"])
    log = run.folder.log
    old, held = streams_of(log, victim), sum(streams_of(log, other).values())
    assert old
    pid = status["edge_pids"][victim]
    kill_with_children(pid)
    again = run.wait(lambda s: s["edge_pids"].get(victim) not in (pid, None), "its daemon's restart")
    until_s = time.monotonic() + BACK_S
    while not streams_of(log, victim).keys() - old.keys():
        assert time.monotonic() < until_s, run.output()
        time.sleep(0.05)
    assert sum(streams_of(log, other).values()) > held
    after = run.wait(lambda s: s["updates"] > again["updates"], "more updates")
    points = [p for p in run.metrics if status["updates"] <= p["updates"] <= after["updates"]]
    assert len({p["incarnation"] for p in points}) == 1, "the learner was never started again"
    assert len(streams_of(log, other)) == 1, "the other was never started again"
    assert cut_episodes(log, other) == 0
    os.kill(run.driver.pid, signal.SIGTERM)
    assert run.driver.wait(90) == 130
