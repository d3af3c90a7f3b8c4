"""Frames through the vendor's own SDK: its software_device stands where a camera would be plugged in."""

import builtins
import threading
from collections.abc import Iterator
from types import TracebackType
from typing import Any

import numpy as np
import pytest

from hal.camera import Frame
from hal.kits import check_camera
from hal.realsense import RealSense, RealSenseConfig
from user_rl.clock import SystemClock
from user_rl.errors import ConfigError, HardwareError, SensorStale

rs = pytest.importorskip("pyrealsense2", exc_type=ImportError)  # the SDK needs libusb
pytestmark = pytest.mark.slow  # real time, 30 frames a second

WIDTH, HEIGHT, RATE_HZ = 64, 48, 30
WAIT_S = 10.0
CONFIG = RealSenseConfig(serial="042", width=WIDTH, height=HEIGHT, rate_hz=RATE_HZ)


class SoftCamera:
    """A camera of the SDK whose frames we draw: the n-th is all n, stamped by a clock of its own, 5000 s ahead."""

    def __init__(self, serial: str = "042") -> None:
        self.device = rs.software_device()
        self.device.register_info(rs.camera_info.serial_number, serial)
        self.device.register_info(rs.camera_info.name, "Soft D435")
        self.sensor = self.device.add_sensor("RGB Camera")
        self.profile = self.sensor.add_video_stream(_stream(WIDTH, HEIGHT)).as_video_stream_profile()
        self.sensor.add_video_stream(_stream(2 * WIDTH, 2 * HEIGHT))
        self.plugged, self.frames = True, 0
        self.clock = SystemClock()
        self._pausing, self._ending = threading.Event(), threading.Event()
        self._thread = threading.Thread(target=self._feed)

    def devices(self) -> list[Any]:
        return [self.device] if self.plugged else []

    def pause(self) -> None:
        self._pausing.set()

    def unplug(self) -> None:
        self.plugged = False
        self.pause()

    def plug(self) -> None:
        self.plugged = True
        self._pausing.clear()

    def _feed(self) -> None:
        while not self._ending.wait(1 / RATE_HZ):
            if not self._pausing.is_set():
                self.frames += 1
                self.sensor.on_video_frame(self._picture())

    def _picture(self) -> Any:  # noqa: ANN401
        frame = rs.software_video_frame()
        frame.pixels = np.full((HEIGHT, WIDTH, 3), (self.frames % 256, 1, 2), np.uint8)
        frame.stride, frame.bpp = 3 * WIDTH, 3
        frame.timestamp = (self.clock.now_s() + 5000.0) * 1e3
        frame.domain, frame.frame_number = rs.timestamp_domain.hardware_clock, self.frames
        frame.profile = self.profile
        return frame

    def __enter__(self) -> "SoftCamera":
        self._thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._ending.set()
        self._thread.join()


def _stream(width: int, height: int) -> Any:  # noqa: ANN401
    stream = rs.video_stream()
    stream.type, stream.fmt = rs.stream.color, rs.format.rgb8
    stream.index, stream.uid, stream.bpp = 0, width, 3
    stream.width, stream.height, stream.fps = width, height, RATE_HZ
    intrinsics = rs.intrinsics()
    intrinsics.width, intrinsics.height = width, height
    stream.intrinsics = intrinsics
    return stream


@pytest.fixture
def soft() -> Iterator[SoftCamera]:
    with SoftCamera() as camera:
        yield camera


def camera_on(soft: SoftCamera, config: RealSenseConfig = CONFIG) -> RealSense:
    return RealSense(config, name="front", clock=SystemClock(), devices=soft.devices)


def different_frames(camera: RealSense, count: int) -> list[Frame]:
    frames, deadline_s = [camera.read()], camera.clock.now_s() + WAIT_S
    while len(frames) < count:
        assert camera.clock.now_s() < deadline_s
        frame = camera.read()
        if frame is not frames[-1]:
            frames.append(frame)
        threading.Event().wait(0.002)
    return frames


def eventually(camera: RealSense, error: type[Exception]) -> Exception:
    deadline_s = camera.clock.now_s() + WAIT_S
    while camera.clock.now_s() < deadline_s:
        try:
            camera.read()
        except HardwareError as found:
            if type(found) is error:
                return found
        threading.Event().wait(0.002)
    raise AssertionError(f"no {error.__name__} within {WAIT_S} s")


def eventually_fresh(camera: RealSense) -> None:
    deadline_s = camera.clock.now_s() + WAIT_S
    while True:
        try:
            camera.read()
        except SensorStale:
            assert camera.clock.now_s() < deadline_s
            threading.Event().wait(0.002)
        else:
            return


def test_a_realsense_keeps_the_camera_contract(soft: SoftCamera) -> None:
    check_camera(lambda: camera_on(soft))


