"""The command line: what is composed, what is refused in one line, and the evaluation of weights."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from cloud.weights import WeightStore
from edge.config import EdgeConfig, Pace, Realtime
from edge.evaluate import evaluate
from edge.main import configuration, main
from hal.make import CellConfig
from tests.edge.plant import publish_to, schema_of
from user_rl.clock import FreeRunningClock, SystemClock
from user_rl.config import build
from user_rl.errors import ConfigError
from user_rl.log import Reader
from user_rl.rows import Kind, Klass

CELL: dict[str, Any] = {"robot": {"name": "fake"}, "task": {"name": "fake", "max_steps": 12, "near_m": 0.4}}

pytestmark = pytest.mark.slow  # Hydra composes


@pytest.fixture
def weights(tmp_path: Path) -> Path:
    publish_to(WeightStore(tmp_path / "store"), schema_of(CELL))
    return tmp_path / "store/00000001"


def test_the_defaults_and_the_overrides_make_one_configuration() -> None:
    tree = configuration(
        None, ["name=arm", "bundle=b", "home=h", "robot=fake", "task=fake", "task.max_steps=7", "realtime=off"]
    )
    config = build(EdgeConfig, tree)
    assert (config.name, config.pace, config.task["max_steps"]) == ("arm", Pace.REAL, 7)
    assert (config.link.answer_s, config.realtime) == (5.0, Realtime.OFF)


def test_what_must_be_set_is_named() -> None:
    with pytest.raises(ConfigError, match="name: not set; give name=VALUE"):
        build(EdgeConfig, configuration(None, []))


def test_a_typo_is_answered_with_the_nearest_key() -> None:
    with pytest.raises(ConfigError, match=r"pase: no such key, did you mean pace\?"):
        configuration(None, ["pase=free"])
    with pytest.raises(ConfigError, match=r"robot=fak: no such choice, did you mean fake\?"):
        configuration(None, ["robot=fak"])


def test_a_file_holds_the_whole_tree_and_overrides_change_it(tmp_path: Path) -> None:
    file = tmp_path / "c.json"
    file.write_text(json.dumps(CELL))
    assert configuration(file, []) == CELL
    assert configuration(file, ["task.max_steps=3"])["task"] == {**CELL["task"], "max_steps": 3}
    with pytest.raises(ConfigError, match=r"task.max_step: no such key, did you mean task.max_steps\?"):
        configuration(file, ["task.max_step=3"])


@pytest.mark.parametrize(
    ("text", "line"), [("{", "give a JSON file that holds one tree of keys"), ("[]", "holds a list, allowed one tree")]
)
def test_a_broken_file_is_refused(tmp_path: Path, text: str, line: str) -> None:
    file = tmp_path / "c.json"
    file.write_text(text)
    with pytest.raises(ConfigError, match=line):
        configuration(file, [])


def test_a_mistake_is_one_line_on_stderr_and_exit_code_2(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["run", "pace=fast", "name=a", "bundle=b", "home=h"]) == 2
    assert capsys.readouterr().err == ("user-rl-edge: pace = 'fast', allowed real, free; choose one of these\n")


def test_an_evaluation_writes_its_result_and_needs_no_more_than_a_cell(tmp_path: Path, weights: Path) -> None:
    file, result = tmp_path / "cell.json", tmp_path / "out.json"
    file.write_text(json.dumps(CELL))
    argv = ["eval", "--config", str(file), "--weights", str(weights), "--episodes", "4", "--json", str(result)]
    assert main([*argv, "--seed", "3"]) == 0
    found = json.loads(result.read_text())
    assert (found["episodes"], found["seed"], found["version"]) == (4, 3, 1)
    assert 0 <= found["success_rate"] <= 1


def test_an_evaluation_is_the_same_for_the_same_seed_and_has_no_operator(weights: Path) -> None:
    config = CellConfig(**CELL, teleop={"name": "fake"})
    rates: list[tuple[int, int, float]] = []
    note = lambda *what: rates.append(what)  # noqa: E731
    first = evaluate(config, weights, episodes=5, seed=1, progress=note)
    assert first == evaluate(config, weights, episodes=5, seed=1, progress=note)
    assert first != {**evaluate(config, weights, episodes=5, seed=2, progress=note), "seed": 1}
    assert [r[0] for r in rates[:5]] == [1, 2, 3, 4, 5]
    assert rates[4][2] == first["success_rate"]


def test_the_first_episodes_of_an_evaluation_become_rows_when_asked_for(tmp_path: Path, weights: Path) -> None:
    file = tmp_path / "cell.json"
    file.write_text(json.dumps(CELL))
    argv = ["eval", "--config", str(file), "--weights", str(weights), "--episodes", "4", "--seed", "3"]
    assert main([*argv, "--json", str(tmp_path / "bare.json")]) == 0
    record = ["--record", str(tmp_path / "log"), "--recorded", "2"]
    assert main([*argv, *record, "--json", str(tmp_path / "recorded.json")]) == 0
    assert (tmp_path / "bare.json").read_text() == (tmp_path / "recorded.json").read_text()
    with Reader(tmp_path / "log") as reader:
        first, second = reader.episodes()
        assert (first.closed, second.closed, first.version, first.klass) == (True, True, 1, Klass.ONLINE)
        [(stream, schema)] = reader.streams().items()
        rows = np.concatenate([schema.view(chunk.data) for chunk in reader.read(stream, 0, 2**24)])
    assert schema.digest == schema_of(CELL).digest
    assert rows["step"].tolist() == list(range(first.length + second.length + 2))
    assert rows["kind"][first.length] == rows["kind"][-1] == Kind.LAST
    steps = rows[rows["kind"] == Kind.STEP]
    assert (steps["action"] == steps["action.proposed"]).all()
    assert np.abs(steps["action.sent"]).max() > 0
    assert (np.diff(rows["observation.state"][: first.length + 1], axis=0) != 0).any()
    assert steps["next.success"].sum() == int(first.success) + int(second.success)


def test_an_evaluation_of_no_episodes_or_no_weights_is_refused(
    tmp_path: Path, weights: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "cell.json"
    file.write_text(json.dumps(CELL))
    argv = ["eval", "--config", str(file), "--weights"]
    assert main([*argv, str(weights), "--episodes", "0"]) == 2
    assert "--episodes 0, allowed 1 or more" in capsys.readouterr().err
    assert main([*argv, str(tmp_path / "none")]) == 1
    assert "cannot be read" in capsys.readouterr().err


def test_pace_decides_clock_pulse_and_restarts() -> None:
    real = build(EdgeConfig, {**CELL, "name": "a", "bundle": "b", "home": "~/h"})
    free = build(EdgeConfig, {**CELL, "name": "a", "bundle": "b", "home": "~/h", "pace": "free"})
    assert (real.pulse_limit_s, free.pulse_limit_s) == (2.0, 20.0)
    assert (real.restarts, free.restarts) == (False, True)
    assert isinstance(real.clock(), SystemClock)
    assert isinstance(free.clock(), FreeRunningClock)
    assert not isinstance(real.clock(), FreeRunningClock)
    assert real.root == Path.home() / "h"
