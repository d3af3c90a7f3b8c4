"""A run whose log holds episodes of two cameras in plain colours, so that a picture can be told."""

from pathlib import Path

import numpy as np

from cloud.run import RunFolder, keep_config
from user_rl.log import Log
from user_rl.rows import Kind, Klass, Schema, Source, make_schema
from user_rl.specs import Array, Image, box

STATE = box("observation.state", [("x", "m", -1, 1)])
FRONT = Image(name="front", height=32, width=48)
WRIST = Image(name="wrist", height=32, width=32)
SCHEMA = make_schema(
    {"observation.state": STATE, "observation.images.front": FRONT, "observation.images.wrist": WRIST}, STATE
)
BLIND = make_schema({"observation.state": STATE}, STATE)
BOOT_A, BOOT_B = "a" * 32, "ab" + "b" * 30
RED, GREEN = (200, 40, 40), (30, 160, 60)


def stream(boot: str = BOOT_A, run: str = "r") -> str:
    return f"arm/{boot}/{run}"


def episode(
    number: int, first: int, *, length: int = 6, klass: Klass = Klass.ONLINE, success: bool = True, helped: int = 0,
    began_s: float = 0.0, closed: bool = True, schema: Schema = SCHEMA,
) -> Array:  # fmt: skip
    """`length` steps at 20 Hz and the closing row; the last `helped` steps are a person's."""
    rows = schema.new(length + closed)
    rows["step"], rows["episode"] = np.arange(first, first + len(rows)), number
    rows["frame_index"], rows["klass"], rows["version"] = np.arange(len(rows)), klass, 7
    rows["stamp.action"] = began_s + 0.05 * np.arange(len(rows))
    rows["source"][length - helped : length], rows["is_intervention"][length - helped : length] = Source.TELEOP, True
    if closed:
        rows["kind"][-1] = Kind.LAST
        rows["next.reward"][-2], rows["next.success"][-2] = float(success), success
    for name, colour in (("front", RED), ("wrist", GREEN)):
        if f"observation.images.{name}" in rows.dtype.names:  # type: ignore[operator]
            rows[f"observation.images.{name}"] = colour
    return rows


def write(folder: RunFolder, *episodes: Array, boot: str = BOOT_A, schema: Schema = SCHEMA) -> None:
    log = Log(folder.log)
    log.open_stream(stream(boot), schema)
    for rows in episodes:
        log.append(stream(boot), rows)
    log.commit()
    log.close()


def make_run(root: Path, *episodes: Array, schema: Schema = SCHEMA, **tree: object) -> RunFolder:
    """A run's folder with its configuration and a log of these episodes."""
    folder = RunFolder(root / "r")
    keep_config(folder, {"overrides": [], "tree": tree})
    if episodes:
        write(folder, *episodes, schema=schema)
    return folder


def decoded(path: Path | str) -> tuple[list[Array], float]:
    """Every picture of a video, and its rate."""
    import av

    with av.open(str(path)) as video:
        found = video.streams.video[0]
        assert found.codec_context.pix_fmt == "yuv420p"
        return [frame.to_ndarray(format="rgb24") for frame in video.decode(found)], float(found.average_rate or 0)
