"""Writes a LeRobotDataset v3.0: what its own loader reads, and beside that what brings our rows back exactly.

LeRobot has one frame for each action; our episode of T steps has T+1 rows. The T STEP rows are the frames. The LAST
row, the observation after the last action, goes to `meta/user_rl/last/`, its pictures as PNG whatever the frames are;
`meta/user_rl/streams.json` keeps the streams' schemas. LeRobot looks at neither.
`timestamp` is the constant grid frame_index / fps; what the clocks said is in `user_rl.stamp.*`.
"""

import base64
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import xxhash

from cloud.datasets import columns
from cloud.datasets.files import (
    CHUNK_FILES,
    DATA_PATH,
    EPISODES_PATH,
    LAST_PATH,
    VIDEO_PATH,
    Clip,
    ParquetFiles,
    VideoFiles,
)
from cloud.datasets.libraries import library
from cloud.datasets.statistics import Stats, joined, picture_stats, plain, stats_of
from cloud.datasets.video import NAMES, check_camera
from user_rl.rows import Schema
from user_rl.specs import Array

VERSION = "v3.0"
OURS = 1  # the form of what is ours
STREAMS = "meta/user_rl/streams.json"
STREAM, DIGEST = f"{columns.OURS}stream", f"{columns.OURS}digest"
INDICES = ("index", "episode_index", "frame_index", "task_index")
MB = 2**20
EPISODES_TOGETHER = 100  # descriptions written at a time


@dataclass(frozen=True, kw_only=True)
class Form:
    """How a dataset is written."""

    fps: int
    robot_type: str
    images: str = "video"  # or png
    codec: str = "libsvtav1"
    data_mb: int = 100
    video_mb: int = 200


