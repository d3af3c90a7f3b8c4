"""Logs of random episodes, and datasets of other formats, each written as its format is described."""

import json
import pickle
from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import h5py
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from cloud.datasets.columns import png_from_picture
from cloud.testing import episode_rows
from user_rl.log import Log, Reader
from user_rl.rows import Schema, make_schema
from user_rl.specs import Array, Image, box

FRONT = "observation.images.front"
STATE = box("observation.state", [("x", "m", -9, 9), ("y", "m", -9, 9), ("grip", "", -9, 9)])
ACTION = box("action", [("dx", "m", -1, 1), ("dy", "m", -1, 1)])
BLIND = make_schema({"observation.state": STATE}, ACTION)
SEEING = make_schema({"observation.state": STATE, FRONT: Image(name="front", height=6, width=4)}, ACTION)
FILMED = make_schema({"observation.state": STATE, FRONT: Image(name="front", height=64, width=96)}, ACTION)
BOOT = "a" * 32
STREAM = f"arm/{BOOT}/r"


def write_log(path: Path, streams: dict[str, list[Array]], schema: Schema) -> None:
    """Appends episodes; a step that is left out becomes a gap."""
    with Log(path) as log:
        for stream, episodes in streams.items():
            log.open_stream(stream, schema)
            for rows in episodes:
                if (first := int(rows["step"][0])) > log.appended(stream) + 1:
                    log.append_gap(stream, log.appended(stream) + 1, first - 1)
                log.append(stream, rows)
        log.commit()


def all_rows(path: Path, stream: str) -> Array:
    """Every row of a stream."""
    with Reader(path) as reader:
        schema, step, found = reader.streams()[stream], 0, []
        while chunks := reader.read(stream, step, 2**20):
            found += [schema.view(chunk.data).copy() for chunk in chunks]
            step = chunks[-1].last + 1
        return np.concatenate(found)


def stamped(rows: Array, rate_hz: float = 10.0) -> Array:
    """The same rows, recorded at `rate_hz`."""
    rows["stamp.action"] = np.arange(len(rows)) / rate_hz
    return rows


def filmed_episode(rng: np.random.Generator, *, length: int, first_step: int = 0, number: int = 0, **how: Any) -> Array:  # noqa: ANN401
    """An episode whose pictures are smooth and differ from frame to frame."""
    rows = stamped(episode_rows(FILMED, rng, length=length, first_step=first_step, number=number, **how))
    y, x = np.mgrid[:64, :96]
    for t in range(len(rows)):
        rows[FRONT][t] = np.stack([y * 3, x * 2, np.full_like(y, (20 + 30 * number + 12 * t) % 256)], axis=-1)
    return rows


