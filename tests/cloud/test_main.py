"""cloud.main: the commands that only look."""

import json
import os
import stat
from pathlib import Path

import pytest

from cloud.main import main
from cloud.run import RunFolder, keep_config, write_json
from user_rl.trust import load_bundle


@pytest.fixture
def runs(tmp_path: Path) -> Path:
    folder = RunFolder(tmp_path / "runs" / "peg-1")
    keep_config(folder, {"overrides": [], "tree": {}})
    status = {
        "phase": "learning",
        "success_rate": 0.5,
        "episodes": 12,
        "env_steps": 345,
        "updates": 678,
        "driver_pid": 0,
    }
    write_json(folder.status, status)
    return tmp_path / "runs"


def test_status_lists_every_run(runs: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["status", "--runs", str(runs)]) == 0
    text = capsys.readouterr().out
    assert "peg-1" in text
    assert "50 %" in text
    assert "345" in text


def test_status_of_one_run_for_people_and_for_programs(runs: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["status", "peg-1", "--runs", str(runs)]) == 0
    assert "678" in capsys.readouterr().out
    assert main(["status", "peg-1", "--runs", str(runs), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["updates"] == 678
    assert main(["status", "--runs", str(runs), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["peg-1"]["episodes"] == 12


def test_a_run_whose_launcher_is_gone_is_shown_as_stopped(runs: Path, capsys: pytest.CaptureFixture[str]) -> None:
    main(["status", "peg-1", "--runs", str(runs)])
    assert "stopped (learning); go on with user-rl resume" in capsys.readouterr().out


def test_no_runs_is_said_in_words(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["status", "--runs", str(tmp_path)]) == 0
    assert "start one with user-rl launch" in capsys.readouterr().out


def test_enrolling_writes_a_private_join_file_and_says_what_to_do(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "arm-1.join.json"
    args = ["enroll", "arm-1", "--home", str(tmp_path / "home"), "--fleet", "gpu-box:50051", "--out", str(out)]
    assert main(args) == 0
    bundle = load_bundle(out)
    assert (bundle.identity, bundle.fleet_address) == ("join:arm-1", "gpu-box:50051")
    assert stat.S_IMODE(os.stat(out).st_mode) == 0o600
    said = capsys.readouterr().out
    assert "good once, for 24 hours" in said
    assert "user-rl-edge join arm-1.join.json" in said
    assert bundle.curve.secret not in said


def test_a_labeller_is_enrolled_as_one(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "c.json"
    args = ["enroll", "classifier", "--home", str(tmp_path / "home"), "--fleet", "gpu-box:50051", "--out", str(out)]
    assert main([*args, "--kind", "labeller"]) == 0
    assert load_bundle(out).identity == "join:classifier"
    assert "copy it to the machine of labeller classifier" in capsys.readouterr().out


def test_a_name_that_cannot_be_enrolled_is_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    args = ["enroll", "arm/1", "--home", str(tmp_path), "--fleet", "h:1", "--out", str(tmp_path / "b.json")]
    assert main(args) == 1
    assert capsys.readouterr().err.startswith("user-rl: ")
    assert not (tmp_path / "b.json").exists()


def test_a_table_that_is_piped_folds_no_name(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    name = "peg_insertion_with_two_cameras-rlpd-20260101-120000"
    keep_config(RunFolder(tmp_path / name), {"overrides": [], "tree": {}})
    assert main(["status", "--runs", str(tmp_path)]) == 0
    assert name in capsys.readouterr().out
