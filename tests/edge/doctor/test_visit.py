"""The doctor with real children: what hangs or crashes costs itself only, and a robot left moving is halted."""

import json
import os
import time
from pathlib import Path
from typing import Any

import pytest

from cloud.authority import Authority
from cloud.fleet import FleetServer, ServeConfig
from edge.doctor.config import DoctorConfig
from edge.doctor.diagnosis import Result, Row, as_json, as_text, failed
from edge.doctor.host import fleet_rows, host_rows, may_have_fifo
from edge.doctor.visit import visit
from edge.main import main
from hal.testing import Motion
from tests.edge.doctor.broken import coaster_at, tree_of
from user_rl.clock import FakeClock
from user_rl.errors import ConfigError, StorageBusy
from user_rl.files import FileLock
from user_rl.trust import save_bundle

EXAMINE = "tests.edge.doctor.broken:examine"
QUICK = DoctorConfig(for_s=0.5, deadline_s=6.0)


def visited(tree: dict[str, Any], config: DoctorConfig = QUICK) -> list[Row]:
    return [row for row in visit(tree, config, examine=EXAMINE) if row.about not in ("host", "fleet")]


def row(rows: list[Row], about: str, check: str) -> Row:
    [found] = [one for one in rows if (one.about, one.check) == (about, check)]
    return found


@pytest.mark.slow
def test_a_camera_that_hangs_costs_its_deadline_and_the_others_are_looked_at() -> None:
    began_s = time.monotonic()
    rows = visited(tree_of(cameras={"a": "", "b": "hangs", "c": ""}))
    assert time.monotonic() - began_s < 60.0
    hung = row(rows, "camera b", "reading frames")
    assert (hung.result, hung.value) == (Result.FAIL, "hangs: no answer within 6.5 s")
    assert hung.fix.startswith("the driver waits without end")
    for camera in ("camera a", "camera c"):
        rate_hz, unit = row(rows, camera, "rate").value.split()
        assert float(rate_hz) > 10.0, "a third of its own rate, however busy the machine is"
        assert unit == "Hz"
    assert row(rows, "robot", "values").result is Result.OK  # once, though it was opened twice
    assert failed(rows)


@pytest.mark.slow
def test_a_robot_that_hangs_when_it_is_opened_does_not_hide_the_cameras() -> None:
    rows = visited(tree_of("hangs at open", cameras={"a": ""}))
    assert row(rows, "robot", "opening").value == "hangs: no answer within 6.5 s"
    assert row(rows, "camera a", "rate").result is Result.OK


@pytest.mark.slow
def test_a_driver_that_crashes_its_process_is_named() -> None:
    rows = visited(tree_of("crashes", cameras={"a": ""}))
    crashed = row(rows, "robot", "reading the state")
    assert crashed.value.startswith("the process that looked ended with SIGABRT")
    assert row(rows, "camera a", "pictures").result is Result.OK


@pytest.mark.slow
def test_a_robot_that_hangs_when_it_is_closed_is_told_once() -> None:
    rows = visited(tree_of("hangs at close"))
    assert row(rows, "robot", "closing").result is Result.FAIL
    assert row(rows, "robot", "values").result is Result.OK


@pytest.mark.slow
def test_a_robot_whose_driver_hangs_while_it_moves_is_halted_out_of_band(tmp_path: Path) -> None:
    rows = visited(coaster_at(tmp_path / "motion"))
    assert row(rows, "robot", "reading the state").value.startswith("hangs")
    after = row(rows, "robot", "after it")
    assert (after.result, after.value) == (Result.OK, "halted out of band")
    assert not Motion.load(tmp_path / "motion").moves


@pytest.mark.slow
@pytest.mark.parametrize(
    ("robot", "value"),
    [
        ({"on_silence": "none"}, "nothing stops it: it may move"),
        ({"on_silence": "out_of_band", "halt_command": ["false"]}, "may still move: Command '['false']' returned"),
    ],
)
def test_a_robot_that_cannot_be_halted_is_said_to_move(robot: dict[str, Any], value: str) -> None:
    rows = visited(tree_of("crashes", **robot))
    after = row(rows, "robot", "after it")
    assert after.result is Result.FAIL
    assert after.value.startswith(value)
    assert after.fix == "use the emergency stop"


@pytest.mark.slow
def test_a_configuration_that_makes_no_cell_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"robot\.name = nobody, allowed"):
        visited({"robot": {"name": "nobody"}, "task": {"name": "fake"}})


def test_a_cell_whose_daemon_runs_is_left_alone(tmp_path: Path) -> None:
    lock = FileLock(tmp_path / "lock")
    try:
        with pytest.raises(StorageBusy, match=f"is held by process {os.getpid()}"):
            visit(tree_of() | {"home": str(tmp_path)}, QUICK, examine=EXAMINE)
    finally:
        lock.release()


