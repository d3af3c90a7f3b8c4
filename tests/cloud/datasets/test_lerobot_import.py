"""LeRobotDatasets of others, v2.1 and v3.0, as rows; and what is wrong with a dataset in one line."""

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from cloud.datasets.exporting import Wanted, chosen, export
from cloud.datasets.importing import Choices, import_dataset
from cloud.datasets.lerobot_v3_writer import Form
from tests.cloud.datasets.recordings import (
    FILMED,
    FRONT,
    STREAM,
    all_rows,
    filmed_episode,
    smooth,
    write_log,
    write_v21,
)  # fmt: skip
from user_rl.errors import ConfigError, SpecError, StorageCorrupt, UserRlError
from user_rl.rows import Kind, Klass, Source
from user_rl.specs import Array, Box, Image

TOP = "observation.images.top"


def plain_episode(length: int, seed: int = 0) -> dict[str, Array]:
    rng = np.random.default_rng(seed)
    return {
        "observation.state": rng.standard_normal((length, 3)).astype(np.float32),
        "action": rng.uniform(-1, 1, (length, 2)).astype(np.float32),
    }


def rewarded(episode: dict[str, Array], *, done: bool) -> dict[str, Array]:
    count = len(episode["action"])
    ends = np.arange(count) == count - 1
    return episode | {"next.reward": (ends * done).astype(np.float32), "next.done": ends & done}


def imported(source: Path, to: Path, **choices: Any) -> Array:  # noqa: ANN401
    done = import_dataset(source, "lerobot", to, Choices(**choices))
    return all_rows(to, done.streams[0])


def test_a_demonstration_without_rewards_ends_in_success(tmp_path: Path) -> None:
    episodes = [plain_episode(4), plain_episode(3, seed=1)]
    write_v21(tmp_path / "set", episodes)
    rows = imported(tmp_path / "set", tmp_path / "log")
    assert rows["kind"].tolist() == [0, 0, 0, 0, 1, 0, 0, 0, 1]
    assert rows["step"].tolist() == list(range(9))
    assert rows["episode"].tolist() == [0] * 5 + [1] * 4
    assert rows["frame_index"].tolist() == [0, 1, 2, 3, 4, 0, 1, 2, 3]
    assert rows["next.reward"].tolist() == [0, 0, 0, 1, 0, 0, 0, 1, 0]
    assert rows["next.success"].tolist() == rows["next.done"].tolist() == [0, 0, 0, 1, 0, 0, 0, 1, 0]
    assert not rows["next.truncated"].any()
    assert (rows["klass"] == Klass.DEMONSTRATION).all()
    assert (rows["source"][rows["kind"] == Kind.STEP] == Source.TELEOP).all()
    assert set(rows["task"]) == {b"stack"}
    assert (rows["observation.state"][:4] == episodes[0]["observation.state"]).all()
    assert (rows["observation.state"][4] == rows["observation.state"][3]).all()
    assert (rows["action"][5:8] == episodes[1]["action"]).all()
    assert (rows["action.sent"] == rows["action"]).all()
    assert np.allclose(rows["stamp.observation.state"], [0, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8])


def test_an_episode_that_was_cut_gives_up_its_last_action(tmp_path: Path) -> None:
    episode = rewarded(plain_episode(4), done=False)
    write_v21(tmp_path / "set", [episode])
    rows = imported(tmp_path / "set", tmp_path / "log", klass=Klass.ONLINE)
    assert rows["kind"].tolist() == [0, 0, 0, 1]
    assert (rows["observation.state"] == episode["observation.state"]).all()
    assert rows["next.truncated"].tolist() == [0, 0, 1, 0]
    assert not rows["next.done"].any()
    assert (rows["source"] == Source.POLICY).all()
    assert (rows["action.proposed"][:3] == episode["action"][:3]).all()


