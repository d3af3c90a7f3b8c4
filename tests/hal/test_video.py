from pathlib import Path

import av
import numpy as np
import pytest

from hal.kits import check_camera
from hal.video import AtEnd, VideoCamera, VideoConfig
from user_rl.clock import FakeClock, SystemClock
from user_rl.errors import ConfigError, HardwareError

RATE_HZ = 10


@pytest.fixture(scope="module")
def film(tmp_path_factory: pytest.TempPathFactory) -> str:
    """20 frames at 10 Hz; the n-th is as grey as 10 n."""
    path = str(tmp_path_factory.mktemp("film") / "film.mkv")
    with av.open(path, "w") as container:
        video = container.add_stream("ffv1", rate=RATE_HZ)  # without loss
        video.width, video.height, video.pix_fmt = 32, 16, "bgr0"
        for n in range(20):
            frame = av.VideoFrame.from_ndarray(np.full((16, 32, 3), 10 * n, np.uint8), format="rgb24")
            frame.pts = n
            container.mux(video.encode(frame.reformat(format="bgr0")))
        container.mux(video.encode(None))
    return path


def playing(film: str, clock: FakeClock, at_end: AtEnd = AtEnd.LOOP) -> VideoCamera:
    camera = VideoCamera(VideoConfig(path=film, at_end=at_end), name="front", clock=clock)
    camera.open()
    return camera


def shown(camera: VideoCamera) -> float:
    return float(camera.read().pixels[0, 0, 0]) / 10


def test_a_video_keeps_the_camera_contract(film: str) -> None:
    check_camera(lambda: VideoCamera(VideoConfig(path=film), name="front", clock=SystemClock()))


def test_the_frame_that_is_due_is_shown_with_the_time_at_which_it_was_due(film: str) -> None:
    clock = FakeClock(100.0)
    camera = playing(film, clock)
    assert camera.spec.shape == (16, 32, 3)
    seen = []
    for by_s in (0.0, 0.05, 0.06, 0.5):
        clock.advance(by_s)
        seen.append((shown(camera), round(camera.read().stamp_s, 6)))
    assert seen == [(0, 100.0), (0, 100.0), (1, 100.1), (6, 100.6)]


def test_a_loop_begins_again_one_period_after_its_last_frame(film: str) -> None:
    clock = FakeClock(0.0)
    camera = playing(film, clock)
    for _ in range(24):
        clock.advance(0.1 + 1e-6)
        camera.read()
    assert (shown(camera), camera.read().stamp_s) == (4, pytest.approx(2.4))


def test_a_film_that_stops_shows_its_last_frame_for_its_period_and_is_then_gone(film: str) -> None:
    clock = FakeClock(0.0)
    camera = playing(film, clock, AtEnd.STOP)
    for _ in range(19):
        clock.advance(0.1 + 1e-6)
        camera.read()
    assert shown(camera) == 19
    clock.advance(0.1)
    for _ in range(2):
        with pytest.raises(HardwareError, match=r"film\.mkv is at its end; give at_end=loop, or open it again"):
            camera.read()
    camera.close()
    camera.open()
    assert shown(camera) == 0
    camera.close()


def test_a_film_stands_still_while_nobody_looks(film: str) -> None:
    clock = FakeClock(0.0)
    camera = playing(film, clock)
    clock.advance(0.35)
    assert shown(camera) == 3
    clock.advance(1000.0)
    assert (shown(camera), camera.read().stamp_s) == (3, pytest.approx(1000.3))
    clock.advance(0.1)
    assert (shown(camera), camera.read().stamp_s) == (4, pytest.approx(1000.4))
    clock.advance(0.95)
    assert shown(camera) == 14


def test_a_read_decodes_for_one_period_at_most(film: str) -> None:
    class SlowClock(FakeClock):
        """Every look at it takes 40 ms, as if decoding did."""

        def now_s(self) -> float:
            self.advance(0.04)
            return super().now_s()

    clock = SlowClock(0.0)
    camera = playing(film, clock)
    clock.advance(0.9)
    start_s = FakeClock.now_s(clock)
    first = shown(camera)
    assert FakeClock.now_s(clock) - start_s <= 0.1 + 2 * 0.04
    assert 0 < first < 9


def test_a_file_that_is_no_video_is_refused_when_the_camera_is_made(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"none\.mkv cannot be played: No such file or directory; name a video file"):
        VideoCamera(VideoConfig(path=str(tmp_path / "none.mkv")), name="front", clock=FakeClock())
    (tmp_path / "text.mkv").write_text("no video")
    with pytest.raises(ConfigError, match=r"text\.mkv cannot be played: .*; name a video file"):
        VideoCamera(VideoConfig(path=str(tmp_path / "text.mkv")), name="front", clock=FakeClock())


def test_a_sound_file_is_refused(tmp_path: Path) -> None:
    path = str(tmp_path / "sound.wav")
    with av.open(path, "w") as container:
        sound = container.add_stream("pcm_s16le", rate=8000)
        frame = av.AudioFrame.from_ndarray(np.zeros((1, 800), np.int16), format="s16", layout="mono")
        frame.sample_rate = 8000
        container.mux(sound.encode(frame))
        container.mux(sound.encode(None))
    with pytest.raises(ConfigError, match=r"sound\.wav holds no video"):
        VideoCamera(VideoConfig(path=path), name="front", clock=FakeClock())
