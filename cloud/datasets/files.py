"""Numbered files that are cut at a size: `chunk-000/file-000`, as LeRobotDataset v3.0 lays them out."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cloud.datasets.libraries import library
from cloud.datasets.video import VideoFile
from user_rl.specs import Array, Image

CHUNK_FILES = 1000  # in one chunk's folder
DATA_PATH = "data/chunk-{chunk_index:03d}/file-{file_index:03d}.parquet"
VIDEO_PATH = "videos/{video_key}/chunk-{chunk_index:03d}/file-{file_index:03d}.mp4"
EPISODES_PATH = "meta/episodes/chunk-{chunk_index:03d}/file-{file_index:03d}.parquet"
LAST_PATH = "meta/user_rl/last/chunk-{chunk_index:03d}/file-{file_index:03d}.parquet"


@dataclass(frozen=True)
class Place:
    """Which file."""

    number: int

    @property
    def indices(self) -> dict[str, int]:
        """chunk_index and file_index."""
        return {"chunk_index": self.number // CHUNK_FILES, "file_index": self.number % CHUNK_FILES}


class ParquetFiles:
    """Tables of one form, behind each other; a file that has grown over `max_bytes` is followed by a new one."""

    def __init__(self, root: Path, pattern: str, max_bytes: int) -> None:
        self._root, self._pattern, self._max_bytes = root, pattern, max_bytes
        self._writer: Any = None
        self._path = root
        self._number = -1

    def place(self) -> Place:
        """Where the next table goes."""
        if self._writer is not None and self._path.stat().st_size >= self._max_bytes:
            self.close()
        return Place(self._number + (self._writer is None))

    def write(self, table: Any) -> Place:  # noqa: ANN401
        """Appends a table as one row group, in the file that `place` said."""
        place = self.place()
        if self._writer is None:
            self._number = place.number
            self._path = self._root / self._pattern.format(**place.indices)
            self._path.parent.mkdir(parents=True, exist_ok=True)
            self._writer = library("pyarrow.parquet").ParquetWriter(self._path, table.schema)
        self._writer.write_table(table)
        return place

    def close(self) -> None:
        """Ends the file that is open."""
        if self._writer is not None:
            self._writer.close()
            self._writer = None


@dataclass(frozen=True, kw_only=True)
class Clip:
    """Where an episode's frames of one camera are."""

    place: Place
    from_s: float
    to_s: float


class VideoFiles:
    """The videos of one camera, cut at `max_bytes` where an episode ends."""

    def __init__(self, root: Path, name: str, spec: Image, *, fps: int, codec: str, max_bytes: int) -> None:
        self._root, self._name, self._spec, self._fps, self._codec = root, name, spec, fps, codec
        self._max_bytes = max_bytes
        self._file: VideoFile | None = None
        self._number = -1

    def write(self, pictures: Array) -> Clip:
        """Appends the pictures of one episode."""
        if self._file is None or self._file.size_bytes() >= self._max_bytes:
            self._next()
        file = self._file
        assert file is not None, "_next made it"
        first = file.frames
        file.add(pictures)
        return Clip(place=Place(self._number), from_s=first / self._fps, to_s=file.frames / self._fps)

    def close(self) -> None:
        """Ends the file that is open."""
        if self._file is not None:
            self._file.close()
            self._file = None

    def _next(self) -> None:
        self.close()
        self._number += 1
        path = self._root / VIDEO_PATH.format(video_key=self._name, **Place(self._number).indices)
        self._file = VideoFile(path, self._spec, fps=self._fps, codec=self._codec)