class LeRobotWriter:
    """Writes into the empty folder `root`, episode by episode; nothing is whole before `finish`."""

    def __init__(self, root: Path, schema: Schema, form: Form) -> None:
        """Raises ConfigError for a camera that the form cannot hold."""
        self.root, self.schema, self.form = root, schema, form
        self._plain, self._cameras = columns.plain_fields(schema), columns.cameras(schema)
        self._videos: dict[str, VideoFiles] = {}
        if form.images == "video":
            for name, spec in self._cameras.items():
                check_camera(name, spec, form.codec)
                self._videos[name] = VideoFiles(
                    root, name, spec, fps=form.fps, codec=form.codec, max_bytes=form.video_mb * MB
                )
        self._data = ParquetFiles(root, DATA_PATH, form.data_mb * MB)
        self._last = ParquetFiles(root, LAST_PATH, form.data_mb * MB)
        self._described = ParquetFiles(root, EPISODES_PATH, form.data_mb * MB)
        self._waiting: list[dict[str, Any]] = []
        self._stats: list[dict[str, Stats]] = []
        self._tasks: dict[str, int] = {}
        self._streams: set[str] = set()
        self.frames = self.episodes = 0

    def add(self, stream: str, steps: Array, last: Array) -> None:
        """One episode: its STEP rows, at least one, and its LAST row, if a crash did not cut it."""
        self._streams.add(stream)
        tasks = [self._task(text) for text in steps["task"].tolist()]
        table = self._table(stream, steps, tasks)
        clips = {name: videos.write(steps[name]) for name, videos in self._videos.items()}
        place = self._data.write(table)
        if len(last):
            self._last.write(self._row_table(stream, last, as_png=True))
        stats = self._stats_of(table, steps)
        self._stats.append(stats)
        names = [name for name, number in self._tasks.items() if number in set(tasks)]
        self._describe(len(steps), names, place.indices, clips, stats)
        self.frames += len(steps)
        self.episodes += 1

    def finish(self) -> None:
        """Ends every file and writes what describes them all."""
        self._flush()
        for tables in (self._data, self._last, self._described):
            tables.close()
        for videos in self._videos.values():
            videos.close()
        self._write_tasks()
        names = self._stats[0] if self._stats else {}
        stats = {name: joined([stats[name] for stats in self._stats]) for name in names}
        self._write_json("meta/stats.json", plain(stats))
        self._write_json("meta/info.json", self._info())
        encoded = base64.b64encode(self.schema.encoded).decode()
        frames = self.form.images if self._cameras else "none"
        streams = dict.fromkeys(sorted(self._streams), encoded)
        self._write_json(STREAMS, {"format": OURS, "frames": frames, "streams": streams})

    def _task(self, name: bytes) -> int:
        return self._tasks.setdefault(name.decode(errors="replace"), len(self._tasks))

    def _table(self, stream: str, steps: Array, tasks: list[int]) -> Any:  # noqa: ANN401
        pa, count = library("pyarrow"), len(steps)
        grid = {
            "timestamp": pa.array((np.arange(count) / self.form.fps).astype(np.float32)),
            "frame_index": pa.array(np.arange(count)),
            "episode_index": pa.array(np.full(count, self.episodes)),
            "index": pa.array(self.frames + np.arange(count)),
            "task_index": pa.array(np.array(tasks, np.int64)),
        }
        rows = self._row_table(stream, steps, as_png=self.form.images == "png")
        return pa.table(grid | dict(zip(rows.column_names, rows.columns, strict=True)))

    def _row_table(self, stream: str, rows: Array, *, as_png: bool) -> Any:  # noqa: ANN401
        pa = library("pyarrow")
        found = {columns.column_of(f.name): columns.column_from_field(f, rows[f.name]) for f in self._plain}
        if as_png:
            found |= {name: columns.pictures_column(rows[name]) for name in self._cameras}
        return pa.table(found | {STREAM: pa.array([stream] * len(rows)), DIGEST: pa.array(row_digests(rows))})

    def _stats_of(self, table: Any, steps: Array) -> dict[str, Stats]:  # noqa: ANN401
        found = {name: picture_stats(steps[name]) for name in self._cameras}
        for name, feature in self._features().items():
            if feature["dtype"] not in ("string", "image", "video") and name != DIGEST:
                found[name] = stats_of(columns.vector_column(table[name]).reshape(len(steps), -1))
        return found

    def _describe(
        self, length: int, tasks: list[str], data: dict[str, int], clips: dict[str, Clip], stats: dict[str, Stats]
    ) -> None:
        row: dict[str, Any] = {
            "episode_index": self.episodes, "tasks": tasks, "length": length,
            "dataset_from_index": self.frames, "dataset_to_index": self.frames + length,
            "data/chunk_index": data["chunk_index"], "data/file_index": data["file_index"],
        }  # fmt: skip
        for name, clip in clips.items():
            row |= {f"videos/{name}/{key}": value for key, value in clip.place.indices.items()}
            row |= {f"videos/{name}/from_timestamp": clip.from_s, f"videos/{name}/to_timestamp": clip.to_s}
        for name, found in stats.items():
            row |= {f"stats/{name}/{key}": value.tolist() for key, value in found.items()}
        self._waiting.append(row)
        if len(self._waiting) == EPISODES_TOGETHER:
            self._flush()

    def _flush(self) -> None:
        if self._waiting:
            here = {f"meta/episodes/{key}": value for key, value in self._described.place().indices.items()}
            self._described.write(library("pyarrow").Table.from_pylist([row | here for row in self._waiting]))
            self._waiting = []

    def _features(self) -> dict[str, columns.Feature]:
        one: columns.Feature = {"shape": [1], "names": None}
        found = {"timestamp": {"dtype": "float32", **one}} | {name: {"dtype": "int64", **one} for name in INDICES}
        found |= {columns.column_of(f.name): columns.feature_of(self.schema, f) for f in self._plain}
        kind = "image" if self.form.images == "png" else "video"
        for name, spec in self._cameras.items():
            found[name] = columns.picture_feature(spec, kind)
            if kind == "video":
                found[name]["info"] = {
                    "video.height": spec.height, "video.width": spec.width, "video.codec": NAMES[self.form.codec],
                    "video.pix_fmt": "yuv420p", "video.is_depth_map": False, "video.fps": self.form.fps,
                    "video.channels": spec.channels, "has_audio": False,
                }  # fmt: skip
        return found | {STREAM: {"dtype": "string", **one}, DIGEST: {"dtype": "int64", **one}}

    def _info(self) -> dict[str, Any]:
        return {
            "codebase_version": VERSION, "robot_type": self.form.robot_type, "total_episodes": self.episodes,
            "total_frames": self.frames, "total_tasks": len(self._tasks), "chunks_size": CHUNK_FILES,
            "data_files_size_in_mb": self.form.data_mb, "video_files_size_in_mb": self.form.video_mb,
            "fps": self.form.fps, "splits": {"train": f"0:{self.episodes}"}, "data_path": DATA_PATH,
            "video_path": VIDEO_PATH if self._videos else None, "features": self._features(),
        }  # fmt: skip

    def _write_tasks(self) -> None:
        """The table that pandas reads back with the task's text as its index."""
        pa = library("pyarrow")
        numbers = pa.array(list(self._tasks.values()), pa.int64())
        table = pa.table({"task_index": numbers, "task": pa.array(list(self._tasks), pa.string())})
        about = {"index_columns": ["task"], "column_indexes": [], "columns": [
            {"name": "task_index", "field_name": "task_index", "pandas_type": "int64", "numpy_type": "int64",
             "metadata": None},
            {"name": "task", "field_name": "task", "pandas_type": "unicode", "numpy_type": "object",
             "metadata": None},
        ], "creator": {"library": "pyarrow", "version": pa.__version__}, "pandas_version": "2.2.0"}  # fmt: skip
        table = table.replace_schema_metadata({"pandas": json.dumps(about)})
        library("pyarrow.parquet").write_table(table, self.root / "meta" / "tasks.parquet")

    def _write_json(self, name: str, tree: dict[str, Any]) -> None:
        path = self.root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(tree, indent=2) + "\n")


def row_digests(rows: Array) -> Array:
    """xxh3_64 of each row's bytes, as int64: whether a row that comes back is the one that went."""
    whole, size = memoryview(np.ascontiguousarray(rows).tobytes()), rows.dtype.itemsize
    digests = [xxhash.xxh3_64_intdigest(whole[at : at + size]) for at in range(0, len(whole), size)]
    return np.array(digests, np.uint64).view(np.int64)
