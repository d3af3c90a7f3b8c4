"""robomimic's HDF5 files as rows."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from cloud.datasets.importing import Choices, Imported, import_dataset
from tests.cloud.datasets.recordings import all_rows, write_robomimic
from user_rl.errors import ConfigError, SpecError, StorageCorrupt

EYE = "observation.images.agentview"


def demo(
    length: int, seed: int = 0, *, next_obs: bool = True, rewards: bool = True, done: bool = True
) -> dict[str, Any]:
    rng = np.random.default_rng(seed)
    seen = {
        "robot0_eef_pos": rng.standard_normal((length + 1, 3)),
        "robot0_gripper_qpos": rng.standard_normal((length + 1, 2)),
        "agentview_image": rng.integers(0, 256, (length + 1, 6, 4, 3), np.uint8),
    }
    found: dict[str, Any] = {
        "obs": {k: v[:-1] for k, v in seen.items()}, "actions": rng.uniform(-1, 1, (length, 2)), "seen": None
    }  # fmt: skip
    del found["seen"]
    if next_obs:
        found["next_obs"] = {k: v[1:] for k, v in seen.items()}
    ends = np.arange(length) == length - 1
    return found | ({"rewards": ends * float(done), "dones": (ends & done).astype(int)} if rewards else {})


def imported(path: Path, to: Path, **choices: Any) -> Imported:  # noqa: ANN401
    return import_dataset(path, "robomimic", to, Choices(**choices))


def test_every_demonstration_comes_with_its_last_observation(tmp_path: Path) -> None:
    demos = [demo(4), demo(3, 1, done=False)]
    write_robomimic(tmp_path / "lift.hdf5", demos)
    done = imported(tmp_path / "lift.hdf5", tmp_path / "log", task="lift")
    assert (done.episodes, done.successful, done.rows, done.actions_given_up) == (2, 1, 9, 0)
    rows = all_rows(tmp_path / "log", done.streams[0])
    assert rows["kind"].tolist() == [0, 0, 0, 0, 1, 0, 0, 0, 1]
    state = np.concatenate([demos[0]["obs"]["robot0_eef_pos"], demos[0]["obs"]["robot0_gripper_qpos"]], axis=1)
    assert (rows["observation.state"][:4] == state.astype(np.float32)).all()
    after = demos[0]["next_obs"]
    assert (rows["observation.state"][4, :3] == after["robot0_eef_pos"][-1].astype(np.float32)).all()
    assert (rows[EYE][:4] == demos[0]["obs"]["agentview_image"]).all()
    assert (rows[EYE][4] == after["agentview_image"][-1]).all()
    assert rows["next.done"].tolist() == rows["next.success"].tolist() == [0, 0, 0, 1, 0, 0, 0, 0, 0]
    assert rows["next.truncated"].tolist() == [0, 0, 0, 0, 0, 0, 0, 1, 0]
    assert np.allclose(np.diff(rows["stamp.observation.state"]), 0.05)
    assert set(rows["task"]) == {b"lift"}


def test_without_next_obs_an_open_end_gives_up_its_last_action(tmp_path: Path) -> None:
    demos = [demo(4, next_obs=False), demo(3, 1, next_obs=False, done=False)]
    write_robomimic(tmp_path / "lift.hdf5", demos)
    done = imported(tmp_path / "lift.hdf5", tmp_path / "log")
    assert (done.rows, done.actions_given_up) == (8, 1)


def test_an_end_without_reward_is_no_success(tmp_path: Path) -> None:
    lost = demo(4)
    lost["rewards"] = np.zeros(4)
    write_robomimic(tmp_path / "lift.hdf5", [demo(3), lost])
    done = imported(tmp_path / "lift.hdf5", tmp_path / "log")
    assert (done.episodes, done.successful) == (2, 1)
    assert all_rows(tmp_path / "log", done.streams[0])["next.done"].tolist() == [0, 0, 1, 0, 0, 0, 0, 1, 0]


def test_a_mask_chooses_demonstrations(tmp_path: Path) -> None:
    demos = [demo(2, seed) for seed in range(11)]
    write_robomimic(tmp_path / "lift.hdf5", demos, masks={"valid": ["demo_10", "demo_2"]})
    done = imported(tmp_path / "lift.hdf5", tmp_path / "log", mask="valid")
    rows = all_rows(tmp_path / "log", done.streams[0])
    assert (rows["action"][0] == demos[2]["actions"][0].astype(np.float32)).all()
    assert (rows["action"][3] == demos[10]["actions"][0].astype(np.float32)).all()
    with pytest.raises(ConfigError, match=r"no mask train, allowed valid; choose one of these$"):
        imported(tmp_path / "lift.hdf5", tmp_path / "log", mask="train")


def test_a_map_renames_and_joins_columns(tmp_path: Path) -> None:
    demos = [demo(3)]
    write_robomimic(tmp_path / "lift.hdf5", demos)
    names = {
        "observation.state": ("robot0_gripper_qpos", "robot0_eef_pos"),
        "observation.images.top": ("agentview_image",),
    }
    done = imported(tmp_path / "lift.hdf5", tmp_path / "log", names=names)
    rows = all_rows(tmp_path / "log", done.streams[0])
    assert (rows["observation.state"][:3, :2] == demos[0]["obs"]["robot0_gripper_qpos"].astype(np.float32)).all()
    assert (rows["observation.images.top"][:3] == demos[0]["obs"]["agentview_image"]).all()


@pytest.mark.parametrize(
    ("names", "line"),
    [
        ({"observation.state": ("robot0_eef_poss",)}, r"no such column, did you mean robot0_eef_pos\?$"),
        ({"observations.state": ("robot0_eef_pos",)}, r"no name of ours, did you mean observation.state\?$"),
    ],
)
def test_a_wrong_name_in_the_map_is_told_with_the_nearest(tmp_path: Path, names: Any, line: str) -> None:  # noqa: ANN401
    write_robomimic(tmp_path / "lift.hdf5", [demo(3)])
    with pytest.raises(ConfigError, match=line):
        imported(tmp_path / "lift.hdf5", tmp_path / "log", names=names)


def test_what_is_no_robomimic_file_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"no file is there; give a robomimic HDF5 file$"):
        imported(tmp_path / "lift.hdf5", tmp_path / "log")
    (tmp_path / "lift.hdf5").write_bytes(b"no")
    with pytest.raises(StorageCorrupt, match=r"is no whole HDF5 file"):
        imported(tmp_path / "lift.hdf5", tmp_path / "log")
    write_robomimic(tmp_path / "empty.hdf5", [])
    with pytest.raises(ConfigError, match=r"has no demonstrations \(data/demo_0 is missing\)"):
        imported(tmp_path / "empty.hdf5", tmp_path / "log")


def test_lengths_that_differ_are_told(tmp_path: Path) -> None:
    wrong = demo(3, 1)
    wrong["obs"]["robot0_eef_pos"] = wrong["obs"]["robot0_eef_pos"][:2]
    write_robomimic(tmp_path / "lift.hdf5", [demo(3), wrong])
    with pytest.raises(SpecError, match=r"demo_1: robot0_eef_pos is float64\[2, 3\], allowed numbers for its 3 frames"):
        imported(tmp_path / "lift.hdf5", tmp_path / "log")
    assert not (tmp_path / "log").exists()