@pytest.mark.slow
@pytest.mark.parametrize("video", [True, False])
def test_each_frame_stands_beside_its_own_action(tmp_path: Path, video: bool) -> None:
    episodes = [plain_episode(9) | {TOP: smooth(9)}, plain_episode(5, seed=1) | {TOP: smooth(5, start=80)}]
    write_v21(tmp_path / "set", episodes, video=video)
    rows = imported(tmp_path / "set", tmp_path / "log")
    expected = np.concatenate([smooth(9), smooth(9)[-1:], smooth(5, 80), smooth(5, 80)[-1:]]).astype(int)
    apart = np.abs(rows[TOP].astype(int) - expected).mean(axis=(1, 2, 3))
    assert apart.max() < (5.0 if video else 1e-9)


@pytest.mark.slow
def test_a_v3_dataset_of_others_is_read_to_the_frame(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    episodes = [filmed_episode(rng, length=7), filmed_episode(rng, length=5, first_step=8, number=1)]
    write_log(tmp_path / "log", {STREAM: episodes}, FILMED)
    from user_rl.log import Reader

    with Reader(tmp_path / "log") as reader:
        export(reader, chosen(reader, Wanted()), tmp_path / "set", make_form=lambda fps: Form(fps=fps, robot_type="a"))
    shutil.rmtree(tmp_path / "set" / "meta" / "user_rl")
    rows = imported(tmp_path / "set", tmp_path / "back", run="r")
    steps = rows["kind"] == Kind.STEP
    original = np.concatenate(episodes)
    for name in ("action", "next.reward", "next.done", "next.success", "observation.state"):
        assert (rows[name][steps] == original[name][steps]).all(), name
    assert np.abs(rows[FRONT][steps].astype(int) - original[FRONT][steps]).mean(axis=(1, 2, 3)).max() < 5.0
    assert set(rows["run"]) == {b"r"}


def test_specs_are_told_from_the_dataset(tmp_path: Path) -> None:
    episode = plain_episode(4) | {TOP: smooth(4)}
    episode["action"][2, 1] = 3.0
    write_v21(tmp_path / "set", [episode], video=False)
    done = import_dataset(tmp_path / "set", "lerobot", tmp_path / "log", Choices())
    from user_rl.log import Reader

    with Reader(tmp_path / "log") as reader:
        schema = reader.streams()[done.streams[0]]
    assert schema.observation[TOP] == Image(name="top", height=64, width=96)
    state = schema.observation["observation.state"]
    assert isinstance(state, Box)
    assert state.names == ("observation.state.0", "observation.state.1", "observation.state.2")
    assert schema.action.high[1] == 3.0
    assert schema.action.low == tuple(float(x) for x in episode["action"].min(axis=0))


def test_the_same_dataset_under_another_task_is_another_stream(tmp_path: Path) -> None:
    write_v21(tmp_path / "set", [plain_episode(4)])
    one = import_dataset(tmp_path / "set", "lerobot", tmp_path / "log", Choices())
    same = import_dataset(tmp_path / "set", "lerobot", tmp_path / "log", Choices())
    other = import_dataset(tmp_path / "set", "lerobot", tmp_path / "log", Choices(task="pile"))
    assert one.streams == same.streams != other.streams
    assert (one.rows, same.rows, same.already, other.rows) == (5, 0, 5, 5)
    assert set(all_rows(tmp_path / "log", other.streams[0])["task"]) == {b"pile"}


def test_a_changed_export_does_not_come_back_under_its_old_name(tmp_path: Path) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    from user_rl.log import Reader

    write_log(tmp_path / "log", {STREAM: [filmed_episode(np.random.default_rng(0), length=3)]}, FILMED)
    with Reader(tmp_path / "log") as reader:
        export(
            reader, chosen(reader, Wanted()), tmp_path / "set",
            make_form=lambda fps: Form(fps=fps, robot_type="a", images="png"),
        )  # fmt: skip
    path = tmp_path / "set/data/chunk-000/file-000.parquet"
    table = pq.read_table(path)
    at = table.column_names.index("next.reward")
    pq.write_table(table.set_column(at, "next.reward", pa.array([5, 5, 5], pa.float32())), path)
    with pytest.raises(StorageCorrupt, match=r"episode 0: was changed since it was exported, .* a dataset of its own$"):
        import_dataset(tmp_path / "set", "lerobot", tmp_path / "back", Choices())
    assert not (tmp_path / "back").exists()


def no_info(root: Path) -> None:
    (root / "meta/info.json").unlink()


def old_version(root: Path) -> None:
    info = json.loads((root / "meta/info.json").read_text())
    (root / "meta/info.json").write_text(json.dumps(info | {"codebase_version": "v1.6"}))


def no_data(root: Path) -> None:
    (root / "data/chunk-000/episode_000001.parquet").unlink()


def short_data(root: Path) -> None:
    path = root / "data/chunk-000/episode_000001.parquet"
    path.write_bytes(path.read_bytes()[:-40])


def no_video(root: Path) -> None:
    (root / f"videos/chunk-000/{TOP}/episode_000001.mp4").unlink()


def short_video(root: Path) -> None:
    path = root / f"videos/chunk-000/{TOP}/episode_000001.mp4"
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def fewer_frames(root: Path) -> None:
    from tests.cloud.datasets.recordings import write_video

    write_video(root / f"videos/chunk-000/{TOP}/episode_000001.mp4", smooth(3), 10)


def longer_description(root: Path) -> None:
    path = root / "meta/episodes.jsonl"
    path.write_text(path.read_text().replace('"length": 5', '"length": 6'))


@pytest.mark.slow
@pytest.mark.parametrize(
    ("damage", "error", "line"),
    [
        (no_info, ConfigError, r"no LeRobotDataset is there \(meta/info.json is missing\)"),
        (old_version, ConfigError, r"LeRobotDataset v1.6, allowed v2.1, v3.0; convert it with LeRobot first$"),
        (no_data, StorageCorrupt, r"episode_000001.parquet: is missing; copy or export"),
        (short_data, StorageCorrupt, r"episode_000001.parquet: cannot be read: .*; copy or export"),
        (no_video, StorageCorrupt, r"episode_000001.mp4 is missing; copy or export"),
        (short_video, StorageCorrupt, r"episode_000001.mp4 is no readable video; copy or export"),
        (fewer_frames, StorageCorrupt, r"episode_000001.mp4: frame 3 is not there, needed are 0..4 at 10 Hz"),
        (longer_description, StorageCorrupt, r"episode 1 has 5 frames, described are 6; copy or export"),
    ],
)
def test_damage_is_one_line_and_no_half_import(tmp_path: Path, damage: Any, error: type, line: str) -> None:  # noqa: ANN401
    write_v21(tmp_path / "set", [plain_episode(4) | {TOP: smooth(4)}, plain_episode(5, 1) | {TOP: smooth(5)}])
    damage(tmp_path / "set")
    with pytest.raises(error, match=line) as caught:
        import_dataset(tmp_path / "set", "lerobot", tmp_path / "log", Choices())
    assert isinstance(caught.value, UserRlError)
    assert "\n" not in str(caught.value)
    assert [p.name for p in tmp_path.iterdir()] == ["set"]


@pytest.mark.parametrize(("name", "bad"), [("observation.state", np.nan), ("action", np.inf)])
def test_a_value_that_is_not_finite_is_named(tmp_path: Path, name: str, bad: float) -> None:
    episode = plain_episode(4)
    episode[name][2, 1] = bad
    write_v21(tmp_path / "set", [episode])
    with pytest.raises(SpecError, match=rf"episode 0, frame 2: {name}\[1\] = {bad}, allowed finite numbers; mend"):
        import_dataset(tmp_path / "set", "lerobot", tmp_path / "log", Choices())
    assert not (tmp_path / "log").exists()


def test_a_task_that_no_row_holds_asks_for_another(tmp_path: Path) -> None:
    write_v21(tmp_path / "set", [plain_episode(4)])
    path = tmp_path / "set/meta/tasks.jsonl"
    path.write_text(path.read_text().replace("stack", "stack all the blocks " * 3))
    with pytest.raises(SpecError, match=r"has 63 bytes, allowed 48; give --task$"):
        import_dataset(tmp_path / "set", "lerobot", tmp_path / "log", Choices())
