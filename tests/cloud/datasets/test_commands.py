"""`user-rl buffer export` and `import` as an operator calls them, and a run that starts from what was imported."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from cloud.demonstrations import copy_demonstrations
from cloud.main import main
from cloud.run import RunFolder, keep_config
from cloud.schema_file import keep_schema
from cloud.testing import episode_rows
from tests.cloud.datasets.recordings import (
    ACTION,
    BLIND,
    BOOT,
    SEEING,
    STATE,
    STREAM,
    all_rows,
    stamped,
    transitions,
    write_log,
    write_pickle,
)  # fmt: skip
from tests.cloud.datasets.test_robomimic import demo
from user_rl.files import FileLock
from user_rl.log import Log, Reader
from user_rl.rows import Klass, Schema, make_schema


def make_run(root: Path, schema: Schema = BLIND, *, episodes: int = 2) -> RunFolder:
    run, rng, rows = RunFolder(root / "runs" / "peg"), np.random.default_rng(0), []
    keep_config(run, {"overrides": [], "tree": {"robot": {"name": "panda_sim"}}})
    keep_schema(run.root, schema)
    for number in range(episodes):
        rows.append(stamped(episode_rows(schema, rng, length=3, first_step=4 * number, number=number)))
    if rows:
        write_log(run.log, {STREAM: rows}, schema)
    return run


def test_export_and_import_by_the_commands(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = make_run(tmp_path, SEEING)
    runs = ["--runs", str(tmp_path / "runs")]
    to = str(tmp_path / "set")
    assert (
        main(["buffer", "export", "peg", "--format", "lerobot", "--to", to, "--images", "png", "--last", "1", *runs])
        == 0
    )
    assert capsys.readouterr().out == (
        f"{to}: 1 episodes, 3 frames at 10 Hz, images as png; LeRobotDataset v3.0\n"
    )  # fmt: skip
    assert json.loads((tmp_path / "set/meta/info.json").read_text())["robot_type"] == "panda_sim"
    log = str(tmp_path / "back")
    assert main(["buffer", "import", to, "--format", "lerobot", "--to", log, "--json", *runs]) == 0
    assert json.loads(capsys.readouterr().out)["streams"] == [STREAM]
    assert all_rows(tmp_path / "back", STREAM).tobytes() == all_rows(run.log, STREAM)[4:].tobytes()


def test_an_error_is_one_line_and_status_one(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["buffer", "export", str(tmp_path), "--format", "lerobot", "--to", str(tmp_path / "set")]) == 1
    assert capsys.readouterr().err.count("\n") == 1
    write_pickle(tmp_path / "demos.pkl", transitions(np.random.default_rng(0), 3))
    command = ["buffer", "import", str(tmp_path / "demos.pkl"), "--format", "hil-serl", "--to", str(tmp_path / "log")]
    assert main(command) == 1
    assert "give --trust-pickle if you made it" in capsys.readouterr().err
    assert main([*command, "--trust-pickle"]) == 0


def test_a_run_starts_from_imported_demonstrations(tmp_path: Path) -> None:
    state = replace(STATE, names=("a", "b", "c"))
    schema = make_schema({"observation.state": state}, ACTION)
    run = make_run(tmp_path, schema, episodes=0)
    items = transitions(np.random.default_rng(0), 4) + transitions(np.random.default_rng(1), 3, success=False)
    write_pickle(tmp_path / "demos.pkl", items)
    log = tmp_path / "demos"
    command = ["buffer", "import", str(tmp_path / "demos.pkl"), "--format", "hil-serl", "--to", str(log)]
    assert not run.log.exists()
    assert main([*command, "--trust-pickle", "--like", "peg", "--runs", str(tmp_path / "runs")]) == 0
    assert copy_demonstrations(log, tmp_path / "new" / "log") == 1
    with Reader(tmp_path / "new" / "log") as reader:
        (shown,) = reader.episodes()
        assert (shown.klass, shown.success, shown.closed, shown.length) == (Klass.DEMONSTRATION, True, True, 4)
        assert {found.digest for found in reader.streams().values()} == {schema.digest}
    rows = all_rows(tmp_path / "new" / "log", shown.stream)
    known = np.concatenate([item["observations"]["state"] for item in items[:4]])
    assert (rows["observation.state"][:4] == known).all()
    assert rows["next.reward"].tolist() == [0, 0, 0, 1, 0]


def test_into_a_run_rows_take_its_specs_and_name(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = make_run(tmp_path)
    write_pickle(tmp_path / "demos.pkl", transitions(np.random.default_rng(0), 4))
    command = ["buffer", "import", str(tmp_path / "demos.pkl"), "--format", "hil-serl", "--trust-pickle", "--to", "peg"]
    assert main([*command, "--runs", str(tmp_path / "runs"), "--task", "plug", "--json"]) == 0
    done = json.loads(capsys.readouterr().out)
    assert done["left_out"] == ["observation.images.front"]
    with Reader(run.log) as reader:
        assert {s.digest for s in reader.streams().values()} == {BLIND.digest}
        assert [e.klass for e in reader.episodes()] == [Klass.ONLINE, Klass.ONLINE, Klass.DEMONSTRATION]
    rows = all_rows(run.log, done["streams"][0])
    assert (set(rows["run"]), set(rows["task"])) == ({b"peg"}, {b"plug"})


def test_what_the_run_does_not_observe_or_allow_is_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    from tests.cloud.datasets.recordings import write_robomimic

    make_run(tmp_path)
    write_robomimic(tmp_path / "lift.hdf5", [demo(3)])
    command = ["buffer", "import", str(tmp_path / "lift.hdf5"), "--format", "robomimic", "--to", "peg"]
    command += ["--runs", str(tmp_path / "runs")]
    assert main(command) == 1
    assert "observation.state has 5 values, allowed 3; choose its columns in --map" in capsys.readouterr().err
    (tmp_path / "map.json").write_text('{"observation.images.front": "agentview_image"}')
    assert main([*command, "--map", str(tmp_path / "map.json")]) == 1
    assert "observation.state: run peg has it, the dataset offers" in capsys.readouterr().err
    (tmp_path / "map.json").write_text('{"observation.state": "robot0_eef_pos"}')
    assert main([*command, "--map", str(tmp_path / "map.json")]) == 0
    far = demo(3, 1)
    far["actions"] = far["actions"] + 2.0
    write_robomimic(tmp_path / "lift.hdf5", [far])
    capsys.readouterr()
    assert main([*command, "--map", str(tmp_path / "map.json")]) == 1
    assert "demo_0, frame 0: action.dx = " in capsys.readouterr().err


@pytest.mark.parametrize("text", ["", "[1]", '{"action": 3}', '{"action": []}'])
def test_a_map_that_is_none_is_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str], text: str) -> None:
    (tmp_path / "map.json").write_text(text)
    command = ["buffer", "import", str(tmp_path), "--format", "lerobot", "--to", str(tmp_path / "log")]
    assert main([*command, "--map", str(tmp_path / "map.json")]) == 1
    assert capsys.readouterr().err.startswith(f"user-rl: --map {tmp_path}/map.json")


def test_a_run_that_goes_on_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = make_run(tmp_path)
    write_pickle(tmp_path / "demos.pkl", transitions(np.random.default_rng(0), 4))
    command = ["buffer", "import", str(tmp_path / "demos.pkl"), "--format", "hil-serl", "--trust-pickle", "--to", "peg"]
    lock = FileLock(run.lock)
    assert main([*command, "--runs", str(tmp_path / "runs")]) == 1
    assert "is held by process" in capsys.readouterr().err
    lock.release()
    with Log(run.log):  # a gateway
        assert main([*command, "--runs", str(tmp_path / "runs")]) == 1
    assert "peg/log is held by process" in capsys.readouterr().err
    with Reader(run.log) as reader:
        assert list(reader.streams()) == [f"arm/{BOOT}/r"]


@pytest.mark.slow
def test_a_cell_gives_the_specs_before_there_is_a_run(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_pickle(tmp_path / "demos.pkl", transitions(np.random.default_rng(0), 4))
    command = ["buffer", "import", str(tmp_path / "demos.pkl"), "--format", "hil-serl", "--trust-pickle"]
    command += ["--to", str(tmp_path / "log"), "--cell", "robot=fake", "task=fake"]
    assert main(command) == 1
    assert "observation.state has 3 values, allowed 2" in capsys.readouterr().err