def write_video(path: Path, pictures: Array, fps: int) -> None:
    """VP9, one frame for each picture."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with av.open(str(path), "w", format="mp4") as out:
        stream: Any = out.add_stream("libvpx-vp9", rate=Fraction(fps), options={"crf": "20", "b": "0", "cpu-used": "8"})
        stream.height, stream.width, stream.pix_fmt = *pictures.shape[1:3], "yuv420p"
        for n, picture in enumerate(pictures):
            frame = av.VideoFrame.from_ndarray(picture, format="rgb24")
            frame.pts = n
            out.mux(stream.encode(frame))
        out.mux(stream.encode(None))


def smooth(count: int, start: int = 0) -> Array:
    """`count` pictures [64, 96, 3] whose blue tells their number."""
    y, x = np.mgrid[:64, :96]
    frames = [np.stack([y * 3, x * 2, np.full_like(y, start + 15 * t)], axis=-1) for t in range(count)]
    return np.stack(frames).astype(np.uint8)


def write_v21(root: Path, episodes: Sequence[dict[str, Array]], *, fps: int = 10, video: bool = True) -> None:
    """A LeRobotDataset v2.1: columns by name, [T, D] or [T], and `observation.images.top` [T, 64, 96, 3]."""
    top, kind = "observation.images.top", "video" if video else "image"
    features: dict[str, Any] = {
        name: {"dtype": str(v.dtype), "shape": list(v.shape[1:]) or [1], "names": None}
        for name, v in episodes[0].items()
    }
    if top in episodes[0]:
        features[top] = {"dtype": kind, "shape": [64, 96, 3], "names": ["height", "width", "channels"]}
    for name in ("timestamp", "frame_index", "episode_index", "index", "task_index"):
        features[name] = {"dtype": "float32" if name == "timestamp" else "int64", "shape": [1], "names": None}
    info = {
        "codebase_version": "v2.1", "fps": fps, "total_episodes": len(episodes), "features": features,
        "total_frames": sum(len(e["action"]) for e in episodes), "chunks_size": 1000, "robot_type": "so100",
        "data_path": "data/chunk-{episode_chunk:03d}/episode_{episode_index:06d}.parquet",
        "video_path": "videos/chunk-{episode_chunk:03d}/{video_key}/episode_{episode_index:06d}.mp4",
    }  # fmt: skip
    (root / "meta").mkdir(parents=True)
    (root / "meta" / "info.json").write_text(json.dumps(info))
    (root / "meta" / "tasks.jsonl").write_text(json.dumps({"task_index": 0, "task": "stack"}) + "\n")
    lines = [{"episode_index": k, "tasks": ["stack"], "length": len(e["action"])} for k, e in enumerate(episodes)]
    (root / "meta" / "episodes.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    for k, episode in enumerate(episodes):
        count = len(episode["action"])
        columns: dict[str, Any] = {name: v.tolist() for name, v in episode.items() if name != top}
        if top in episode and video:
            write_video(root / f"videos/chunk-000/{top}/episode_{k:06d}.mp4", episode[top], fps)
        elif top in episode:
            columns[top] = [{"bytes": png_from_picture(p), "path": None} for p in episode[top]]
        columns |= {"timestamp": (np.arange(count) / fps).tolist(), "frame_index": list(range(count))}
        columns |= {"episode_index": [k] * count, "index": list(range(count)), "task_index": [0] * count}
        path = root / f"data/chunk-000/episode_{k:06d}.parquet"
        path.parent.mkdir(parents=True, exist_ok=True)
        pq.write_table(pa.table(columns), path)


def write_robomimic(path: Path, demos: Sequence[dict[str, Any]], *, masks: dict[str, list[str]] | None = None) -> None:
    """A robomimic file: each demo has obs and perhaps next_obs (dicts), actions, perhaps rewards and dones."""
    with h5py.File(path, "w") as file:
        data = file.create_group("data")
        data.attrs["env_args"] = json.dumps({"env_name": "Lift", "env_type": 1, "env_kwargs": {"control_freq": 20}})
        data.attrs["total"] = sum(len(demo["actions"]) for demo in demos)
        for k, demo in enumerate(demos):
            group = data.create_group(f"demo_{k}")
            group.attrs["num_samples"] = len(demo["actions"])
            for name, values in demo.items():
                if isinstance(values, dict):
                    for key, seen in values.items():
                        group.create_dataset(f"{name}/{key}", data=seen)
                else:
                    group.create_dataset(name, data=values)
        for name, members in (masks or {}).items():
            file.create_dataset(f"mask/{name}", data=np.array(members, "S"))


def transitions(rng: np.random.Generator, length: int, *, success: bool = True) -> list[dict[str, Any]]:
    """One HIL-SERL episode: state (1, 3) float32, front (1, 6, 4, 3) uint8."""
    seen = [
        {"state": rng.standard_normal((1, 3)).astype(np.float32), "front": rng.integers(0, 256, (1, 6, 4, 3), np.uint8)}
        for _ in range(length + 1)
    ]
    items = []
    for t in range(length):
        ends = t == length - 1
        items.append({
            "observations": seen[t], "next_observations": seen[t + 1], "rewards": float(ends and success),
            "actions": rng.uniform(-1, 1, 2).astype(np.float32), "masks": 1.0 - (ends and success), "dones": ends,
            "infos": {"succeed": ends and success} | ({"intervene_action": 1} if t == 1 else {}),
        })  # fmt: skip
    return items


def write_pickle(path: Path, items: object, protocol: int = 4) -> None:
    path.write_bytes(pickle.dumps(items, protocol))
