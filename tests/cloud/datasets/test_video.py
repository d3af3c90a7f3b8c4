"""cloud.datasets.video: frames by their numbers, exactly."""

from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest

from cloud.datasets.libraries import library
from cloud.datasets.video import FrameReader, count_frames
from tests.cloud.datasets.recordings import smooth, write_video
from user_rl.errors import ConfigError, StorageCorrupt
from user_rl.specs import Array


def number_of(picture: Array) -> int:
    """Which of `smooth`'s pictures this is."""
    return round(float(picture[..., 2].mean()) / 15)


def test_frames_are_taken_by_number_in_any_order(tmp_path: Path) -> None:
    write_video(tmp_path / "v.mp4", smooth(12), 10)
    reader = FrameReader(tmp_path / "v.mp4", 10)
    for first, count in ((0, 3), (3, 2), (7, 5), (2, 2)):
        assert [number_of(p) for p in reader.take(first, count)] == list(range(first, first + count))
    reader.close()
    assert count_frames(tmp_path / "v.mp4") == 12


def test_a_frame_that_was_dropped_is_named(tmp_path: Path) -> None:
    with av.open(str(tmp_path / "v.mp4"), "w", format="mp4") as out:
        stream: Any = out.add_stream("libvpx-vp9", rate=Fraction(10))
        stream.height, stream.width, stream.pix_fmt = 64, 96, "yuv420p"
        for n in (0, 1, 3, 4):
            frame = av.VideoFrame.from_ndarray(smooth(5)[n], format="rgb24")
            frame.pts = n
            out.mux(stream.encode(frame))
        out.mux(stream.encode(None))
    reader = FrameReader(tmp_path / "v.mp4", 10)
    assert np.shape(reader.take(0, 2)) == (2, 64, 96, 3)
    with pytest.raises(StorageCorrupt, match=r"v.mp4: frame 2 is not there, needed are 0..4 at 10 Hz; copy or export"):
        reader.take(0, 5)
    reader.close()


def test_a_library_that_is_not_installed_is_one_line() -> None:
    with pytest.raises(ConfigError, match=r"^datasets need no_such_library, which is not installed; pip install '"):
        library("no_such_library")
