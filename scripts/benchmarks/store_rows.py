"""The rows of the store's benchmark, and logs that are full of them."""

from pathlib import Path

import numpy as np

from user_rl.log import Log, LogConfig
from user_rl.rows import Kind, Schema, make_schema
from user_rl.specs import Array, Image, box

BATCH, EPISODE, COMMIT = 256, 101, 32
STREAM = "cell/00000000000000000000000000000000/bench"
_NUMBERS = box("observation.state", [(f"x{i}", "", -np.inf, np.inf) for i in range(20)])
_ACTION = box("action", [(f"a{i}", "", -1.0, 1.0) for i in range(7)])
_CAMERAS = {f"observation.images.{n}": Image(name=f"observation.images.{n}", height=128, width=128) for n in ("a", "b")}
SCHEMA = make_schema({_NUMBERS.name: _NUMBERS, **_CAMERAS}, _ACTION)


def make_rows(schema: Schema, count: int) -> Array:
    """Episodes of 100 steps with smooth pictures, numbers and rewards."""
    rng, rows = np.random.default_rng(0), schema.new(count)
    rows["step"], rows["episode"] = np.arange(count), np.arange(count) // EPISODE
    rows["frame_index"] = np.arange(count) % EPISODE
    rows["kind"] = np.where(rows["frame_index"] == EPISODE - 1, Kind.LAST, Kind.STEP)
    rows["observation.state"], rows["action"] = rng.normal(size=(count, 20)), rng.uniform(-1, 1, (count, 7))
    rows["next.reward"] = rng.random(count)
    for name, spec in schema.observation.items():
        if isinstance(spec, Image):
            small = rng.integers(0, 256, (64, spec.height // 8, spec.width // 8, 3), np.uint8)
            large = small.repeat(8, axis=1).repeat(8, axis=2)
            rows[name] = large[np.arange(count) % 64]
            rows[name][:, :2] = rng.integers(0, 256, (count, 2, spec.width, 3), np.uint8)  # no two are alike
    return rows


def filled_log(path: Path, count: int, config: LogConfig) -> Array:
    """A log of `count` rows, 32 a commit; returns the rows."""
    rows = make_rows(SCHEMA, count)
    append(path, SCHEMA, rows, config)
    return rows


def small_log(path: Path, count: int) -> tuple[Path, Schema]:
    """A log of `count` rows with a 16x16 picture, 32 a commit."""
    camera = Image(name="observation.images.a", height=16, width=16)
    schema = make_schema({_NUMBERS.name: _NUMBERS, camera.name: camera}, _ACTION)
    append(path, schema, make_rows(schema, count), LogConfig(commit="nosync"))
    return path, schema


def append(path: Path, schema: Schema, rows: Array, config: LogConfig) -> None:
    """Appends and commits, 32 rows at a time, as robots' rows come in."""
    with Log(path, config) as log:
        log.open_stream(STREAM, schema)
        for start in range(0, len(rows), COMMIT):
            log.append(STREAM, rows[start : start + COMMIT])
            log.commit()
        log.sync()
