"""Whoever of the daemon's processes is killed at once: the robot that goes on by itself is halted by who is left."""

import os
import signal
from pathlib import Path

import pytest

from hal.testing import halt_coasting
from tests.edge.plant import Daemon, plant, wait_for
from tests.edge.test_daemon import coasting, gone, moves

pytestmark = pytest.mark.slow
ALL = ("halt", "control", "link")
QUICK = [("halt", "control"), ("control", "link"), ("halt",)]
DEATHS = [*QUICK, ("halt", "link"), ("control",)]


def pids(daemon: Daemon) -> dict[str, int]:
    assert daemon.process is not None
    return {"halt": daemon.process.pid, "control": daemon.child("control"), "link": daemon.child("link")}


def kill(daemon: Daemon, found: dict[str, int], *names: str) -> None:
    """All of them at once; whoever is orphaned is left to itself."""
    for name in names:
        os.kill(found[name], signal.SIGKILL)
    assert daemon.process is not None
    if "halt" in names:
        daemon.process.wait()


@pytest.mark.parametrize("deaths", [QUICK, pytest.param(DEATHS, marks=pytest.mark.long)], ids=["some", "every"])
def test_the_robot_is_halted_by_whoever_is_left(tmp_path: Path, deaths: list[tuple[str, ...]]) -> None:
    with plant(tmp_path, **coasting(tmp_path)) as (cloud, daemon):
        cloud.lease()
        for dead in deaths:
            wait_for(lambda: moves(tmp_path))
            found = pids(daemon)
            kill(daemon, found, *dead)
            wait_for(lambda: not moves(tmp_path))
            wait_for(lambda found=found: all(gone(pid) for pid in found.values()))  # type: ignore[misc]
            assert not moves(tmp_path), dead
            assert ("halting the robot with" in daemon.said) == ("control" in dead), dead
            assert daemon.ended() == (-signal.SIGKILL if "halt" in dead else 1)
            daemon.forget()
            daemon.start()


@pytest.mark.long
def test_when_all_three_die_nothing_of_ours_is_left(tmp_path: Path) -> None:
    with plant(tmp_path, **coasting(tmp_path)) as (cloud, daemon):
        cloud.lease()
        wait_for(lambda: moves(tmp_path))
        found = pids(daemon)
        kill(daemon, found, "link")  # nobody's affair but its own
        wait_for(lambda: daemon.child("link") != found["link"])
        assert moves(tmp_path)
        found = pids(daemon)
        kill(daemon, found, *ALL)
        wait_for(lambda: all(gone(pid) for pid in found.values()))
        assert moves(tmp_path)  # what on_silence=stops is for
        halt_coasting(tmp_path / "motion")


def test_a_control_that_is_wedged_when_halt_dies_is_ended_by_link(tmp_path: Path) -> None:
    with plant(tmp_path, **{**coasting(tmp_path), "pulse_s": 1.0}) as (cloud, daemon):
        cloud.lease()
        wait_for(lambda: moves(tmp_path))
        found = pids(daemon)
        os.kill(found["control"], signal.SIGSTOP)
        kill(daemon, found, "halt")
        wait_for(lambda: not moves(tmp_path))
        wait_for(lambda: all(gone(pid) for pid in found.values()))
        assert "halt is dead and control is silent; control is killed and the robot halted" in daemon.said
