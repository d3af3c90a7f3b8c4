"""Reads LeRobotDatasets, v2.1 and v3.0, as raw episodes; and our own exports as the very rows that were exported."""

import base64
from collections.abc import Iterator, Set
from pathlib import Path
from typing import Any

import msgspec
import numpy as np

from cloud.datasets import columns
from cloud.datasets.lerobot_folder import AGAIN, LeRobotFolder, Part
from cloud.datasets.lerobot_v3_writer import DIGEST, OURS, STREAM, STREAMS, row_digests
from cloud.datasets.mapping import PICTURES, usual_names
from cloud.datasets.recorded import Column, Raw
from user_rl.errors import SpecError, StorageCorrupt
from user_rl.rows import Schema, schema_from_bytes
from user_rl.specs import Array


class LeRobotDataset:
    """See cloud.datasets.recorded.Dataset."""

    def __init__(self, root: Path) -> None:
        self.folder = LeRobotFolder(root)
        self.name, self.rate_hz = f"lerobot-{root.resolve().name}", self.folder.info.fps
        self.columns = {name: _column(f) for name, f in self.folder.info.features.items() if f.get("dtype") != "string"}
        self.usual = {self._ours(name): theirs for name, theirs in usual_names(list(self.columns)).items()}

    def files(self) -> list[Path]:
        return self.folder.files()

    def episodes(self, wanted: Set[str]) -> Iterator[Raw]:
        tasks = self.folder.tasks()
        for part in self.folder.parts():
            table, where = self.folder.rows(part), f"{self.folder.root}: episode {part.index}"
            if not len(table):
                raise SpecError(f"{where} has no frame, allowed one or more; leave it out")
            yield Raw(
                where=where, columns={name: self._values(part, table, name) for name in sorted(wanted)},
                stamps_s=_numbers(self.folder, table, "timestamp", where).reshape(-1).astype(np.float64),
                task=_task(table, tasks),
            )  # fmt: skip

    def close(self) -> None:
        self.folder.close()

    def _ours(self, name: str) -> str:
        if name not in self.columns or not self.columns[name].is_picture or name.startswith(PICTURES):
            return name
        return PICTURES + name.removeprefix("observation.")

    def _values(self, part: Part, table: Any, name: str) -> Array:  # noqa: ANN401
        if self.columns[name].is_picture:
            return self.folder.frames(part, name, table)
        return _numbers(self.folder, table, name, f"{self.folder.root}: episode {part.index}")


class _Streams(msgspec.Struct, forbid_unknown_fields=True):
    format: int
    frames: str  # png, video or none
    streams: dict[str, str]


class OwnExport:
    """A dataset that this package wrote: the rows themselves."""

    def __init__(self, root: Path) -> None:
        self.folder = LeRobotFolder(root)
        path = root / STREAMS
        try:
            kept = msgspec.json.decode(path.read_bytes(), type=_Streams)
        except msgspec.MsgspecError as error:
            raise StorageCorrupt(f"{path}: cannot be read: {error}; {AGAIN}") from error
        if kept.format != OURS:
            raise StorageCorrupt(f"{path}: form {kept.format}, allowed {OURS}; use the release that wrote it")
        self.is_exact = kept.frames != "video"
        self.schemas = {name: schema_from_bytes(base64.b64decode(data)) for name, data in kept.streams.items()}

    def rows(self) -> Iterator[tuple[str, Array]]:
        """(stream, rows) of each episode in the order they were written; raises StorageCorrupt for a changed row."""
        last = self._last_rows()
        for part in self.folder.parts():
            table = self.folder.rows(part)
            where = f"{self.folder.root}: episode {part.index}"
            stream = str(self.folder.column(table, STREAM, where)[0])
            schema = self.schemas.get(stream)
            if schema is None:
                raise StorageCorrupt(f"{where}: stream {stream} is not in {STREAMS}; {AGAIN}")
            pictures = {name: self.folder.frames(part, name, table) for name in columns.cameras(schema)}
            rows = self._rows(schema, table, pictures, where)
            end = last.get((stream, int(rows["step"][-1]) + 1))
            yield stream, rows if end is None else np.concatenate([rows, end])

    def close(self) -> None:
        """Closes its files."""
        self.folder.close()

    def _last_rows(self) -> dict[tuple[str, int], Array]:
        found: dict[tuple[str, int], Array] = {}
        for path in sorted((self.folder.root / "meta" / "user_rl" / "last").glob("*/*.parquet")):
            table = self.folder.read_table(path)
            streams = self.folder.column(table, STREAM, str(path)).to_pylist()
            for number, stream in enumerate(streams):
                schema, one = self.schemas[stream], table.slice(number, 1)
                shown = {n: self.folder.stored_pictures(one, n, str(path)) for n in columns.cameras(schema)}
                row = self._rows(schema, one, shown, str(path), check=True)
                found[stream, int(row["step"][0])] = row
        return found

    def _rows(
        self,
        schema: Schema,
        table: Any,  # noqa: ANN401
        pictures: dict[str, Array],
        where: str,
        *,
        check: bool = False,
    ) -> Array:
        rows = schema.new(len(table))
        for field in columns.plain_fields(schema):
            column = self.folder.column(table, columns.column_of(field.name), where)
            rows[field.name] = columns.field_from_column(field, column)
        for name, shown in pictures.items():
            if shown.shape[1:] != rows[name].shape[1:]:
                raise StorageCorrupt(
                    f"{where}: {name} is {shown.shape[1:]}, written was {rows[name].shape[1:]}; {AGAIN}"
                )
            rows[name] = shown
        if (self.is_exact or check) and (row_digests(rows) != self._digests(table, where)).any():
            raise StorageCorrupt(
                f"{where}: was changed since it was exported, allowed are the rows as they were; remove meta/user_rl "
                "to import it as a dataset of its own"
            )
        return rows

    def _digests(self, table: Any, where: str) -> Array:  # noqa: ANN401
        return np.asarray(columns.vector_column(self.folder.column(table, DIGEST, where)))


def is_own_export(root: Path) -> bool:
    """Whether this package wrote the dataset in `root`."""
    return (root / STREAMS).is_file()


def _column(feature: dict[str, Any]) -> Column:
    names = feature.get("names")
    if isinstance(names, dict):
        names = [name for part in names.values() for name in (part if isinstance(part, list) else [part])]
    shape = tuple(int(side) for side in feature.get("shape", ()))
    texts = tuple(map(str, names)) if names and len(names) == int(np.prod(shape, dtype=int)) else None
    return Column(shape=shape, is_picture=feature.get("dtype") in ("image", "video"), names=texts)


def _numbers(folder: LeRobotFolder, table: Any, name: str, where: str) -> Array:  # noqa: ANN401
    try:
        values = columns.vector_column(folder.column(table, name, where))
    except ValueError as error:
        raise SpecError(f"{where}: {name}: {error}; mend the dataset") from error
    return values


def _task(table: Any, tasks: dict[int, str]) -> str:  # noqa: ANN401
    if "task_index" not in table.column_names:
        return ""
    return tasks.get(int(table["task_index"][0].as_py()), "")
