"""A fault stays until a person clears it, whatever ends in between; what was cleared is written down."""

import json
from pathlib import Path

import pytest

from edge.fault import CLEARED, FAULT, clear, latch, read_fault
from edge.main import main
from user_rl.errors import ConfigError


def test_a_fault_is_read_back_by_whoever_comes_next(tmp_path: Path) -> None:
    assert read_fault(tmp_path) is None
    fault = latch(tmp_path / "home", "panda", "joint1 is beyond its limit")
    assert read_fault(tmp_path / "home") == fault
    assert str(fault) == f"joint1 is beyond its limit (since {fault.since}; then user-rl-edge clear)"


def test_the_first_fault_is_the_cause_and_stays(tmp_path: Path) -> None:
    first = latch(tmp_path, "panda", "a collision")
    assert latch(tmp_path, "panda", "no answer") == first == read_fault(tmp_path)


def test_a_file_that_cannot_be_read_is_a_fault(tmp_path: Path) -> None:
    (tmp_path / FAULT).write_text("{")
    fault = read_fault(tmp_path)
    assert fault is not None
    assert "fault.json cannot be read" in fault.reason
    clear(tmp_path)
    assert read_fault(tmp_path) is None


def test_clearing_writes_down_what_was_cleared_when_and_by_whom(tmp_path: Path) -> None:
    latch(tmp_path, "panda", "a collision")
    clear(tmp_path)
    latch(tmp_path, "panda", "another")
    clear(tmp_path)
    lines = [json.loads(line) for line in (tmp_path / CLEARED).read_text().splitlines()]
    assert [line["reason"] for line in lines] == ["a collision", "another"]
    assert all(line["by"] and line["cleared"] >= line["since"] for line in lines)


def test_where_there_is_no_fault_nothing_is_cleared(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"no fault is latched there; give the home of the edge that has one$"):
        clear(tmp_path)
    assert not (tmp_path / CLEARED).exists()


def test_the_command_says_what_it_clears(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["clear", "--home", str(tmp_path)]) == 0
    assert "no fault is latched" in capsys.readouterr().out
    latch(tmp_path, "panda", "a collision")
    assert main(["clear", "--home", str(tmp_path), "--yes"]) == 0
    said = capsys.readouterr().out
    assert "a collision (since " in said
    assert "cleared; it is written down in" in said
    assert read_fault(tmp_path) is None


def test_without_a_person_or_yes_nothing_is_cleared(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    latch(tmp_path, "panda", "a collision")
    assert main(["clear", "--home", str(tmp_path)]) == 2
    assert "look at the robot, then add --yes" in capsys.readouterr().err
    assert read_fault(tmp_path) is not None


@pytest.mark.parametrize(("answer", "code"), [("y", 0), ("no", 3), ("", 3)])
def test_a_person_is_asked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, answer: str, code: int) -> None:
    latch(tmp_path, "panda", "a collision")
    monkeypatch.setattr("sys.stdin.isatty", lambda: True, raising=False)
    monkeypatch.setattr("builtins.input", lambda _: answer)
    assert main(["clear", "--home", str(tmp_path)]) == code
    assert (read_fault(tmp_path) is None) == (code == 0)
