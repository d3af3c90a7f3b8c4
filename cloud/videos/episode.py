"""One episode of the log as a video, and which episodes: the newest, or those that are named CELL/BOOT/EPISODE."""

import logging
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np

from cloud.videos.encoder import Encoder
from cloud.videos.picture import Caption, Layout
from user_rl.errors import ConfigError, StorageError
from user_rl.log import Episode
from user_rl.log.readable import Readable
from user_rl.log.unfilmed import is_unfilmed
from user_rl.rows import Kind, Klass, Schema, Source
from user_rl.specs import Array, Image

log = logging.getLogger(__name__)

PREFIX = "observation.images."
READ_BYTES = 16 * 2**20  # in memory at a time
BOOT_DIGITS = 8  # of a boot in a file's name
USUAL_HZ = 10.0  # where an episode is too short to tell


@dataclass(frozen=True, kw_only=True)
class Video:
    """A video that was written."""

    episode: str  # CELL/BOOT/EPISODE
    path: str
    frames: int
    rate_hz: float
    success: bool
    reward_sum: float

    def __str__(self) -> str:
        end = "success" if self.success else "no success"
        return f"{self.frames} frames, {self.frames / self.rate_hz:.1f} s, return {self.reward_sum:.2f}, {end}"


def cameras_of(schema: Schema) -> dict[str, Image]:
    """The cameras that a stream holds, by name."""
    return {name.removeprefix(PREFIX): s for name, s in schema.observation.items() if isinstance(s, Image)}


def newest(reader: Readable, count: int, *, klasses: Sequence[Klass] = tuple(Klass)) -> list[Episode]:
    """The last `count` whole episodes over all streams, oldest first."""
    whole: dict[str, list[Episode]] = {}
    for episode in reader.episodes():
        if episode.closed and episode.length > 0 and episode.klass in klasses:
            whole.setdefault(episode.stream, []).append(episode)
    late = [episode for stream in whole.values() for episode in stream[-count:]]
    return sorted(late, key=lambda e: _began_s(reader, e))[-count:]


def named(reader: Readable, name: str) -> Episode:
    """The episode CELL/BOOT/EPISODE, where BOOT may be the beginning of one; raises ConfigError."""
    cell, _, rest = name.partition("/")
    boot, _, number = rest.partition("/")
    found = [
        e for e in reader.episodes()
        if e.stream.startswith(f"{cell}/{boot}") and e.stream.split("/")[0] == cell and str(e.episode) == number
    ]  # fmt: skip
    if len(found) == 1:
        return found[0]
    if found:
        raise ConfigError(f"--episode {name}: {', '.join(map(name_of, found))} begin so; give more of the boot")
    near = ", ".join(name_of(e) for e in newest(reader, 3)) or "none yet"
    raise ConfigError(
        f"--episode {name}: no such episode, allowed CELL/BOOT/EPISODE, the newest are {near}; choose one"
    )


def name_of(episode: Episode) -> str:
    """CELL/BOOT/EPISODE."""
    cell, boot, _ = episode.stream.split("/")
    return f"{cell}/{boot}/{episode.episode}"


def file_name(episode: Episode) -> str:
    """The video's file name: short, and its order is that of the episodes of one boot."""
    cell, boot, _ = episode.stream.split("/")
    return f"{cell}-{boot[:BOOT_DIGITS]}-{episode.episode:06d}.mp4"


def write_video(
    reader: Readable, episode: Episode, path: Path, *, cameras: Sequence[str] = (), rate_hz: float | None = None
) -> Video:
    """Writes `path`, one frame for each row. No cameras named: all; `rate_hz` None: as the rows' stamps say."""
    schema = reader.streams()[episode.stream]
    specs = chosen_cameras(schema, cameras)
    rows = rows_of(reader, schema, episode)
    first = next(rows, None)
    if first is None:
        raise StorageError(f"episode {name_of(episode)}: its rows are no longer in the log; choose a newer one")
    rate_hz = rate_hz or stamped_rate_hz(first)
    layout, caption = Layout(specs), _Captions(episode)
    try:
        with Encoder(path, size=layout.size, rate_hz=rate_hz, title=name_of(episode)) as encoder:
            for row in _told(chain([first], rows), schema, episode):
                encoder.add(layout.draw({name: row[PREFIX + name] for name in specs}, caption.at(row)))
    except OSError as error:
        why = error.strerror or error
        raise StorageError(f"{path} cannot be written: {why}; free space there, or choose another folder") from error
    return Video(
        episode=name_of(episode), path=str(path), frames=encoder.frames, rate_hz=rate_hz, success=episode.success,
        reward_sum=episode.reward_sum,
    )  # fmt: skip


