"""Filming: now and then a running cloud leaves a video of its newest episode, without holding anything up.

Each video is written by a process of its own (`python -m cloud.videos`), one at a time, nice 19, one thread: it reads
the log as any reader does. What goes wrong there is one warning here and never the run's affair.
"""

import importlib.util
import logging
import subprocess
import sys
from dataclasses import dataclass

from cloud.run import RunFolder
from cloud.schema_file import kept_schema
from user_rl.errors import UserRlError
from user_rl.specs import Image

log = logging.getLogger(__name__)

NEEDS = {"av": "av", "PIL": "pillow"}  # module, and the package that brings it
STOP_S = 2.0


@dataclass(frozen=True, kw_only=True)
class VideosConfig:
    """Which videos a run with cameras leaves by itself, in RUN/videos."""

    every_episodes: int = 50  # online episodes between two automatic ones; 0: none
    keep: int = 20  # automatic ones, the newest
    evaluation_episodes: int = 3  # the first ones of the final evaluation; 0: none

    def __post_init__(self) -> None:
        for key, least in (("every_episodes", 0), ("keep", 1), ("evaluation_episodes", 0)):
            if getattr(self, key) < least:
                raise ValueError(f"{key} = {getattr(self, key)}, allowed {least} or more; change its value")


class Filming:
    """The launcher's part. All calls from one thread, none of them waits."""

    def __init__(self, folder: RunFolder, config: VideosConfig) -> None:
        self._folder, self._config = folder, config
        self._off = config.every_episodes == 0
        self._child: subprocess.Popen[bytes] | None = None
        self._rounds: int | None = None  # whole rounds of `every_episodes` that were seen
        self._knows_cameras = False

    def tick(self, episodes: int) -> None:
        """Starts a video when `episodes`, all online ones so far, have passed the next round; call it often."""
        self._reap()
        if self._off or not (self._knows_cameras or self._has_cameras()):
            return
        rounds = episodes // self._config.every_episodes
        if self._rounds is None:  # a run that goes on does not begin with one
            self._rounds = rounds
        if rounds > self._rounds and self._child is None:
            self._rounds = rounds
            self._child = self._spawn()

    def close(self) -> None:
        """Ends the child; what it had not finished never was."""
        if self._child is not None:
            self._child.terminate()
            try:
                self._child.wait(STOP_S)
            except subprocess.TimeoutExpired:
                self._child.kill()
                self._child.wait()
            self._child = None

    def _has_cameras(self) -> bool:
        """Whether there is something to film, and the means; without either, filming is off from now on."""
        try:
            schema = kept_schema(self._folder.root)
        except UserRlError:
            schema = None
        if schema is None:
            return False
        self._knows_cameras = any(isinstance(spec, Image) for spec in schema.observation.values())
        self._off = not self._knows_cameras
        if self._knows_cameras and (lacks := missing()):
            self._off = True
            log.warning("no episode videos: %s; or set videos.every_episodes=0", lacks)
        return not self._off

    def _spawn(self) -> "subprocess.Popen[bytes]":
        argv = [sys.executable, "-m", "cloud.videos", "--run", str(self._folder.root), "--keep", str(self._config.keep)]
        with self._folder.process_log("videos").open("ab") as out:
            return subprocess.Popen(
                argv, stdin=subprocess.DEVNULL, stdout=out, stderr=subprocess.STDOUT, start_new_session=True
            )  # fmt: skip

    def _reap(self) -> None:
        if self._child is not None and (status := self._child.poll()) is not None:
            self._child = None
            if status:
                log.warning("an episode video ended with %d; see %s", status, self._folder.process_log("videos"))


def missing() -> str:
    """What the extra `video` lacks here, and what to do; empty when nothing."""
    lacks = [package for module, package in NEEDS.items() if importlib.util.find_spec(module) is None]
    return f"{', '.join(lacks)} is not installed; pip install 'user-rl[video]'" if lacks else ""
