"""VideoCamera: a video file in a camera's place, paced by the file's own frame times. Needs the extra `video` (PyAV).

No thread: a read decodes what has become due since the last one, for one frame period at most. Like a tape it stands
still while nobody reads for longer than `max_gap_s`, so that a pause never has to be decoded at once.
"""

from collections.abc import Generator, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

import msgspec

from hal.camera import Frame
from user_rl.clock import Clock
from user_rl.errors import ConfigError, HardwareError
from user_rl.specs import Image


class AtEnd(StrEnum):
    """What follows the last frame."""

    LOOP = "loop"  # the first one again
    STOP = "stop"  # HardwareError, as from a camera that is gone


@dataclass(frozen=True, kw_only=True)
class VideoConfig:
    """Which file, and what follows its last frame."""

    path: str
    at_end: AtEnd = AtEnd.LOOP
    max_gap_s: float = 1.0


class VideoCamera:
    """See hal.camera.Camera. `stamp_s` is when the frame was due."""

    blocks = True  # while it decodes

    def __init__(self, config: VideoConfig, *, name: str, clock: Clock) -> None:
        self.config, self.clock = config, clock
        try:
            with _opened(config.path) as container:
                video = container.streams.video[0]
                self._period_s = float(1 / (video.average_rate or 30))
                self._spec = Image(name=f"observation.images.{name}", height=video.height, width=video.width)
        except HardwareError as error:
            raise ConfigError(str(error)) from error
        self._tape: _Tape | None = None

    @property
    def spec(self) -> Image:
        return self._spec

    def open(self) -> None:
        self._tape = _Tape(self.config, self.clock, self._period_s)

    def read(self) -> Frame:
        if self._tape is None:
            raise HardwareError(f"{self._spec.name} is not open; call open() first")
        return self._tape.read()

    def close(self) -> None:
        if self._tape is not None:
            self._tape.close()
            self._tape = None


class _Tape:
    """The file while it is played."""

    def __init__(self, config: VideoConfig, clock: Clock, period_s: float) -> None:
        self._config, self._clock, self._period_s = config, clock, period_s
        self._pictures = _pictures(config, period_s)
        self._start_s = self._read_s = clock.now_s()
        self._frame = self._shown(next(self._pictures))
        self._coming = next(self._pictures)

    def read(self) -> Frame:
        now_s = self._clock.now_s()
        gap_s, self._read_s = now_s - self._read_s, now_s
        if gap_s > self._config.max_gap_s:
            self._start_s += gap_s
            self._frame = msgspec.structs.replace(self._frame, stamp_s=self._frame.stamp_s + gap_s)
        while self._start_s + self._coming[0] <= now_s and self._clock.now_s() < now_s + self._period_s:
            self._frame = self._shown(self._coming)
            self._coming = next(self._pictures)
        return self._frame

    def close(self) -> None:
        self._pictures.close()

    def _shown(self, picture: "_Picture") -> Frame:
        due_s, frame = picture
        if frame is None:
            raise HardwareError(f"{self._config.path} is at its end; give at_end=loop, or open it again")
        return Frame(stamp_s=self._start_s + due_s, pixels=frame.to_ndarray(format="rgb24"))


_Picture = tuple[float, Any]  # when on the tape it is due [s], and the undrawn av.VideoFrame, None: the end


def _pictures(config: VideoConfig, period_s: float) -> Generator[_Picture, None, None]:
    """Every frame, pass after pass; the end over and over, if there is one."""
    begin_s = end_s = 0.0
    while end_s == 0.0 or config.at_end is AtEnd.LOOP:
        with _opened(config.path) as container:
            first_s: float | None = None
            for frame in container.decode(video=0):
                first_s = frame.time if first_s is None else first_s
                due_s = begin_s + frame.time - first_s
                end_s = due_s + period_s
                yield due_s, frame
        begin_s = end_s
    while True:
        yield end_s, None


@contextmanager
def _opened(path: str) -> Iterator[Any]:  # av.container.InputContainer
    try:
        import av
    except ImportError as error:
        raise ConfigError(f"video files as cameras need PyAV ({error}); pip install 'user-rl[video]'") from error
    try:
        with av.open(path) as container:
            if not container.streams.video:
                raise HardwareError(f"{path} holds no video; name a file that does")
            yield container
    except av.FFmpegError as error:
        raise HardwareError(f"{path} cannot be played: {error.strerror}; name a video file") from error