def test_the_machine_is_judged_by_space_and_scheduling(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    policy = os.sched_getscheduler(0)
    disk, fifo = host_rows(tmp_path / "not/yet/there")
    assert disk.value.endswith(f"free at {tmp_path}")
    assert fifo.result is (Result.OK if may_have_fifo() else Result.WARN)
    assert os.sched_getscheduler(0) == policy
    monkeypatch.setattr("edge.doctor.host._FREE_BYTES", 2**60)
    full = host_rows(tmp_path)[0]
    assert (full.result, full.fix) == (Result.FAIL, "free space, or name another home")

    def refuse(*_: object) -> None:
        raise PermissionError(1, "Operation not permitted")

    monkeypatch.setattr(os, "sched_setscheduler", refuse)
    without = host_rows(tmp_path)[1]
    assert (without.result, without.value) == (Result.WARN, "not permitted")
    assert without.fix.startswith("rtprio 50 for this user in /etc/security/limits.conf")


def test_a_bundle_that_is_not_there_is_a_row(tmp_path: Path) -> None:
    [answer] = fleet_rows(tmp_path / "bundle.json")
    assert (answer.about, answer.result) == ("fleet", Result.FAIL)
    assert str(tmp_path / "bundle.json") in answer.value


@pytest.mark.slow
def test_a_fleet_that_answers_to_the_bundle_is_a_row_and_one_that_is_gone_too(tmp_path: Path) -> None:
    server = FleetServer(ServeConfig(home=tmp_path / "home"), clock=FakeClock())
    try:
        bundle = Authority(tmp_path / "home/authority").mint("arm", kind="edge", fleet_address=server.address)
        save_bundle(bundle, tmp_path / "bundle.json")
        answers, clock = fleet_rows(tmp_path / "bundle.json")
    finally:
        server.close()
    assert (answers.result, clock.result) == (Result.OK, Result.SKIP)
    assert answers.value.startswith(f"{server.address} in ")
    [gone] = fleet_rows(tmp_path / "bundle.json")
    assert gone.result is Result.FAIL
    assert gone.value.startswith(f"no answer from the fleet at {server.address}")
    assert gone.fix == "see that user-rl fleet runs there, then again"


ROWS = [
    Row(about="robot", check="rate", result=Result.OK, value="10 Hz", allowed="≥ 9 Hz"),
    Row(about="robot", check="velocity", result=Result.WARN, value="absent", fix="say it"),
    Row(about="camera front", check="rate", result=Result.FAIL, value="5 Hz", allowed="≥ 27 Hz", fix="more light"),
    Row(about="host", check="FIFO", result=Result.SKIP, value="unknown"),
]


def test_the_table_names_a_part_once_and_sums_up() -> None:
    lines = as_text(ROWS, 7.4, width=120).splitlines()
    assert lines[1].startswith("robot ")
    assert lines[2].startswith("      ")
    assert lines[3].split() == ["camera", "front", "rate", "FAIL", "5", "Hz", "≥", "27", "Hz", "more", "light"]
    assert lines[-1] == "This cell is not fit to run: 1 ok, 1 to know of, 1 to fix, 1 not checked, in 7 s."
    assert "is fit to run" in as_text(ROWS[:2], 1.0, width=120)


def test_json_says_whether_the_cell_is_fit_and_every_row() -> None:
    told = json.loads(as_json(ROWS, 7.4))
    assert (told["ok"], told["took_s"], len(told["checks"])) == (False, 7.4, 4)
    assert told["checks"][2] == {
        "about": "camera front", "check": "rate", "result": "FAIL", "value": "5 Hz", "allowed": "≥ 27 Hz",
        "fix": "more light",
    }  # fmt: skip
    assert json.loads(as_json(ROWS[:2], 1.0))["ok"]


@pytest.mark.slow
def test_the_command_prints_a_table_and_its_exit_code_says_whether_to_run(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    cell = tmp_path / "cell.json"
    tree: dict[str, Any] = {"robot": {"name": "fake"}, "task": {"name": "fake"}, "cameras": {"a": {"name": "fake"}}}
    cell.write_text(json.dumps(tree))
    doctor = ["doctor", "--for-s", "0.3", "--config", str(cell)]
    code = main([*doctor, "--json"])
    told = json.loads(capsys.readouterr().out)
    assert code == (0 if told["ok"] else 1)
    assert {check["about"] for check in told["checks"]} == {"robot", "camera a", "together", "host"}
    tree["cameras"]["a"] = {"name": "realsense", "serial": "none"}
    cell.write_text(json.dumps(tree))
    assert main(doctor) == 1
    assert "This cell is not fit to run" in capsys.readouterr().out


@pytest.mark.slow
def test_a_cell_without_a_bundle_is_not_asked_for_its_fleet(capsys: pytest.CaptureFixture[str]) -> None:
    main(["doctor", "--json", "--for-s", "0.3", "robot=fake", "task=fake"])
    assert "fleet" not in {check["about"] for check in json.loads(capsys.readouterr().out)["checks"]}