def test_frames_come_in_order_in_rgb_and_on_our_clock(soft: SoftCamera) -> None:
    camera = camera_on(soft)
    camera.open()
    try:
        frames = different_frames(camera, 8)
        now_s = camera.clock.now_s()
    finally:
        camera.close()
    numbers = [int(f.pixels[0, 0, 0]) for f in frames]
    assert numbers == sorted(set(numbers))
    assert frames[0].pixels[-1, -1, 1:].tolist() == [1, 2]
    stamps_s = np.array([f.stamp_s for f in frames])
    assert now_s - 5.0 < stamps_s[0] < stamps_s[-1] <= now_s  # not 5000 s ahead, as the device says
    assert (np.diff(stamps_s) > 0).all()


def test_a_read_waits_for_nothing(soft: SoftCamera) -> None:
    camera = camera_on(soft)
    camera.open()
    try:
        soft.pause()
        took_s = []
        for _ in range(50):
            start_s = camera.clock.now_s()
            camera.read()
            took_s.append(camera.clock.now_s() - start_s)
    finally:
        camera.close()
    assert np.median(took_s) < 0.1 / RATE_HZ


def test_a_camera_that_stops_sending_is_stale_and_mends_itself(soft: SoftCamera) -> None:
    camera = camera_on(soft)
    camera.open()
    try:
        soft.pause()
        assert "RealSense 042's newest frame is" in str(eventually(camera, SensorStale))
        soft.plug()
        eventually_fresh(camera)
        camera.read()
    finally:
        camera.close()


def test_a_camera_that_is_pulled_out_says_so_and_comes_back_when_opened_again(soft: SoftCamera) -> None:
    camera = camera_on(soft)
    camera.open()
    different_frames(camera, 3)
    soft.unplug()
    for _ in range(2):
        assert str(eventually(camera, HardwareError)) == "RealSense 042 is gone; plug it in again, then open it again"
    camera.close()
    with pytest.raises(HardwareError, match="RealSense 042 is not connected, here: none; look at cable"):
        camera.open()
    soft.plug()
    camera.open()
    different_frames(camera, 3)
    camera.close()


def test_without_a_camera_opening_fails_at_once() -> None:
    camera = RealSense(RealSenseConfig(), name="front", clock=SystemClock())  # the SDK's own list, of this machine
    if list(camera._devices()):
        pytest.skip("a RealSense is connected")
    start_s = camera.clock.now_s()
    with pytest.raises(HardwareError, match=r"0 RealSense cameras are connected \(none\), wanted one; name its serial"):
        camera.open()
    assert camera.clock.now_s() - start_s < 3.0  # the SDK's pipeline takes 15
    with pytest.raises(HardwareError, match="not open"):
        camera.read()


def test_the_only_camera_needs_no_serial_and_one_of_two_does(soft: SoftCamera) -> None:
    nameless = RealSenseConfig(width=WIDTH, height=HEIGHT, rate_hz=RATE_HZ)
    camera = camera_on(soft, nameless)
    camera.open()
    camera.close()
    both = [soft.device, SoftCamera("043").device]
    camera = RealSense(nameless, name="front", clock=SystemClock(), devices=lambda: both)
    with pytest.raises(HardwareError, match=r"2 RealSense cameras are connected \(042, 043\), wanted one"):
        camera.open()


def test_a_stream_that_the_camera_does_not_have_is_answered_with_those_that_it_has(soft: SoftCamera) -> None:
    camera = camera_on(soft, RealSenseConfig(serial="042", width=WIDTH, height=HEIGHT, rate_hz=90))
    with pytest.raises(
        HardwareError, match=r"042 has no 64 x 48 at 90 Hz, allowed 64 x 48 at 30 Hz, 128 x 96 at 30 Hz; change"
    ):
        camera.open()


def test_a_camera_that_is_open_elsewhere_says_what_the_sdk_says(soft: SoftCamera) -> None:
    first, second = camera_on(soft), camera_on(soft)
    first.open()
    try:
        with pytest.raises(HardwareError, match=r"RealSense 042: open.* failed.*; see that nothing else uses it"):
            second.open()
    finally:
        first.close()


def test_without_the_sdk_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    real = builtins.__import__

    def missing(name: str, *args: Any, **kwargs: Any) -> Any:  # noqa: ANN401
        if name == "pyrealsense2":
            raise ImportError("libusb-1.0.so.0: cannot open shared object file")
        return real(name, *args, **kwargs)

    monkeypatch.setattr(builtins, "__import__", missing)
    with pytest.raises(ConfigError, match=r"pip install 'user-rl\[realsense\]' and, on Debian, apt-get install libusb"):
        RealSense(CONFIG, name="front", clock=SystemClock())
