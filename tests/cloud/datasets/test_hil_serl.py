"""HIL-SERL's pickles as rows; a pickle is read only when it is trusted, and makes arrays only."""

import os
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from cloud.datasets.hil_serl import load
from cloud.datasets.importing import Choices, Imported, import_dataset
from tests.cloud.datasets.recordings import all_rows, transitions, write_pickle
from user_rl.errors import ConfigError, SpecError, StorageCorrupt
from user_rl.rows import Klass, Source

FRONT = "observation.images.front"


def imported(path: Path, to: Path, **choices: Any) -> Imported:  # noqa: ANN401
    return import_dataset(path, "hil-serl", to, Choices(trust_pickle=True, **choices))


@pytest.mark.parametrize("protocol", [2, 4, 5])
def test_episodes_are_told_apart_by_their_ends(tmp_path: Path, protocol: int) -> None:
    rng = np.random.default_rng(0)
    one, two = transitions(rng, 4), transitions(rng, 3, success=False)
    write_pickle(tmp_path / "demos.pkl", one + two, protocol)
    done = imported(tmp_path / "demos.pkl", tmp_path / "log", klass=Klass.ONLINE)
    assert (done.episodes, done.successful, done.rows, done.cuts) == (2, 1, 9, 0)
    rows = all_rows(tmp_path / "log", done.streams[0])
    assert rows["kind"].tolist() == [0, 0, 0, 0, 1, 0, 0, 0, 1]
    for t in range(4):
        assert (rows["observation.state"][t] == one[t]["observations"]["state"][0]).all()
        assert (rows[FRONT][t + 1] == one[t]["next_observations"]["front"][0]).all()
        assert (rows["action"][t] == one[t]["actions"]).all()
    assert rows["next.done"].tolist() == [0, 0, 0, 1, 0, 0, 0, 0, 0]
    assert rows["next.truncated"].tolist() == [0, 0, 0, 0, 0, 0, 0, 1, 0]
    assert rows["next.reward"].tolist() == [0, 0, 0, 1, 0, 0, 0, 0, 0]
    assert rows["is_intervention"].tolist() == [0, 1, 0, 0, 0, 0, 1, 0, 0]
    assert (rows["source"] == np.where(rows["is_intervention"], Source.TELEOP, Source.POLICY)).all()


def test_a_missing_piece_cuts_the_episode_instead_of_joining_two_moments(tmp_path: Path) -> None:
    items = transitions(np.random.default_rng(0), 6)
    write_pickle(tmp_path / "demos.pkl", items[:2] + items[3:])
    done = imported(tmp_path / "demos.pkl", tmp_path / "log")
    assert (done.episodes, done.cuts) == (2, 1)
    rows = all_rows(tmp_path / "log", done.streams[0])
    assert rows["kind"].tolist() == [0, 0, 1, 0, 0, 0, 1]
    assert (rows["observation.state"][2] == items[1]["next_observations"]["state"][0]).all()
    assert rows["next.truncated"].tolist() == [0, 1, 0, 0, 0, 0, 0]


def test_an_episode_may_go_on_in_the_next_file(tmp_path: Path) -> None:
    items = transitions(np.random.default_rng(0), 6)
    (tmp_path / "buffer").mkdir()
    write_pickle(tmp_path / "buffer" / "transitions_1000.pkl", items[4:])
    write_pickle(tmp_path / "buffer" / "transitions_20.pkl", items[:4])
    assert imported(tmp_path / "buffer", tmp_path / "log").episodes == 1


def test_an_episode_without_end_is_one_line(tmp_path: Path) -> None:
    items = transitions(np.random.default_rng(0), 6)
    write_pickle(tmp_path / "demos.pkl", items + items[:2])
    with pytest.raises(SpecError, match=r"demos.pkl: episode at transition 6 has no end \(dones\) after 2 transitions"):
        imported(tmp_path / "demos.pkl", tmp_path / "log")
    assert not (tmp_path / "log").exists()


def test_a_pickle_is_not_read_unless_it_is_trusted(tmp_path: Path) -> None:
    write_pickle(tmp_path / "demos.pkl", transitions(np.random.default_rng(0), 3))
    with pytest.raises(
        ConfigError, match=r"a pickle can run code when it is read; give --trust-pickle if you made it$"
    ):
        import_dataset(tmp_path / "demos.pkl", "hil-serl", tmp_path / "log", Choices())


class _Evil:
    def __init__(self, marker: Path) -> None:
        self.marker = marker

    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, (str(self.marker),)


def test_even_then_it_runs_nothing(tmp_path: Path) -> None:
    write_pickle(tmp_path / "evil.pkl", [_Evil(tmp_path / "marker")])
    with pytest.raises(SpecError, match=r"it asks for posix.mkdir, allowed are numpy arrays and plain values"):
        load(tmp_path / "evil.pkl")
    assert not (tmp_path / "marker").exists()


@pytest.mark.parametrize("call", ["builtins\neval", "os\nsystem", "numpy.testing\nassert_", "builtins\ngetattr"])
def test_no_other_name_is_found(tmp_path: Path, call: str) -> None:
    (tmp_path / "evil.pkl").write_bytes(f"c{call}\n(S'1'\ntR.".encode())
    with pytest.raises(SpecError, match="it asks for"):
        load(tmp_path / "evil.pkl")


def test_a_file_that_ends_early_or_holds_something_else_is_one_line(tmp_path: Path) -> None:
    whole = pickle.dumps(transitions(np.random.default_rng(0), 3))
    (tmp_path / "demos.pkl").write_bytes(whole[: len(whole) // 2])
    with pytest.raises((StorageCorrupt, SpecError), match=r"demos.pkl: "):
        imported(tmp_path / "demos.pkl", tmp_path / "log")
    write_pickle(tmp_path / "demos.pkl", {"a": 1})
    with pytest.raises(SpecError, match=r"holds a dict, allowed a list of one or more transitions$"):
        imported(tmp_path / "demos.pkl", tmp_path / "log")
    write_pickle(tmp_path / "demos.pkl", [{"observations": 1}])
    with pytest.raises(SpecError, match=r"transition 0 has no actions, allowed are observations, actions"):
        imported(tmp_path / "demos.pkl", tmp_path / "log")


def test_several_moments_in_one_observation_are_refused(tmp_path: Path) -> None:
    items = transitions(np.random.default_rng(0), 3)
    for item in items:
        for key in ("observations", "next_observations"):
            item[key] = {name: np.concatenate([value, value]) for name, value in item[key].items()}
    write_pickle(tmp_path / "demos.pkl", items)
    with pytest.raises(SpecError, match=r"has 2 moments in one observation, allowed 1; record with obs_horizon=1$"):
        imported(tmp_path / "demos.pkl", tmp_path / "log")