def chosen_cameras(schema: Schema, names: Sequence[str]) -> dict[str, Image]:
    """The specs of the cameras `names`, of all where none is named; raises ConfigError for one that is not there."""
    there = cameras_of(schema)
    for name in names:
        if name not in there:
            raise ConfigError(f"--camera {name}: no such camera, allowed {', '.join(there)}; choose one of these")
    return {name: there[name] for name in names or there}


def rows_of(reader: Readable, schema: Schema, episode: Episode) -> Iterator[Array]:
    """The rows of an episode in order, some at a time."""
    step = episode.first_step
    while chunks := reader.read(episode.stream, step, READ_BYTES):
        for chunk in chunks:
            rows = schema.view(chunk.data)
            mine = rows[: int(np.argmin(same))] if not (same := rows["episode"] == episode.episode).all() else rows
            if len(mine):
                yield mine
            if len(mine) < len(rows) or mine["kind"][-1] == Kind.LAST:
                return
        step = chunks[-1].last + 1


def stamped_rate_hz(rows: Array) -> float:
    """How fast these steps followed each other on the edge's clock, to a tenth of a hertz."""
    between_s = np.diff(rows["stamp.action"][rows["kind"] == Kind.STEP])
    typical_s = float(np.median(between_s)) if len(between_s) else 0.0
    return max(0.1, round(1.0 / typical_s, 1)) if typical_s > 0 else USUAL_HZ


def _told(parts: Iterable[Array], schema: Schema, episode: Episode) -> Iterator[Any]:
    """Their rows; those whose pictures were not recorded are black, and one line says how many."""
    black = 0
    for rows in parts:
        black += int(np.count_nonzero(is_unfilmed(rows, schema)))
        yield from rows
    tell_unfilmed(episode, black)


def tell_unfilmed(episode: Episode, rows: int) -> None:
    """One line about an episode with `rows` whose pictures the edge had no room for."""
    if rows:
        log.warning("episode %s: %d frames were not recorded and are black", name_of(episode), rows)


class _Captions:
    """Follows an episode row by row."""

    def __init__(self, episode: Episode) -> None:
        demonstration = episode.klass == Klass.DEMONSTRATION
        what, self._whose = ("demonstration", "TELEOP") if demonstration else ("episode", "TELEOP intervention")
        self._episode, self._title = episode, f"{what} {episode.episode}  {episode.stream.split('/')[0]}"
        self._reward_sum, self._by_person, self._source = 0.0, False, "POLICY"

    def at(self, row: Any) -> Caption:  # noqa: ANN401  # one numpy record
        last = row["kind"] == Kind.LAST  # who acted and what it was worth mean nothing there
        if not last:
            self._by_person = row["source"] == Source.TELEOP
            self._source = self._whose if self._by_person else "POLICY"
        caption = Caption(
            title=self._title, step=int(row["frame_index"]), steps=self._episode.length, by_person=self._by_person,
            source=self._source, version=int(row["version"]), reward_sum=self._reward_sum,
            outcome=("SUCCESS" if self._episode.success else "no success") if last else "",
            success=self._episode.success,
        )  # fmt: skip
        self._reward_sum += 0.0 if last else float(row["next.reward"])
        return caption


def _began_s(reader: Readable, episode: Episode) -> float:
    """When its first row was recorded, on the cloud's clock."""
    schema = reader.streams()[episode.stream]
    for chunk in reader.read(episode.stream, episode.first_step, 1):
        row = schema.view(chunk.data)[0]
        return float(row["stamp.action"] + row["clock_offset_s"])
    return float("-inf")
