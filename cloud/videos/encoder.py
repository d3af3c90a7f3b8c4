"""Encoder: pictures into one MP4 file, with what the installed PyAV offers under permissive terms.

VP9 (libvpx, BSD) plays in every current browser and needs no licence; AV1 (SVT-AV1, BSD) comes second. PyAV is BSD and
its ffmpeg LGPL; the wheels on PyPI also carry x264 and x265 (GPL), which are never asked for here.
"""

import os
from fractions import Fraction
from pathlib import Path
from types import TracebackType
from typing import Any

from user_rl.errors import ConfigError
from user_rl.specs import Array

EXTRA = "pip install 'user-rl[video]'"
ENCODERS: dict[str, dict[str, str]] = {  # the first that is there; options for speed on one core
    "libvpx-vp9": {"deadline": "realtime", "cpu-used": "7", "crf": "24", "b": "0"},
    "libsvtav1": {"preset": "10", "crf": "28"},
}
LIMITED_RANGE, BT709 = 1, 1  # as ffmpeg numbers them; a player that is not told would guess by the size


class Encoder:
    """A context: `add` pictures, and when it ends well the file is there whole; otherwise it never was."""

    def __init__(self, path: Path, *, size: tuple[int, int], rate_hz: float, title: str = "") -> None:
        """`size` is (width, height), both even. Raises ConfigError without PyAV or without an encoder."""
        av = import_av()
        self.frames = 0
        self._path, self._part = path, part_of(path)
        path.parent.mkdir(parents=True, exist_ok=True)
        name, options = choose_encoder()
        self._av, self._out = av, av.open(str(self._part), "w", format="mp4", options={"movflags": "+faststart"})
        self._out.metadata["title"] = title
        rate = Fraction(rate_hz).limit_denominator(1000)
        self._stream: Any = self._out.add_stream(name, rate=rate, options=options)
        self._stream.width, self._stream.height = size
        self._stream.pix_fmt = "yuv420p"
        context = self._stream.codec_context
        context.thread_count = 1
        context.color_range, context.colorspace = LIMITED_RANGE, BT709
        context.color_primaries = context.color_trc = BT709

    def add(self, picture: Array) -> None:
        """One more picture, [height, width, 3] uint8."""
        frame = self._av.VideoFrame.from_ndarray(picture, format="rgb24")
        frame = frame.reformat(format="yuv420p", dst_colorspace="ITU709")
        frame.pts = self.frames
        self._out.mux(self._stream.encode(frame))
        self.frames += 1

    def __enter__(self) -> "Encoder":
        return self

    def __exit__(self, kind: type[BaseException] | None, _: BaseException | None, __: TracebackType | None) -> None:
        try:
            if kind is None:
                self._out.mux(self._stream.encode(None))
            self._out.close()
            if kind is None:
                os.replace(self._part, self._path)
        finally:
            self._part.unlink(missing_ok=True)


def part_of(path: Path) -> Path:
    """Where `path` is written until it is whole."""
    return path.with_name(f".{path.name}.part")


def choose_encoder() -> tuple[str, dict[str, str]]:
    """The name and the options of the first encoder that this PyAV has; raises ConfigError."""
    from av.codec import Codec

    for name, options in ENCODERS.items():
        try:
            Codec(name, "w")
        except ValueError:  # UnknownCodecError
            continue
        return name, options
    raise ConfigError(f"videos: this PyAV has none of {', '.join(ENCODERS)}; take the one of {EXTRA}")


def import_av() -> Any:  # noqa: ANN401  # a module
    """PyAV; raises ConfigError that names the extra."""
    try:
        import av
        import PIL  # noqa: F401  # the captions' part of the extra
    except ImportError as error:
        raise ConfigError(f"videos need {error.name}, which is not installed; {EXTRA}") from error
    return av
