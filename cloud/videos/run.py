"""The videos of a run: which episodes, into which folder, at which rate; the newest automatic ones are kept."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from cloud.run import RunFolder, known_rate_hz
from cloud.shards.reader import ShardedReader, open_log
from cloud.videos.encoder import import_av
from cloud.videos.episode import Video, cameras_of, file_name, named, newest, write_video
from user_rl.errors import ConfigError
from user_rl.log import Episode, Reader
from user_rl.log.readable import Readable
from user_rl.rows import Klass

AUTOMATIC = "auto-"  # how the files begin that are dropped when there are too many


@dataclass(frozen=True, kw_only=True)
class Wanted:
    """What to write. `episodes` named CELL/BOOT/EPISODE; none: the `last` whole ones."""

    episodes: Sequence[str] = ()
    last: int = 1
    cameras: Sequence[str] = ()  # none: all
    to: Path | None = None  # None: the run's own folder

    def __post_init__(self) -> None:
        if self.last < 1:
            raise ConfigError(f"--last {self.last}, allowed 1 or more; it counts episodes")


def write_videos(folder: RunFolder, wanted: Wanted) -> Iterator[Video]:
    """Writes them one after the other; raises ConfigError where there is nothing to see."""
    import_av()
    with _reader(folder) as reader:
        for episode in _chosen(reader, folder, wanted):
            path = (wanted.to or folder.videos) / file_name(episode)
            yield write_video(
                reader, episode, path, cameras=wanted.cameras, rate_hz=known_rate_hz(folder, episode.stream)
            )


def write_automatic(folder: RunFolder, keep: int) -> Video | None:
    """The newest episode that a policy drove, beside `keep` - 1 older ones; None while there is none."""
    for part in folder.videos.glob(f".{AUTOMATIC}*"):  # of one that was killed
        part.unlink(missing_ok=True)
    with _reader(folder) as reader:
        found = newest(reader, 1, klasses=[Klass.ONLINE])
        video = None
        for episode in found:
            path = folder.videos / f"{AUTOMATIC}{file_name(episode)}"
            video = write_video(reader, episode, path, rate_hz=known_rate_hz(folder, episode.stream))
    prune(folder.videos, keep)
    return video


def write_recorded(log: Path, to: Path, *, prefix: str, rate_hz: float | None) -> list[Video]:
    """Every whole episode of the log `log`, as `to`/PREFIX-000.mp4 and so on."""
    with Reader(log) as reader:
        whole = [e for e in reader.episodes() if e.closed and e.length > 0]
        return [
            write_video(reader, e, to / f"{prefix}-{number:03d}.mp4", rate_hz=rate_hz) for number, e in enumerate(whole)
        ]


def prune(videos: Path, keep: int) -> None:
    """Drops the oldest automatic videos beyond `keep`; those that a person asked for stay."""
    made = sorted(videos.glob(f"{AUTOMATIC}*.mp4"), key=lambda path: path.stat().st_mtime_ns)
    for path in made[: max(0, len(made) - keep)]:
        path.unlink(missing_ok=True)


def _reader(folder: RunFolder) -> Reader | ShardedReader:
    if not folder.logs():
        raise ConfigError(f"run {folder.name}: no experience log in {folder.root} yet; wait for its first episode")
    return open_log(folder)


def _chosen(reader: Readable, folder: RunFolder, wanted: Wanted) -> list[Episode]:
    if reader.streams() and not any(cameras_of(schema) for schema in reader.streams().values()):
        raise ConfigError(
            f"run {folder.name}: recorded no camera, a video needs one; start a new run with cameras=two_sim, or with "
            "the robot's own cameras"
        )
    if wanted.episodes:
        return [named(reader, name) for name in wanted.episodes]
    found = newest(reader, wanted.last)
    if not found:
        raise ConfigError(f"run {folder.name}: no whole episode in {folder.log} yet; wait for its first episode")
    return found
