"""Rows with pictures, and what each codec must give back of them."""

from pathlib import Path
from typing import Any

import numpy as np
import simplejpeg

from tests.user_rl.log.recorded import STREAM
from user_rl.log import Log, LogConfig
from user_rl.rows import Kind, Klass, Schema, make_schema
from user_rl.specs import Array, Image, box

FRONT, WRIST, DEPTH, STATE = (
    "observation.images.front", "observation.images.wrist", "observation.images.depth", "observation.state"
)  # fmt: skip
SCHEMA = make_schema(
    {
        FRONT: Image(name=FRONT, height=32, width=40),
        WRIST: Image(name=WRIST, height=24, width=24),
        DEPTH: Image(name=DEPTH, height=16, width=48, channels=1),
        STATE: box(STATE, [("x", "m", -1, 1), ("y", "m", -1, 1)]),
    },
    box("action", [("dx", "m", -1, 1)]),
)


def filmed(first: int, count: int, *, seed: int = 0, length: int = 5, schema: Schema = SCHEMA) -> Array:
    """Rows `first`.. whose pictures are ramps, as cameras see them, and every seventh noise, as no codec likes it."""
    records, step = schema.new(count), np.arange(first, first + count)
    records["step"], records["episode"], records["frame_index"] = step, step // length, step % length
    records["kind"] = np.where(step % length == length - 1, Kind.LAST, Kind.STEP)
    records["klass"] = np.where(step // length % 3 == 2, Klass.DEMONSTRATION, Klass.ONLINE)
    for name, spec in schema.observation.items():
        for at, row in enumerate(step.tolist()):
            rng = np.random.default_rng([seed, row, len(name)])
            if spec.dtype != "uint8":
                records[name][at] = rng.normal(size=spec.shape)
            elif row % 7 == 3:
                records[name][at] = rng.integers(0, 256, spec.shape)
            else:
                ramp = np.add.outer(np.arange(spec.shape[0]), np.arange(spec.shape[1]))[:, :, None]
                records[name][at] = (ramp * rng.uniform(0.2, 2, spec.shape[2]) + rng.uniform(0, 90)).astype(np.uint8)
    return records


def after_jpeg(picture: Array, quality: int) -> Array:
    """A picture after its coding, by the library itself."""
    gray = picture.shape[2] == 1
    blob = simplejpeg.encode_jpeg(
        np.ascontiguousarray(picture), quality, "GRAY" if gray else "RGB", "Gray" if gray else "420"
    )
    decoded: Array = simplejpeg.decode_jpeg(blob, "GRAY" if gray else "RGB", fastdct=True, fastupsample=True)
    return decoded


def after(records: Array, qualities: dict[str, int]) -> Array:
    """Records whose fields went through jpeg."""
    changed = records.copy()
    for name, quality in qualities.items():
        for at in range(len(records)):
            changed[name][at] = after_jpeg(records[name][at], quality)
    return changed


def write(path: Path, parts: list[Array], **config: Any) -> None:  # noqa: ANN401  # of a LogConfig
    """A log of these rows, one commit for each part."""
    with Log(path, LogConfig(**config)) as log:
        log.open_stream(STREAM, SCHEMA)
        for part in parts:
            log.append(STREAM, part)
            log.commit()
