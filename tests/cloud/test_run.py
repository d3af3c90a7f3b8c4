"""cloud.run: a run is found by its name or its path, and the refusal names the ones that exist."""

import re
from pathlib import Path

import pytest

from cloud.run import RunFolder, find_run, keep_config, list_runs, read_json, write_json
from user_rl.errors import ConfigError


def test_a_run_is_found_by_name_and_by_path(tmp_path: Path) -> None:
    keep_config(RunFolder(tmp_path / "peg-1"), {"seed": 1})
    assert find_run(tmp_path, "peg-1").root == tmp_path / "peg-1"
    assert find_run(Path("elsewhere"), str(tmp_path / "peg-1")).name == "peg-1"
    assert read_json(find_run(tmp_path, "peg-1").config) == {"seed": 1}


def test_an_unknown_run_is_refused_with_the_known_ones(tmp_path: Path) -> None:
    message = f"run peg: not found in {tmp_path}, allowed: none yet; start one with user-rl launch"
    with pytest.raises(ConfigError, match=f"^{re.escape(message)}$"):
        find_run(tmp_path, "peg")
    keep_config(RunFolder(tmp_path / "peg-1"), {})
    with pytest.raises(ConfigError, match="allowed: peg-1; start"):
        find_run(tmp_path, "peg")


def test_runs_are_listed_oldest_first_and_other_folders_left_out(tmp_path: Path) -> None:
    import os

    for age, name in enumerate(("b", "a")):
        keep_config(RunFolder(tmp_path / name), {})
        os.utime(tmp_path / name / "config.json", (age, age))
    (tmp_path / "notes").mkdir()
    assert [r.name for r in list_runs(tmp_path)] == ["b", "a"]
    assert list_runs(tmp_path / "nothing") == []


def test_every_part_of_a_run_lies_inside_its_folder(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path / "r")
    parts = [folder.log, folder.weights, folder.metrics, folder.status, folder.report, folder.curve, folder.leases]
    parts += [folder.edge("sim0"), folder.process_log("learner"), folder.lock, folder.baseline]
    assert len(set(parts)) == len(parts)
    assert all(folder.root in part.parents for part in parts)


def test_json_is_replaced_whole(tmp_path: Path) -> None:
    write_json(tmp_path / "a.json", {"x": 1})
    write_json(tmp_path / "a.json", {"x": 2})
    assert read_json(tmp_path / "a.json") == {"x": 2}
    assert [f.name for f in tmp_path.iterdir()] == ["a.json"]
