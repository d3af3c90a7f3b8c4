"""A LeRobotDataset's folder, v2.1 or v3.0: its description, its tables and its frames, each checked when it is read."""

import json
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec
import numpy as np

from cloud.datasets.columns import picture_from_bytes
from cloud.datasets.libraries import library
from cloud.datasets.video import FrameReader
from user_rl.errors import ConfigError, StorageCorrupt
from user_rl.specs import Array

VERSIONS = ("v2.1", "v3.0")
AGAIN = "copy or export the dataset again"


class Info(msgspec.Struct, kw_only=True):
    """`meta/info.json`, as far as it is needed."""

    codebase_version: str
    fps: float
    total_episodes: int
    total_frames: int
    data_path: str
    features: dict[str, dict[str, Any]]
    video_path: str | None = None
    robot_type: str | None = None
    chunks_size: int = 1000


@dataclass(frozen=True, kw_only=True)
class Part:
    """Where one episode is."""

    index: int
    length: int
    table: Path
    clips: dict[str, tuple[Path, int]]  # camera -> its file, the number of the first frame


class LeRobotFolder:
    """Raises ConfigError where there is no such dataset, StorageCorrupt naming the file that is damaged."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.info = _info(root)
        if self.info.codebase_version not in VERSIONS:
            raise ConfigError(
                f"{root}: LeRobotDataset {self.info.codebase_version}, allowed {', '.join(VERSIONS)}; convert it with "
                "LeRobot first"
            )
        self.is_v3 = self.info.codebase_version == "v3.0"
        self.videos = [name for name, f in self.info.features.items() if f.get("dtype") == "video"]
        self.pictures = [name for name, f in self.info.features.items() if f.get("dtype") in ("video", "image")]
        self._table: tuple[Path, Any] | None = None
        self._readers: dict[str, FrameReader] = {}

    def parts(self) -> list[Part]:
        """The episodes in order of their index."""
        found = self._parts_v3() if self.is_v3 else self._parts_v2()
        if len(found) != self.info.total_episodes:
            raise StorageCorrupt(
                f"{self.root}: {len(found)} episodes are described, info.json says {self.info.total_episodes}; {AGAIN}"
            )
        return found

    def tasks(self) -> dict[int, str]:
        """The tasks' texts by their index."""
        if not self.is_v3:
            return {int(row["task_index"]): str(row["task"]) for row in self._lines("meta/tasks.jsonl")}
        table = self.read_table(self.root / "meta" / "tasks.parquet")
        texts = [name for name in table.column_names if name != "task_index"]
        if len(texts) != 1 or "task_index" not in table.column_names:
            raise StorageCorrupt(f"{self.root}/meta/tasks.parquet: columns {table.column_names}; {AGAIN}")
        return dict(zip(table["task_index"].to_pylist(), table[texts[0]].to_pylist(), strict=True))

    def rows(self, part: Part) -> Any:  # noqa: ANN401  # a pyarrow table
        """The table of one episode."""
        if self._table is None or self._table[0] != part.table:
            self._table = (part.table, self.read_table(part.table))
        table = self._table[1]
        if "episode_index" in table.column_names:
            table = table.filter(library("pyarrow.compute").equal(table["episode_index"], part.index))
        if len(table) != part.length:
            raise StorageCorrupt(
                f"{part.table}: episode {part.index} has {len(table)} frames, described are {part.length}; {AGAIN}"
            )
        return table

    def frames(self, part: Part, camera: str, table: Any) -> Array:  # noqa: ANN401
        """The pictures [T, H, W, C] of one episode."""
        if camera not in part.clips:
            return self.stored_pictures(table, camera, f"{part.table}: episode {part.index}")
        path, first = part.clips[camera]
        reader = self._readers.get(camera)
        if reader is None or reader.path != path:
            if reader is not None:
                reader.close()
            reader = self._readers[camera] = FrameReader(path, self.info.fps)
        return reader.take(first, part.length)

    def stored_pictures(self, table: Any, camera: str, where: str) -> Array:  # noqa: ANN401
        """The pictures that stand in the table itself; all must be of one size."""
        column = self.column(table, camera, where).to_pylist()
        pictures = [picture_from_bytes(self._bytes(found, where), f"{where}, {camera}") for found in column]
        if len({picture.shape for picture in pictures}) > 1:
            raise StorageCorrupt(f"{where}: {camera} has pictures of several sizes; {AGAIN}")
        return np.stack(pictures)

    def column(self, table: Any, name: str, where: str) -> Any:  # noqa: ANN401
        """One column of a table; raises StorageCorrupt where it is not there."""
        if name not in table.column_names:
            raise StorageCorrupt(f"{where}: has no column {name}, info.json describes one; {AGAIN}")
        return table[name]

    def files(self) -> list[Path]:
        """Every file but hidden ones, by name."""
        kept = [path for path in self.root.rglob("*") if path.is_file()]
        return sorted(path for path in kept if not any(p.startswith(".") for p in path.relative_to(self.root).parts))

    def read_table(self, path: Path) -> Any:  # noqa: ANN401
        """A parquet file, whole."""
        pa = library("pyarrow")
        try:
            return library("pyarrow.parquet").ParquetFile(path).read()
        except (OSError, pa.ArrowException) as error:
            why = "is missing" if not path.exists() else f"cannot be read: {str(error).splitlines()[0]}"
            raise StorageCorrupt(f"{path}: {why}; {AGAIN}") from error

    def close(self) -> None:
        """Closes the videos."""
        with ExitStack() as stack:
            for reader in self._readers.values():
                stack.callback(reader.close)
        self._readers = {}

    def described(self) -> list[dict[str, Any]]:
        """The rows of v3.0's `meta/episodes`, without statistics, in order of their index."""
        paths = sorted((self.root / "meta" / "episodes").glob("*/*.parquet"))
        if not paths:
            raise StorageCorrupt(f"{self.root}/meta/episodes: no parquet file is there; {AGAIN}")
        rows: list[dict[str, Any]] = []
        for path in paths:
            table = self.read_table(path)
            rows += table.select([name for name in table.column_names if not name.startswith("stats/")]).to_pylist()
        return sorted(rows, key=lambda row: int(row.get("episode_index", -1)))

    def _parts_v3(self) -> list[Part]:
        try:
            return [self._part_v3(row) for row in self.described()]
        except (KeyError, TypeError, ValueError, IndexError) as error:
            raise StorageCorrupt(f"{self.root}/meta/episodes: {error!r}; {AGAIN}") from error

    def _part_v3(self, row: dict[str, Any]) -> Part:
        data = {"chunk_index": int(row["data/chunk_index"]), "file_index": int(row["data/file_index"])}
        clips = {}
        for name in self.videos:
            place = {key: int(row[f"videos/{name}/{key}"]) for key in data}
            path = self.root / str(self.info.video_path).format(video_key=name, **place)
            clips[name] = (path, round(float(row[f"videos/{name}/from_timestamp"]) * self.info.fps))
        table = self.root / self.info.data_path.format(**data)
        return Part(index=int(row["episode_index"]), length=int(row["length"]), table=table, clips=clips)

    def _parts_v2(self) -> list[Part]:
        return [self._part_v2(int(row["episode_index"]), row) for row in self._lines("meta/episodes.jsonl")]

    def _part_v2(self, index: int, row: dict[str, Any]) -> Part:
        place = {"episode_chunk": index // self.info.chunks_size, "episode_index": index}
        video = str(self.info.video_path)
        clips = {name: (self.root / video.format(video_key=name, **place), 0) for name in self.videos}
        table = self.root / self.info.data_path.format(**place)
        return Part(index=index, length=int(row["length"]), table=table, clips=clips)

    def _lines(self, name: str) -> Iterator[dict[str, Any]]:
        path = self.root / name
        try:
            for line in path.read_text().splitlines():
                if line.strip():
                    yield json.loads(line)
        except (OSError, ValueError) as error:
            raise StorageCorrupt(f"{path}: cannot be read: {error}; {AGAIN}") from error

    def _bytes(self, found: Any, where: str) -> bytes:  # noqa: ANN401
        if isinstance(found, dict) and found.get("bytes") is not None:
            return bytes(found["bytes"])
        name = found.get("path") if isinstance(found, dict) else None
        path = self.root / str(name)
        if name is None or not path.resolve().is_relative_to(self.root.resolve()) or not path.is_file():
            raise StorageCorrupt(f"{where}: picture {name} is not there; {AGAIN}")
        return path.read_bytes()


def _info(root: Path) -> Info:
    path = root / "meta" / "info.json"
    if not path.is_file():
        raise ConfigError(f"{root}: no LeRobotDataset is there (meta/info.json is missing); give the dataset's folder")
    try:
        info = msgspec.json.decode(path.read_bytes(), type=Info)
    except msgspec.MsgspecError as error:
        raise StorageCorrupt(f"{path}: cannot be read: {error}; {AGAIN}") from error
    if not info.fps > 0:
        raise StorageCorrupt(f"{path}: fps = {info.fps}, allowed more than 0; {AGAIN}")
    return info
