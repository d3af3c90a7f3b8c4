"""Export of an experience log: which episodes, and their rows into a dataset that appears whole or not at all."""

import os
import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from cloud.datasets.lerobot_v3_writer import Form, LeRobotWriter
from cloud.videos.episode import name_of, named, newest, rows_of, stamped_rate_hz, tell_unfilmed
from user_rl.errors import ConfigError, StorageError, StorageFull
from user_rl.files import sync_file, sync_folder
from user_rl.log import Episode
from user_rl.log.readable import Readable
from user_rl.log.unfilmed import is_unfilmed
from user_rl.rows import Kind, Klass, Schema
from user_rl.specs import Array

Tell = Callable[[int], None]  # bytes of rows that were dealt with since the last call


@dataclass(frozen=True, kw_only=True)
class Wanted:
    """Which episodes; nothing chosen: all."""

    episodes: Sequence[str] = ()  # CELL/BOOT/EPISODE
    successful: bool = False
    demonstrations: bool = False
    last: int | None = None


@dataclass(frozen=True, kw_only=True)
class Exported:
    """What was written."""

    folder: str
    episodes: int
    frames: int
    cut_episodes: int  # that a crash cut: they have no observation after their last action
    empty_episodes: int  # without one step: LeRobot has none of these, they were left out
    fps: int
    images: str


def chosen(reader: Readable, wanted: Wanted) -> list[Episode]:
    """The wanted episodes in order of stream and step; raises ConfigError for a name that is none, or for nothing."""
    if wanted.episodes:
        found = [named(reader, name) for name in wanted.episodes]
    else:
        found = newest(reader, wanted.last) if wanted.last is not None else reader.episodes()
    found = [e for e in found if (e.success or not wanted.successful)]
    found = [e for e in found if e.klass == Klass.DEMONSTRATION or not wanted.demonstrations]
    if not found:
        raise ConfigError(f"{reader.path}: no such episode there; see user-rl buffer inspect, and ask for less")
    unique = {(e.stream, e.episode): e for e in found}
    return sorted(unique.values(), key=lambda e: (e.stream, e.first_step))


def schema_of(reader: Readable, episodes: Sequence[Episode]) -> Schema:
    """The schema that all these episodes have; raises ConfigError where there are several."""
    streams = reader.streams()
    digests = {streams[e.stream].digest: e for e in episodes}
    if len(digests) > 1:
        one, other = list(digests.values())[:2]
        raise ConfigError(
            f"episodes {name_of(one)} and {name_of(other)} have different observations or actions, allowed is one form "
            "in a dataset; choose with --episodes"
        )
    return streams[episodes[0].stream]


def export(
    reader: Readable, episodes: Sequence[Episode], target: Path, *, make_form: Callable[[int], Form],
    fps: int | None = None, tell: Tell = lambda _: None,
) -> Exported:  # fmt: skip
    """Writes `episodes` as a new LeRobotDataset v3.0 in `target`; `fps` None: as the first one's stamps say.

    Raises ConfigError where `target` is there, StorageFull, StorageError; then nothing is.
    """
    if target.exists():
        raise ConfigError(f"{target}: is there, allowed is a new folder; choose another name")
    part = target.with_name(f".{target.name}.{os.getpid()}.part")
    try:
        part.mkdir(parents=True)
        done = _write(reader, episodes, part, target, make_form=make_form, fps=fps, tell=tell)
        _sync(part)
        part.rename(target)
        sync_folder(target.parent)
    except OSError as error:
        kind = StorageFull if error.errno in (28, 122) else StorageError
        raise kind(f"{target}: cannot be written: {error.strerror or error}; free space there") from error
    finally:
        shutil.rmtree(part, ignore_errors=True)
    return done


def _write(
    reader: Readable, episodes: Sequence[Episode], part: Path, target: Path, *, make_form: Callable[[int], Form],
    fps: int | None, tell: Tell,
) -> Exported:  # fmt: skip
    schema = schema_of(reader, episodes)
    writer: LeRobotWriter | None = None
    cut = empty = 0
    for episode in episodes:
        rows = _rows(reader, schema, episode)
        steps, last = rows[rows["kind"] == Kind.STEP], rows[rows["kind"] == Kind.LAST]
        if not len(steps):
            empty += 1
            continue
        if writer is None:
            writer = LeRobotWriter(part, schema, make_form(fps or max(1, round(stamped_rate_hz(rows)))))
        tell_unfilmed(episode, int(np.count_nonzero(is_unfilmed(rows, schema))))
        writer.add(episode.stream, steps, last)
        cut += not len(last)
        tell(rows.nbytes)
    if writer is None:
        raise ConfigError(f"{reader.path}: the chosen episodes have not one step; choose others")
    writer.finish()
    return Exported(
        folder=str(target), episodes=writer.episodes, frames=writer.frames, cut_episodes=cut, empty_episodes=empty,
        fps=writer.form.fps, images=writer.form.images,
    )  # fmt: skip


def _rows(reader: Readable, schema: Schema, episode: Episode) -> Array:
    parts = [part.copy() for part in rows_of(reader, schema, episode)]
    if not parts:
        raise StorageError(f"episode {name_of(episode)}: its rows are no longer in the log; choose newer ones")
    return np.concatenate(parts)


def _sync(folder: Path) -> None:
    for path in sorted(folder.rglob("*"), reverse=True):
        if path.is_dir():
            sync_folder(path)
        else:
            sync_file(path)
    sync_folder(folder)
