"""Labels from a file: csv, jsonl, parquet or npz, read block by block.

Each row has `stream` (CELL/BOOT, or with the run behind it), `step` or `episode`, and `value`: a number, a text, or a
list of numbers (in csv as JSON). In an npz file these are three arrays.
"""

import csv
import io
import json
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np

from user_rl.columns import Column
from user_rl.columns.spec import TEXT, Per
from user_rl.errors import ConfigError
from user_rl.specs import Array

BLOCK = 65_536  # rows in memory at a time
IDS: tuple[tuple[str, Per], ...] = (("step", "row"), ("episode", "episode"))


@dataclass(frozen=True)
class Block:
    """Some rows: `values` is an array, or a list of texts."""

    streams: Sequence[str]
    ids: Array
    values: Any
    per: Per
    until: int  # bytes of the file that were read by now

    def by_stream(self) -> Iterator[tuple[str, Array]]:
        """(stream, places [k] of its rows), each stream once."""
        names = np.asarray(self.streams, object)
        for name in dict.fromkeys(self.streams):
            yield str(name), np.flatnonzero(names == name)


def read_labels(path: Path) -> Iterator[Block]:
    """The labels in a file; raises ConfigError for one that cannot be read."""
    read = READERS.get(path.suffix.lower())
    if read is None:
        raise ConfigError(f"--from {path}: allowed {', '.join(READERS)}; convert it to one of these")
    try:
        yield from read(path)
    except (OSError, KeyError, TypeError, ValueError) as error:
        said = f"no {error.args[0]!r} in it" if isinstance(error, KeyError) else str(error)
        raise ConfigError(
            f"--from {path}: {said}; allowed rows with stream, step or episode, and value; mend the file"
        ) from error


def inferred(block: Block) -> tuple[str, tuple[int, ...]]:
    """dtype and shape of the values: text, or float32."""
    return (TEXT, ()) if isinstance(block.values, list) else ("<f4", tuple(block.values.shape[1:]))


def fits(column: Column, block: Block) -> None:
    """Raises ConfigError where steps are given for a column of episodes, or the other way round."""
    if column.per != block.per:
        raise ConfigError(f"{column.identity} has one value for each {column.per}, the file for each {block.per}")


def _csv(path: Path) -> Iterator[Block]:
    with path.open("rb") as raw, io.TextIOWrapper(raw, encoding="utf-8", newline="") as file:
        rows = ({**row, "value": _parsed(row["value"])} for row in csv.DictReader(file))
        yield from _blocks(rows, raw.tell)


def _jsonl(path: Path) -> Iterator[Block]:
    with path.open("rb") as raw, io.TextIOWrapper(raw, encoding="utf-8") as file:
        yield from _blocks((json.loads(line) for line in file if line.strip()), raw.tell)


def _parquet(path: Path) -> Iterator[Block]:
    try:
        import pyarrow.parquet as parquet
    except ImportError as error:
        raise ConfigError("parquet needs pyarrow; pip install 'user-rl[datasets]'") from error
    with parquet.ParquetFile(path) as file:
        total, done = max(1, file.metadata.num_rows), 0
        for batch in file.iter_batches(BLOCK):
            done += batch.num_rows
            yield from _blocks(batch.to_pylist(), partial(_share, path, done, total))


def _npz(path: Path) -> Iterator[Block]:
    with np.load(path, allow_pickle=False) as found:
        key, per = _id_key(found)
        streams, ids, values = found["stream"], found[key], found["value"]
    if streams.dtype.kind == "S":
        streams = np.char.decode(streams)
    if not len(streams) == len(ids) == len(values):
        raise ValueError(f"{len(streams)} streams, {len(ids)} ids and {len(values)} values")
    for start in range(0, len(ids), BLOCK):
        part = slice(start, start + BLOCK)
        yield Block(
            streams[part].tolist(),
            _ids(ids[part]),
            _values(values[part].tolist()),
            per,
            _share(path, part.stop, len(ids)),
        )


READERS: dict[str, Callable[[Path], Iterator[Block]]] = {
    ".csv": _csv, ".jsonl": _jsonl, ".parquet": _parquet, ".npz": _npz
}  # fmt: skip


def _share(path: Path, done: int, total: int) -> int:
    return path.stat().st_size * min(done, total) // total


def _blocks(rows: Iterable[dict[str, Any]], until: Callable[[], int]) -> Iterator[Block]:
    rows = iter(rows)
    while some := list(islice(rows, BLOCK)):
        key, per = _id_key(some[0])
        ids = _ids([row[key] for row in some])
        yield Block([str(row["stream"]) for row in some], ids, _values([row["value"] for row in some]), per, until())


def _id_key(row: Any) -> tuple[str, Per]:  # noqa: ANN401  # whatever has keys
    for key, per in IDS:
        if key in row:
            return key, per
    raise KeyError("step")


def _ids(ids: Any) -> Array:  # noqa: ANN401
    found = np.asarray(ids)
    return found.astype(np.int64) if found.dtype.kind in "iu" else np.array([int(i) for i in ids], np.int64)


def _values(values: list[Any]) -> Any:  # noqa: ANN401
    return values if isinstance(values[0], str) else np.asarray(values, np.float64)


def _parsed(text: str | None) -> Any:  # noqa: ANN401  # a number, a list of numbers, or the text itself
    if text is None:
        raise ValueError("a row is too short")
    try:
        found = json.loads(text)
    except ValueError:
        return text
    return float(found) if isinstance(found, bool) else found if isinstance(found, int | float | list) else text
