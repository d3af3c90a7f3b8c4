"""The real daemon and its children against a real fleet and gateway, and what happens when something is killed."""

import os
import signal
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edge.main import main
from edge.telemetry import histograms, read_records
from edge.timings import NAMES
from hal.testing import Motion
from tests.edge.plant import FAKE, Daemon, Plant, plant, schema_of, wait_for
from user_rl.rows import Kind, Klass

pytestmark = pytest.mark.slow


def coasting(path: Path) -> dict[str, Any]:
    return {
        "robot": {"name": "coasting", "path": str(path / "motion"), "rate_hz": 50.0},
        "task": {"name": "fake", "max_steps": 100_000, "spread_m": 2.0, "near_m": 1e-6},
        "pulse_s": 5.0,
    }


def moves(path: Path) -> bool:
    return (path / "motion").exists() and Motion.load(path / "motion").moves


def gone(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
    except OSError:
        return True


def test_rows_reach_the_cloud_weights_reach_the_robot_and_a_stop_leaves_nothing_behind(tmp_path: Path) -> None:
    with plant(tmp_path) as (cloud, daemon):
        cloud.lease()
        wait_for(lambda: cloud.rows() > 100)
        cloud.publish(next(iter(cloud.log.streams().values())))
        wait_for(lambda: cloud.cell().status.version == 2)
        assert daemon.stop() == 0
        episodes = cloud.log.episodes()
        assert all(e.closed for e in episodes)
        assert {e.version for e in episodes} == {1, 2}
        timings = histograms(read_records(daemon.home))
        assert {name: h.count for name, h in timings.items()} == dict.fromkeys(NAMES, sum(e.length for e in episodes))
        assert cloud.differences() == (0, 0, 0)
        assert "Traceback" not in daemon.said


def test_the_operator_demonstrates_as_often_as_the_cloud_wants(tmp_path: Path) -> None:
    task = {"name": "fake", "max_steps": 50}
    with plant(tmp_path, teleop={"name": "fake"}, task=task) as (cloud, daemon):
        cloud.close_gateway()
        cloud.open_gateway(demonstrations=3)
        cloud.lease()
        wait_for(lambda: len(cloud.log.episodes()) >= 5)
        assert daemon.stop() == 0
        shown = [e for e in cloud.log.episodes() if e.klass is Klass.DEMONSTRATION]
        assert len(shown) == 3
        assert all(e.success and e.interventions == e.length for e in shown)


def test_killed_children_come_back_and_no_row_is_lost_or_doubled(tmp_path: Path) -> None:
    with plant(tmp_path, restart_control=True) as (cloud, daemon):
        cloud.lease()
        for name in ("link", "control", "link", "control"):
            before = cloud.rows()
            wait_for(lambda before=before: cloud.rows() > before + 50)  # type: ignore[misc]
            daemon.signal(name, signal.SIGKILL)
        before = cloud.rows()
        wait_for(lambda: cloud.rows() > before + 50)
        assert daemon.stop() == 0
        (stream,) = cloud.log.streams()
        chunks = cloud.log.read(stream, 0, 2**30)
        rows = [row for c in chunks for row in cloud.log.streams()[stream].view(c.data)]
        assert [int(r["step"]) for r in rows] == list(range(len(rows)))
        starts = [r for r in rows if r["frame_index"] == 0]
        assert [int(r["episode"]) for r in starts] == list(range(len(starts)))
        cut = [e for e in cloud.log.episodes() if not e.closed]
        assert len(cut) <= 2
        assert cloud.differences() == (0, 0, 0)


def test_pictures_cross_as_the_spool_has_coded_them_and_a_killed_link_loses_and_doubles_none(tmp_path: Path) -> None:
    link = {**FAKE["link"], "codecs": {"observation.images.*": "jpeg:85"}}
    with plant(tmp_path, cameras={"front": {"name": "fake"}}, link=link) as (cloud, daemon):
        cloud.lease()
        wait_for(lambda: cloud.rows() > 30)
        daemon.signal("link", signal.SIGKILL)
        before = cloud.rows()
        wait_for(lambda: cloud.rows() > before + 30)
        assert daemon.stop() == 0
        (stream,) = cloud.log.streams()
        assert all(chunk.coded for chunk in cloud.log.stored(stream, 0, 2**30))
        assert cloud.differences() == (0, 0, 0)


def test_a_gateway_that_goes_away_and_comes_back_elsewhere_gets_what_it_missed(tmp_path: Path) -> None:
    with plant(tmp_path) as (cloud, daemon):
        cloud.lease()
        wait_for(lambda: cloud.rows() > 50)
        cloud.close_gateway()
        held = cloud.rows()
        wait_for(lambda: cloud.cell().status.rows > held + 100)
        cloud.open_gateway()
        wait_for(lambda: cloud.rows() > held + 100)
        assert daemon.stop() == 0
        assert cloud.differences() == (0, 0, 0)


def test_the_spool_of_a_killed_daemon_is_uploaded_by_the_next_one(tmp_path: Path) -> None:
    with plant(tmp_path) as (cloud, daemon):
        cloud.lease()
        wait_for(lambda: cloud.rows() > 50)
        cloud.close_gateway()
        held = cloud.rows()
        wait_for(lambda: cloud.cell().status.rows > held + 50)
        children = [daemon.child("control"), daemon.child("link")]
        assert daemon.process is not None
        daemon.process.kill()
        daemon.process.wait()
        wait_for(lambda: all(gone(pid) for pid in children))
        cloud.open_gateway()
        daemon.start()
        wait_for(lambda: len(cloud.log.streams()) == 2)
        wait_for(lambda: cloud.rows() > held + 100)
        assert daemon.stop() == 0
        assert cloud.differences() == (0, 0, 0)


def test_a_lease_that_is_taken_back_halts_the_cell_and_is_confirmed(tmp_path: Path) -> None:
    with plant(tmp_path) as (cloud, daemon):
        cloud.lease()
        wait_for(lambda: cloud.rows() > 20)
        cloud.fleet.release("run")
        wait_for(lambda: cloud.cell().lease == "free")
        wait_for(lambda: cloud.cell().status.state == "waiting for a lease")
        assert daemon.stop() == 0
        (stream,) = cloud.log.streams()
        (chunk,) = cloud.log.read(stream, cloud.log.synced(stream), 1)
        assert cloud.log.streams()[stream].view(chunk.data)["kind"][0] == Kind.LAST


def test_a_cell_that_moves_to_another_run_and_back_records_each_under_a_boot_of_its_own(tmp_path: Path) -> None:
    with plant(tmp_path) as (first, daemon):
        second = Plant(tmp_path, "next", first)
        try:
            second.publish(schema_of(daemon.tree))
            for cloud in (first, second, first):
                held = cloud.rows()
                cloud.lease()
                wait_for(lambda cloud=cloud, held=held: cloud.rows() > held + 30)  # type: ignore[misc]
                cloud.fleet.release(cloud.run)
                wait_for(lambda: first.cell().lease == "free")
                wait_for(lambda: first.rows() + second.rows() == first.cell().status.rows)
            assert daemon.stop() == 0
            assert [len(c.log.streams()) for c in (first, second)] == [2, 1]
            assert first.differences() == second.differences() == (0, 0, 0)
        finally:
            second.close()


def test_a_wedged_control_is_killed_and_halted_out_of_band(tmp_path: Path) -> None:
    with plant(tmp_path, **{**coasting(tmp_path), "pulse_s": 1.0}) as (cloud, daemon):
        cloud.lease()
        wait_for(lambda: moves(tmp_path))
        pid = daemon.signal("control", signal.SIGSTOP)
        wait_for(lambda: not moves(tmp_path), within_s=10.0)
        wait_for(lambda: gone(pid))
        assert daemon.ended() == 1
        assert "it is killed and the robot halted" in daemon.said


NARROW = {"state_limits": {"point.x": [-0.001, 0.001]}}
OPENED = "is open: fake at 100 Hz"


def test_a_latched_fault_is_on_the_inventory_through_restarts_until_a_person_clears_it(tmp_path: Path) -> None:
    with plant(tmp_path, restart_control=True, guard=NARROW) as (cloud, daemon):
        cloud.lease()
        wait_for(lambda: cloud.cell().status.state == "fault")
        assert daemon.stop() == 0
        daemon.start()
        wait_for(lambda: "not opened: fake: point.x = " in daemon.said)
        wait_for(lambda: cloud.cell().alive and cloud.cell().status.state == "fault")
        assert "look at the robot, bring it back inside, start again" in cloud.cell().status.reason
        assert daemon.said.count(OPENED) == 1
        assert main(["clear", "--home", str(daemon.home), "--yes"]) == 0
        wait_for(lambda: daemon.said.count(OPENED) == 2)
        assert daemon.stop() == 0


def test_a_control_that_died_of_a_fault_comes_back_without_opening_the_robot(tmp_path: Path) -> None:
    with plant(tmp_path, guard=NARROW) as (cloud, daemon):
        cloud.lease()
        wait_for(lambda: "control ended with code 3, again in" in daemon.said)
        wait_for(lambda: "then user-rl-edge clear)" in daemon.said)
        daemon.child("control")
        assert daemon.said.count(OPENED) == 1
        assert daemon.stop() == 0


def test_a_simulated_robot_with_a_latched_fault_ends_its_daemon(tmp_path: Path) -> None:
    with plant(tmp_path, pace="free", guard=NARROW) as (cloud, daemon):
        cloud.lease()
        assert daemon.ended() == 3
        daemon.start()
        assert daemon.ended() == 3
        assert "then user-rl-edge clear" in daemon.said


@pytest.mark.parametrize(
    ("changes", "line"),
    [
        ({"robot": {"name": "nobot"}}, "robot.name = nobot, allowed "),
        ({"bundle": "/nowhere"}, "/nowhere: No such file or directory; give the path of a file"),
        ({"name": "leg"}, "is for arm, allowed name = leg; give its own"),
        ({"drain": 3}, "drain: no such key, did you mean drain_s?"),
    ],
)
def test_a_mistake_in_the_configuration_is_one_line_and_exit_code_2(
    tmp_path: Path, changes: dict[str, Any], line: str
) -> None:
    with plant(tmp_path) as (_, first):
        first.stop()
        daemon = Daemon(tmp_path, {**FAKE, **changes})
        daemon.start()
        assert daemon.ended() == 2
    assert line in daemon.said
    assert "Traceback" not in daemon.said


def test_a_robot_that_nothing_stops_is_refused_unless_that_is_allowed(tmp_path: Path) -> None:
    robot = {"name": "coasting", "path": str(tmp_path / "motion"), "declared": "none"}
    with plant(tmp_path, **{**coasting(tmp_path), "robot": robot}) as (cloud, daemon):
        assert daemon.ended() == 2
        assert "coasting goes on moving when commands stop (on_silence = none), allowed stops or" in daemon.said
        allowed = Daemon(tmp_path, {**FAKE, **coasting(tmp_path), "robot": robot, "allow_no_silence_stop": True})
        allowed.start()
        cloud.lease()
        wait_for(lambda: moves(tmp_path))
        assert allowed.stop() == 0
        assert not moves(tmp_path)


def test_a_second_daemon_for_the_same_home_is_told_who_has_it(tmp_path: Path) -> None:
    with plant(tmp_path) as (_, first):
        first.child("link")
        second = Daemon(tmp_path, {**FAKE, "stop_s": 0.2, "drain_s": 0.2})
        second.start()
        assert second.ended() == 1
        assert first.process is not None
        assert f"is held by process {first.process.pid}, allowed one" in second.said
        assert os.path.exists(f"/proc/{first.process.pid}")


def test_a_broken_camera_degrades_its_cell_and_nothing_else_and_comes_back(tmp_path: Path) -> None:
    planted = tmp_path / "unplugged"
    camera = {"name": "fake", "fails_while": str(planted)}
    with plant(tmp_path, cameras={"front": camera}) as (cloud, daemon):
        cloud.lease()
        wait_for(lambda: cloud.rows() > 30)
        planted.touch()
        wait_for(lambda: cloud.cell().state == "degraded")
        cell = cloud.cell()
        assert cell.reason.startswith("camera front is broken: observation.images.front does not answer")
        assert (cell.run, cell.lease, cell.status.state) == ("run", "held", "waiting for a sensor")
        assert {part.name: part.health for part in cell.status.parts} == {"robot": "ok", "front": "broken"}
        held = cloud.rows()
        planted.unlink()
        wait_for(lambda: cloud.rows() > held + 30)
        wait_for(lambda: cloud.cell().state == "leased")
        assert daemon.stop() == 0
        assert daemon.said.count(OPENED) == 1


def test_a_higher_priority_waits_for_the_end_of_the_episode(tmp_path: Path) -> None:
    with plant(tmp_path) as (low, daemon):
        high = Plant(tmp_path, "high", low)
        try:
            high.publish(schema_of(daemon.tree))
            low.lease(preemptible=True)
            wait_for(lambda: low.rows() > 30)
            high.lease(priority=5)
            wait_for(lambda: high.rows() > 30)
            assert daemon.stop() == 0
            (stream,) = low.log.streams()
            rows = [low.log.streams()[stream].view(chunk.data) for chunk in low.log.read(stream, 0, 2**30)]
            last = np.concatenate(rows)[-2:]  # the last step, and the row that closes its episode
            whole = FAKE["task"]["max_steps"]
            assert last["kind"].tolist() == [Kind.STEP, Kind.LAST]
            assert bool(last["next.done"][0]) or int(last["frame_index"][0]) == whole - 1
        finally:
            high.close()
