"""Cameras as MP4 files on a constant grid of frames, and frames out of such files, each one by its number.

Codecs under permissive terms only (`cloud/videos/encoder.py` says why). AV1 is LeRobot's own default and ours; every
second frame is a key frame, so that LeRobot's random reads decode two frames at most.
"""

import os
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any

import numpy as np

from cloud.datasets.libraries import library
from cloud.videos.encoder import BT709, LIMITED_RANGE
from user_rl.errors import ConfigError, StorageCorrupt
from user_rl.specs import Array, Image

CODECS: dict[str, dict[str, str]] = {
    "libsvtav1": {"preset": "10", "crf": "30", "svtav1-params": "lp=1"},
    "libvpx-vp9": {"deadline": "realtime", "cpu-used": "7", "crf": "24", "b": "0"},
}
NAMES = {"libsvtav1": "av1", "libvpx-vp9": "vp9"}  # as info.json calls what they write
KEY_FRAME_EVERY = 2
LEAST_SIDE = 64  # pixels; SVT-AV1 takes no less


def check_camera(name: str, spec: Image, codec: str) -> None:
    """Raises ConfigError for a camera that no MP4 of this codec can hold."""
    if codec not in CODECS:
        raise ConfigError(f"--video-codec {codec}, allowed {', '.join(CODECS)}; choose one of these")
    least = LEAST_SIDE if codec == "libsvtav1" else 2
    if spec.channels != 3 or spec.height % 2 or spec.width % 2 or min(spec.height, spec.width) < least:
        raise ConfigError(
            f"{name} is {list(spec.shape)}, allowed in {NAMES[codec]} video are three channels and even sides from "
            f"{least} pixels on; give --images png"
        )


class VideoFile:
    """One MP4 file that is being written: frame n stands at n / fps seconds."""

    def __init__(self, path: Path, spec: Image, *, fps: int, codec: str) -> None:
        av = library("av")
        os.environ.setdefault("SVT_LOG", "1")  # its encoder prints a page for each file otherwise
        path.parent.mkdir(parents=True, exist_ok=True)
        self.path, self.frames, self.fps = path, 0, fps
        self._av, self._out = av, av.open(str(path), "w", format="mp4")
        self._stream: Any = self._out.add_stream(codec, rate=fps, options=CODECS[codec])
        self._stream.width, self._stream.height, self._stream.pix_fmt = spec.width, spec.height, "yuv420p"
        context = self._stream.codec_context
        context.gop_size, context.thread_count = KEY_FRAME_EVERY, 1
        context.color_range, context.colorspace = LIMITED_RANGE, BT709
        context.color_primaries = context.color_trc = BT709

    def add(self, pictures: Array) -> None:
        """More pictures [T, H, W, 3] uint8."""
        for picture in pictures:
            frame = self._av.VideoFrame.from_ndarray(np.ascontiguousarray(picture), format="rgb24")
            frame = frame.reformat(format="yuv420p", dst_colorspace="ITU709")
            frame.pts = self.frames
            self._out.mux(self._stream.encode(frame))
            self.frames += 1

    def size_bytes(self) -> int:
        """About what it takes on the disk by now."""
        return self.path.stat().st_size if self.path.exists() else 0

    def close(self) -> None:
        """Writes what is left. A file that is not closed is not whole."""
        self._out.mux(self._stream.encode(None))
        self._out.close()


class FrameReader:
    """Frames of one MP4 file by their numbers; forwards is cheap, backwards starts over."""

    def __init__(self, path: Path, fps: float) -> None:
        self.path, self._fps = path, fps
        self._stack = ExitStack()
        self._frames: Iterator[tuple[int, Any]] = iter(())
        self._seen = -1
        self._begin()

    def take(self, first: int, count: int) -> Array:
        """Frames `first`..`first + count - 1` as [count, H, W, 3] uint8; raises StorageCorrupt where one is missing."""
        if first <= self._seen:
            self._begin()
        taken: list[Array] = []
        for number, frame in self._frames:
            self._seen = number
            if number < first:
                continue
            if number != first + len(taken):
                break
            taken.append(frame.to_ndarray(format="rgb24"))
            if len(taken) == count:
                return np.stack(taken)
        raise StorageCorrupt(
            f"{self.path}: frame {first + len(taken)} is not there, needed are {first}..{first + count - 1} at "
            f"{self._fps:g} Hz; copy or export this file again"
        )

    def close(self) -> None:
        """Closes the file."""
        self._stack.close()

    def _begin(self) -> None:
        self._stack.close()
        self._seen = -1
        container = self._stack.enter_context(_opened(self.path))
        stream = container.streams.video[0]
        stream.thread_type = "NONE"
        self._frames = self._numbered(container, stream)

    def _numbered(self, container: Any, stream: Any) -> Iterator[tuple[int, Any]]:  # noqa: ANN401
        start = stream.start_time or 0
        with suppress(OSError, ValueError):  # a file that was cut ends here, and `take` says what it lacks
            for frame in container.decode(stream):
                yield round(float((frame.pts - start) * stream.time_base) * self._fps), frame


def count_frames(path: Path) -> int:
    """How many frames a file holds, without decoding them; raises StorageCorrupt."""
    with _opened(path) as container:
        try:
            return sum(packet.size > 0 for packet in container.demux(container.streams.video[0]))
        except (OSError, ValueError) as error:
            raise StorageCorrupt(f"{path}: ends too early: {error}; copy or export the dataset again") from error


@contextmanager
def _opened(path: Path) -> Iterator[Any]:
    """The open file; raises StorageCorrupt where it is no video."""
    try:
        container = library("av").open(str(path))
        container.streams.video[0]
    except (OSError, IndexError, ValueError) as error:  # PyAV's errors are these
        why = "is missing" if not path.exists() else "is no readable video"
        raise StorageCorrupt(f"{path} {why}; copy or export the dataset again") from error
    with container:
        yield container
