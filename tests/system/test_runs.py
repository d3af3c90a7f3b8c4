"""Whole runs: real launcher, Ray actors, fleet, edge daemons, encrypted link, log; killed at random moments."""

import os
import random
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from cloud.report import KEYS
from tests.system.rig import Run

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]
RATIO, TOLERANCE, WARMUP = 4.0, 100.0, 60


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Callable[..., Run]]:
    runs: list[Run] = []

    def launched(*overrides: str) -> Run:
        runs.append(Run(tmp_path, *overrides))
        return runs[-1]

    yield launched
    for run in runs:
        run.close()


def nothing_was_lost(report: dict[str, Any]) -> None:
    assert report["rows"] > 0
    assert (report["rows_lost"], report["rows_duplicated"], report["rows_differing"]) == (0, 0, 0)


def no_life_burst(metrics: list[dict[str, Any]]) -> None:
    """Within each life of the learner: updates follow the rows that came, give or take the tolerance, never more."""
    lives: dict[str, list[dict[str, Any]]] = {}
    for point in metrics:
        lives.setdefault(point["incarnation"], []).append(point)
    for points in lives.values():
        first = points[0]
        for point in points:
            due = max(0.0, RATIO * (point["env_steps"] - max(first["env_steps"], WARMUP)))
            assert point["updates"] - first["updates"] <= due + 2 * TOLERANCE + RATIO


def updates_wait_for_the_warm_up(metrics: list[dict[str, Any]]) -> None:
    assert all(p["env_steps"] >= WARMUP and p["demonstrations"] >= 3 for p in metrics if p["updates"])


def test_two_simulated_edges_teach_one_learner(start: Callable[..., Run]) -> None:
    run = start("robots.count=2", "learner.max_updates=400")
    run.wait(lambda s: len(s.get("gateway", {}).get("cells", [])) == 2, "both cells at the gateway")
    report = run.finish()
    assert set(KEYS) <= set(report)
    assert report["updates"] == 400
    assert report["disk_free_bytes"] == run.status["disk_free_bytes"] > 0
    assert all(cell["spool_bytes"] > 0 and cell["disk_free_bytes"] > 0 for cell in run.status["cells"].values())
    assert 0 < report["weight_versions"] < 60
    assert report["evaluation"]["episodes"] == 2
    nothing_was_lost(report)
    updates_wait_for_the_warm_up(run.metrics)
    no_life_burst(run.metrics)
    spools = list(run.folder.root.glob("edges/*/spool"))
    assert len(spools) == 2
    assert run.folder.curve.read_bytes().startswith(b"\x89PNG")


def test_a_killed_learner_gateway_and_edge_come_back_by_themselves(start: Callable[..., Run]) -> None:
    run = start()
    rng = random.Random(time.time_ns())
    run.wait(lambda s: s.get("updates", 0) > 100, "the first updates")
    for victim in ("learner_pid", "gateway_pid"):
        time.sleep(rng.uniform(0.0, 2.0))
        before = run.status
        os.kill(before[victim], signal.SIGKILL)
        run.wait(lambda s, v=victim, b=before: s[v] != b[v], f"a new {victim}")  # type: ignore[misc]
        run.wait(lambda s, b=before: s["updates"] > b["updates"], "more updates")  # type: ignore[misc]
    (cell, pid), *_ = run.status["edge_pids"].items()
    os.kill(pid, signal.SIGKILL)
    run.wait(lambda s: s["edge_pids"].get(cell) not in (pid, None), "a new edge daemon")
    steps = run.status["env_steps"]
    run.wait(lambda s: s["env_steps"] > steps, "steps of the new daemon")
    updates = stopped(run)
    run.resume(f"learner.max_updates={updates + 100}")
    report = run.finish()
    assert report["updates"] == updates + 100
    nothing_was_lost(report)
    updates_wait_for_the_warm_up(run.metrics)
    no_life_burst(run.metrics)


def test_after_a_kill_of_everything_resume_goes_on_from_the_checkpoint(start: Callable[..., Run]) -> None:
    run = start()
    run.wait(lambda s: s.get("updates", 0) > 200, "the first updates")
    time.sleep(random.Random(time.time_ns()).uniform(0.0, 3.0))
    run.kill_everything()
    before = run.metrics[-1]
    run.resume(f"learner.max_updates={before['updates'] + 300}")
    report = run.finish()
    second = [p for p in run.metrics if p["incarnation"] != before["incarnation"]]
    assert 0 < second[0]["updates"] <= before["updates"] + TOLERANCE
    assert second[0]["env_steps"] >= before["env_steps"]
    assert report["updates"] == before["updates"] + 300
    assert len(list(run.folder.root.glob("edges/*/spool"))) == 1
    nothing_was_lost(report)
    updates_wait_for_the_warm_up(run.metrics)
    no_life_burst(run.metrics)


def test_a_person_who_stops_a_run_can_go_on_with_it(start: Callable[..., Run]) -> None:
    run = start()
    run.wait(lambda s: s.get("updates", 0) > 50, "the first updates")
    updates = stopped(run)
    assert "go on with user-rl resume r" in run.output()
    run.resume(f"learner.max_updates={updates + 100}")
    report = run.finish()
    assert report["updates"] == updates + 100
    nothing_was_lost(report)


def stopped(run: Run) -> int:
    """Stops a run as a person would; returns its updates."""
    run.driver.send_signal(signal.SIGINT)
    assert run.driver.wait(90) == 130, run.output()
    return int(run.status["updates"])


@pytest.mark.gl
def test_two_cameras_reach_the_gradient_and_a_cnn_comes_back(start: Callable[..., Run]) -> None:
    """The vision experiment, small: frames through ring, link and log, a CNN's weights back to the arm."""
    run = start(
        "experiment=peg_insertion_rlpd_vision", "algorithm.policy.hidden=[16]", "algorithm.batch_size=4",
        "algorithm.critic_hidden=[16]", "demonstrations.count=1", "learner.max_updates=12", "learner.publish_every=4",
        "learner.warmup_rows=5", "learner.tolerance=20", "evaluation.episodes=1",
    )  # fmt: skip
    report = run.finish()
    assert report["updates"] == 12
    assert report["weight_versions"] >= 3
    nothing_was_lost(report)


def test_sac_learns_from_scratch_in_a_gymnasium_environment(start: Callable[..., Run]) -> None:
    run = start(
        "experiment=fetch_reach_sac",
        "demonstrations.count=0",
        "learner.max_updates=100",
        "algorithm.critic_hidden=[32]",
    )
    report = run.finish()
    assert report["updates"] == 100
    assert report["episodes"] > 0
    assert report["baseline"] is None
    nothing_was_lost(report)


def test_a_six_joint_arm_learns_from_the_demonstrations_of_a_run_before(
    start: Callable[..., Run], tmp_path: Path
) -> None:
    first = start("robot=arm6_sim", "learner.max_updates=20")
    first.finish()
    (tmp_path / "second").mkdir()
    source = f"demonstrations.path={first.folder.root}"
    second = Run(tmp_path / "second", "robot=arm6_sim", "learner.max_updates=40", source)
    try:
        report = second.finish()
    finally:
        second.close()
    assert report["updates"] == 40
    assert "3 demonstrations from" in second.output()
    nothing_was_lost(report)
