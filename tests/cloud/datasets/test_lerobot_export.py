"""What `export` writes, held against the format's description, and what it refuses."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from cloud.datasets.exporting import Wanted, chosen, export
from cloud.datasets.lerobot_check import check_lerobot_v3
from cloud.datasets.lerobot_v3_writer import Form, LeRobotWriter
from cloud.testing import episode_rows
from tests.cloud.datasets.recordings import (
    BLIND,
    FILMED,
    FRONT,
    SEEING,
    STREAM,
    filmed_episode,
    stamped,
    write_log,
)  # fmt: skip
from user_rl.errors import ConfigError
from user_rl.log import Reader
from user_rl.rows import Klass

PNG = Form(fps=10, robot_type="arm", images="png")


def blind_log(path: Path) -> None:
    rng, at, episodes = np.random.default_rng(0), 0, []
    for number, (klass, success) in enumerate([(1, True), (0, False), (0, True), (1, False)]):
        rows = stamped(episode_rows(BLIND, rng, length=3 + number, first_step=at, number=number, klass=Klass(klass),
                                    success=success, interventions=[1]))  # fmt: skip
        rows["stamp.action"] += 100 * number
        rows["task"] = b"peg" if number else b"hole"
        episodes.append(rows)
        at += len(rows)
    write_log(path, {STREAM: episodes}, BLIND)


def numbers_of(log: Path, wanted: Wanted) -> list[int]:
    with Reader(log) as reader:
        return [e.episode for e in chosen(reader, wanted)]


def exported(log: Path, to: Path, form: Form = PNG, **how: Any) -> Path:  # noqa: ANN401
    with Reader(log) as reader:
        export(reader, chosen(reader, Wanted()), to, make_form=lambda fps: form, **how)
    return to


def test_episodes_are_chosen_by_success_class_age_and_name(tmp_path: Path) -> None:
    blind_log(tmp_path / "log")
    assert numbers_of(tmp_path / "log", Wanted()) == [0, 1, 2, 3]
    assert numbers_of(tmp_path / "log", Wanted(successful=True)) == [0, 2]
    assert numbers_of(tmp_path / "log", Wanted(demonstrations=True)) == [0, 3]
    assert numbers_of(tmp_path / "log", Wanted(demonstrations=True, successful=True)) == [0]
    assert numbers_of(tmp_path / "log", Wanted(last=2)) == [2, 3]
    assert numbers_of(tmp_path / "log", Wanted(episodes=["arm/aa/2", "arm/aaa/0"])) == [0, 2]


def test_nothing_chosen_is_one_line(tmp_path: Path) -> None:
    write_log(tmp_path / "log", {STREAM: [episode_rows(BLIND, np.random.default_rng(0), length=2)]}, BLIND)
    with pytest.raises(ConfigError, match=r"no such episode there; see user-rl buffer inspect, and ask for less$"):
        numbers_of(tmp_path / "log", Wanted(demonstrations=True))


def test_the_description_holds_what_the_loader_reads(tmp_path: Path) -> None:
    blind_log(tmp_path / "log")
    root = exported(tmp_path / "log", tmp_path / "set")
    info = json.loads((root / "meta/info.json").read_text())
    assert (info["codebase_version"], info["fps"], info["robot_type"]) == ("v3.0", 10, "arm")
    assert (info["total_episodes"], info["total_frames"], info["total_tasks"]) == (4, 18, 2)
    assert info["features"]["observation.state"] == {"dtype": "float32", "shape": [3], "names": ["x", "y", "grip"]}
    assert [name for name in info["features"] if name.startswith("action")] == ["action"]
    episodes = pq.read_table(root / "meta/episodes/chunk-000/file-000.parquet").to_pylist()
    assert [(e["dataset_from_index"], e["dataset_to_index"], e["tasks"]) for e in episodes] == [
        (0, 3, ["hole"]), (3, 7, ["peg"]), (7, 12, ["peg"]), (12, 18, ["peg"])
    ]  # fmt: skip
    data = pq.read_table(root / "data/chunk-000/file-000.parquet")
    assert data["index"].to_pylist() == list(range(18))
    assert data["frame_index"].to_pylist()[:7] == [0, 1, 2, 0, 1, 2, 3]
    assert np.allclose(data["timestamp"].to_pylist()[3:7], [0.0, 0.1, 0.2, 0.3])
    assert data["task_index"].to_pylist()[:4] == [0, 0, 0, 1]
    assert data["complementary_info.is_intervention"].to_pylist()[:4] == [False, True, False, False]
    about = json.loads(pq.read_schema(root / "meta/tasks.parquet").metadata[b"pandas"])
    assert about["index_columns"] == ["task"]
    assert check_lerobot_v3(root) == []


def test_the_statistics_are_those_of_all_frames(tmp_path: Path) -> None:
    blind_log(tmp_path / "log")
    root = exported(tmp_path / "log", tmp_path / "set")
    stats = json.loads((root / "meta/stats.json").read_text())["observation.state"]
    data = pq.read_table(root / "data/chunk-000/file-000.parquet")
    values = np.array(data["observation.state"].to_pylist(), np.float64)
    assert stats["count"] == [18]
    for name, expected in (
        ("min", values.min(0)),
        ("max", values.max(0)),
        ("mean", values.mean(0)),
        ("std", values.std(0)),
    ):
        assert np.allclose(stats[name], expected), name
    assert all((np.array(stats["q01"]) <= stats["q50"]) & (np.array(stats["q50"]) <= stats["q99"]))


@pytest.mark.slow
def test_videos_have_one_frame_for_each_step_and_say_from_when(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    rows = [filmed_episode(rng, length=7), filmed_episode(rng, length=5, first_step=8, number=1)]
    write_log(tmp_path / "log", {STREAM: rows}, FILMED)
    root = exported(tmp_path / "log", tmp_path / "set", Form(fps=10, robot_type="arm"))
    episodes = pq.read_table(root / "meta/episodes/chunk-000/file-000.parquet").to_pylist()
    spans = [(e[f"videos/{FRONT}/from_timestamp"], e[f"videos/{FRONT}/to_timestamp"]) for e in episodes]
    assert np.allclose(spans, [(0.0, 0.7), (0.7, 1.2)])
    assert check_lerobot_v3(root) == []


def test_files_are_cut_at_their_size(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    writer = LeRobotWriter(tmp_path, SEEING, Form(fps=10, robot_type="arm", images="png", data_mb=0))
    for number in range(3):
        rows = episode_rows(SEEING, rng, length=2, first_step=3 * number, number=number)
        writer.add(STREAM, rows[:-1], rows[-1:])
    writer.finish()
    assert sorted(p.name for p in (tmp_path / "data/chunk-000").iterdir()) == [f"file-00{k}.parquet" for k in range(3)]
    assert check_lerobot_v3(tmp_path) == []


def test_an_export_that_is_there_is_not_overwritten(tmp_path: Path) -> None:
    blind_log(tmp_path / "log")
    exported(tmp_path / "log", tmp_path / "set")
    with pytest.raises(ConfigError, match=f"^{tmp_path}/set: is there, allowed is a new folder; choose another name$"):
        exported(tmp_path / "log", tmp_path / "set")


def test_an_export_that_fails_leaves_nothing(tmp_path: Path) -> None:
    blind_log(tmp_path / "log")

    def tell(_: int) -> None:
        raise ConfigError("enough")

    with pytest.raises(ConfigError, match=r"^enough$"):
        exported(tmp_path / "log", tmp_path / "set", tell=tell)
    assert [p.name for p in tmp_path.iterdir()] == ["log"]


def test_a_camera_that_no_video_holds_is_one_line(tmp_path: Path) -> None:
    write_log(tmp_path / "log", {STREAM: [episode_rows(SEEING, np.random.default_rng(0), length=2)]}, SEEING)
    with pytest.raises(
        ConfigError, match=r"images.front is \[6, 4, 3\], allowed in av1 video are .*; give --images png$"
    ):
        exported(tmp_path / "log", tmp_path / "set", Form(fps=10, robot_type="arm"))


def test_episodes_of_two_forms_do_not_go_into_one_dataset(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    write_log(tmp_path / "log", {STREAM: [episode_rows(SEEING, rng, length=2)]}, SEEING)
    write_log(tmp_path / "log", {f"arm/{'b' * 32}/r": [episode_rows(BLIND, rng, length=2)]}, BLIND)
    with pytest.raises(ConfigError, match=r"have different observations or actions, .* choose with --episodes$"):
        exported(tmp_path / "log", tmp_path / "set")


@pytest.mark.parametrize(
    ("column", "value", "problem"),
    [
        ("index", 5, "index of frame 0 is 5, expected 0"),
        ("frame_index", 2, "frame_index of frame 0 is 2, expected 0"),
        ("timestamp", 0.5, "timestamp of frame 0 is 0.5, expected 0"),
        ("task_index", 9, "task_index 9 is not in meta/tasks.parquet"),
        ("episode_index", 3, "episode 0 has 2 frames, described are 3"),
    ],
)
def test_the_check_names_a_wrong_column(tmp_path: Path, column: str, value: float, problem: str) -> None:
    blind_log(tmp_path / "log")
    root = exported(tmp_path / "log", tmp_path / "set")
    path = root / "data/chunk-000/file-000.parquet"
    table = pq.read_table(path)
    changed = table[column].to_pylist()
    changed[0] = value
    at = table.column_names.index(column)
    pq.write_table(table.set_column(at, table.schema.field(at), pa.array(changed, table.schema.field(at).type)), path)
    assert problem in check_lerobot_v3(root)[0]


@pytest.mark.parametrize("name", ["meta/stats.json", "meta/tasks.parquet", "data/chunk-000/file-000.parquet"])
def test_the_check_names_a_missing_file(tmp_path: Path, name: str) -> None:
    blind_log(tmp_path / "log")
    root = exported(tmp_path / "log", tmp_path / "set")
    (root / name).unlink()
    assert f"{root / name}: is missing" in check_lerobot_v3(root)[0]
