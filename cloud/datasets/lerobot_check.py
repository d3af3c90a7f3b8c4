"""Is a folder a LeRobotDataset v3.0? Every file and column that LeRobot's own loader reads, held against the others.

Source: the dataset class of LeRobot 0.4.4 (`LeRobotDataset`, `LeRobotDatasetMetadata`) and its description.
Videos are counted, not decoded; the import decodes them.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from cloud.datasets.columns import vector_column
from cloud.datasets.lerobot_folder import LeRobotFolder, Part
from cloud.datasets.video import count_frames
from user_rl.errors import StorageCorrupt, UserRlError
from user_rl.specs import Array

NEEDED = ("timestamp", "frame_index", "episode_index", "index", "task_index")
DESCRIBED = ("episode_index", "tasks", "length", "dataset_from_index", "dataset_to_index", "data/chunk_index",
             "data/file_index")  # fmt: skip
CLIP = ("chunk_index", "file_index", "from_timestamp", "to_timestamp")
TOLERANCE_S = 1e-4  # LeRobot's own
MOST = 20  # problems that are told


def check_lerobot_v3(root: Path) -> list[str]:
    """The problems, one line each; none: LeRobot would load it. Raises ConfigError where there is no dataset."""
    folder = LeRobotFolder(root)
    problems: list[str] = []
    try:
        for problem in _problems(folder):
            problems.append(problem)
            if len(problems) == MOST:
                break
    except UserRlError as error:
        problems.append(str(error))
    finally:
        folder.close()
    return problems


def _problems(folder: LeRobotFolder) -> Iterator[str]:
    info = folder.info
    if not folder.is_v3:
        yield f"{folder.root}: is {info.codebase_version}, allowed v3.0"
        return
    for name in NEEDED:
        if name not in info.features:
            yield f"{folder.root}/meta/info.json: features lack {name}"
    for name, feature in info.features.items():
        if "dtype" not in feature or "shape" not in feature or "/" in name:
            yield f"{folder.root}/meta/info.json: feature {name} needs dtype and shape, and no / in its name"
    described = folder.described()
    yield from _described(folder, described)
    yield from _stats(folder)
    tasks = folder.tasks()
    end, counted = 0, dict[Path, int]()
    for row, part in zip(described, folder.parts(), strict=True):
        yield from _episode(folder, part, tasks, end)
        if (row["dataset_from_index"], row["dataset_to_index"]) != (end, end + part.length):
            yield f"{folder.root}: episode {part.index} is described from {row['dataset_from_index']}, expected {end}"
        yield from _clips(folder, row, part, counted)
        end += part.length
    if end != info.total_frames:
        yield f"{folder.root}: {end} frames, info.json says {info.total_frames}"


def _described(folder: LeRobotFolder, rows: list[dict[str, Any]]) -> Iterator[str]:
    needed = [*DESCRIBED, *(f"videos/{name}/{key}" for name in folder.videos for key in CLIP)]
    for name in needed:
        if any(row.get(name) is None for row in rows):
            raise StorageCorrupt(f"{folder.root}/meta/episodes: column {name} is missing or has empty places")
    if [row["episode_index"] for row in rows] != list(range(len(rows))):
        yield f"{folder.root}/meta/episodes: episode_index is not 0, 1, 2, ..."


def _stats(folder: LeRobotFolder) -> Iterator[str]:
    path = folder.root / "meta" / "stats.json"
    if not path.is_file():
        yield f"{path}: is missing"


def _episode(folder: LeRobotFolder, part: Part, tasks: dict[int, str], start: int) -> Iterator[str]:
    table, where = folder.rows(part), f"{part.table}: episode {part.index}"
    for name, feature in folder.info.features.items():
        if feature.get("dtype") != "video":
            yield from _column(folder.column(table, name, where), feature, f"{where}: {name}")
    count = np.arange(part.length)
    expected: dict[str, Array] = {
        "frame_index": count, "index": start + count, "timestamp": count / folder.info.fps,
    }  # fmt: skip
    for name, values in expected.items():
        found = vector_column(table[name])
        wrong = np.flatnonzero(np.abs(found - values) > (TOLERANCE_S if name == "timestamp" else 0))
        if len(wrong):
            yield f"{where}: {name} of frame {wrong[0]} is {found[wrong[0]]:g}, expected {values[wrong[0]]:g}"
    unknown = set(table["task_index"].to_pylist()) - tasks.keys()
    if unknown:
        yield f"{where}: task_index {min(unknown)} is not in meta/tasks.parquet"


def _column(column: Any, feature: dict[str, Any], where: str) -> Iterator[str]:  # noqa: ANN401
    if feature["dtype"] in ("string", "image"):
        return
    try:
        values = vector_column(column)
    except ValueError as error:
        yield f"{where}: {error}"
        return
    width = int(np.prod(feature["shape"], dtype=int))
    if values.reshape(len(values), -1).shape[1:] != (width,) and len(values):
        yield f"{where} has {values.reshape(len(values), -1).shape[1]} values, info.json says {feature['shape']}"


def _clips(folder: LeRobotFolder, row: dict[str, Any], part: Part, counted: dict[Path, int]) -> Iterator[str]:
    for name, (path, first) in part.clips.items():
        length_s = row[f"videos/{name}/to_timestamp"] - row[f"videos/{name}/from_timestamp"]
        if abs(length_s - part.length / folder.info.fps) > TOLERANCE_S:
            yield f"{folder.root}: episode {part.index}: {name} spans {length_s:g} s, expected {part.length} frames"
        if path not in counted:
            counted[path] = count_frames(path)
        if first + part.length > counted[path]:
            yield f"{path}: has {counted[path]} frames, episode {part.index} needs {first}..{first + part.length - 1}"
