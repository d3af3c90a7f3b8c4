"""The emergency stop through the real daemon, fleet and command: halted, latched, confirmed; and what is in its way."""

import json
import signal
from pathlib import Path
from typing import Any

import pytest

from cloud.main import main as user_rl
from edge.main import main as user_rl_edge
from tests.edge.plant import Plant, plant, wait_for
from tests.edge.test_daemon import coasting, gone, moves

pytestmark = pytest.mark.slow
REASON = "emergency stop by admin:local: the cable is caught"
WHY = ["--reason", "the cable is caught"]


def stop(cloud: Plant, capsys: pytest.CaptureFixture[str], *args: str) -> tuple[int, list[dict[str, Any]]]:
    """The command's exit status, and what it says of each robot."""
    capsys.readouterr()
    home = str(cloud.path / "cloud")
    status = user_rl(["estop", *args, *WHY, "--json", "--wait-s", "30", "--home", home])
    robots: list[dict[str, Any]] = json.loads(capsys.readouterr().out)["robots"]
    return status, robots


def test_a_stop_halts_the_robot_latches_the_fault_and_keeps_everybody_off_it(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with plant(tmp_path, **coasting(tmp_path)) as (cloud, daemon):
        cloud.lease()
        wait_for(lambda: moves(tmp_path))
        status, [robot] = stop(cloud, capsys, "--all")
        assert not moves(tmp_path)
        assert (status, robot["cell"], robot["confirmed"], robot["detail"]) == (0, "arm", True, "halted")
        assert REASON in (daemon.home / "fault.json").read_text()
        wait_for(lambda: cloud.cell().status.state == "fault")
        cell = cloud.cell()
        assert (cell.state, cell.reason) == ("quarantined", REASON)
        wait_for(lambda: cloud.cell().lease == "free")
        wait_for(lambda: "not opened: emergency stop by admin:local" in daemon.said)
        daemon.stop()
        daemon.start()  # the latch holds through a restart, and nothing is told twice
        wait_for(lambda: daemon.said.count("not opened: emergency stop") == 2)
        assert user_rl_edge(["clear", "--home", str(daemon.home), "--yes"]) == 0
        wait_for(lambda: daemon.said.count("is open: coasting") == 2)
        assert cloud.cell().state == "quarantined"
        cloud.admit()
        cloud.lease()
        wait_for(lambda: moves(tmp_path))
        assert daemon.stop() == 0


def test_a_control_that_does_not_answer_is_killed_and_the_robot_halted_out_of_band(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with plant(tmp_path, **{**coasting(tmp_path), "pulse_s": 60.0}) as (cloud, daemon):
        cloud.lease()
        wait_for(lambda: moves(tmp_path))
        pid = daemon.signal("control", signal.SIGSTOP)
        status, [robot] = stop(cloud, capsys, "arm")
        assert not moves(tmp_path)
        assert (status, robot["confirmed"]) == (0, True)
        assert robot["detail"] == "control did not answer and was ended; the halt command has run"
        wait_for(lambda: gone(pid))
        assert "control has not halted within 0.1 s of an emergency stop; it is killed" in daemon.said
        wait_for(lambda: "not opened: emergency stop by admin:local" in daemon.said)
        assert daemon.stop() == 0


def test_an_edge_that_was_away_is_told_when_it_comes_back_and_only_once(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with plant(tmp_path, **coasting(tmp_path)) as (cloud, daemon):
        cloud.lease()
        wait_for(lambda: moves(tmp_path))
        assert daemon.stop() == 0
        home = str(cloud.path / "cloud")
        capsys.readouterr()
        assert user_rl(["estop", "arm", "leg", *WHY, "--wait-s", "0.2", "--home", home]) == 1
        assert sorted(capsys.readouterr().out.splitlines()) == [
            "arm NOT CONFIRMED: use its emergency stop button (its edge does not listen to the fleet)",
            "leg NOT CONFIRMED: use its emergency stop button (no cell has this name)",
        ]
        daemon.start()
        wait_for(lambda: "not opened: emergency stop by admin:local" in daemon.said)
        assert not moves(tmp_path)
        opened = daemon.said.count("is open: coasting")
        assert user_rl_edge(["clear", "--home", str(daemon.home), "--yes"]) == 0
        daemon.signal("link", signal.SIGKILL)  # its successor opens another stream
        wait_for(lambda: cloud.cell().status.state == "waiting for a lease")
        wait_for(lambda: daemon.said.count("is open: coasting") > opened)
        assert daemon.stop() == 0
        assert not (daemon.home / "fault.json").exists()


def test_without_a_fleet_nothing_is_confirmed(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert user_rl(["estop", "--all", "--home", str(tmp_path)]) == 1
    said = capsys.readouterr().out
    assert said.startswith("NOTHING MORE IS CONFIRMED: use the emergency stop buttons (no fleet has ever run in ")
