"""V4l2Camera: any camera that Linux knows as /dev/video*, through OpenCV's V4L2 backend. Needs the extra `opencv`.

Name it by what does not change with the order of plugging: /dev/v4l/by-id/... . A kernel driver that cannot give what
was asked gives the nearest it can, without a word: what it gave is read back and compared.
"""

import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hal.camera import Frame
from hal.grabber import Grabber
from hal.stamps import StampMapper
from user_rl.clock import Clock
from user_rl.errors import ConfigError, HardwareError
from user_rl.specs import Image

Connect = Callable[["V4l2Config"], Any]  # an OpenCV VideoCapture, opened or not
_RATE_TOLERANCE = 0.02  # of the rate: drivers say 29.97 for 30


@dataclass(frozen=True, kw_only=True)
class V4l2Config:
    """Which device, and how it shall stream."""

    path: str = "/dev/video0"
    width: int = 640
    height: int = 480
    rate_hz: float = 30.0
    fourcc: str = "MJPG"  # YUYV: uncompressed, less rate on USB 2
    max_age_s: float = 0.5  # of the newest frame; older is SensorStale
    open_s: float = 5.0  # until the first frame
    latency_s: float = 0.0  # from exposure to arrival of the fastest frame, where it has been measured

    def __post_init__(self) -> None:
        if len(self.fourcc) != 4:
            raise ValueError(f"fourcc = {self.fourcc!r}, allowed four characters like MJPG or YUYV; change it")


def load_opencv() -> Any:  # noqa: ANN401  # the module
    """cv2; raises ConfigError that says what to install."""
    try:
        import cv2
    except ImportError as error:
        raise ConfigError(f"V4L2 cameras need OpenCV ({error}); pip install 'user-rl[opencv]'") from error
    return cv2


def capture_device(config: V4l2Config) -> Any:  # noqa: ANN401  # cv2.VideoCapture
    """The device, opened by OpenCV's V4L2 backend and no other; raises HardwareError."""
    if not Path(config.path).exists():
        raise HardwareError(f"no {config.path}, here: {', '.join(_cameras_here()) or 'none'}; look at cable and path")
    if not os.access(config.path, os.R_OK | os.W_OK):
        raise HardwareError(f"{config.path} may not be opened by this user; add the user to the group video")
    cv2 = load_opencv()
    return cv2.VideoCapture(config.path, cv2.CAP_V4L2)


class V4l2Camera:
    """See hal.camera.Camera."""

    def __init__(self, config: V4l2Config, *, name: str, clock: Clock, connect: Connect = capture_device) -> None:
        self.config, self.clock, self._capture = config, clock, connect
        self._cv2 = load_opencv()
        self._spec = Image(name=f"observation.images.{name}", height=config.height, width=config.width)
        self._grabber: Grabber | None = None

    @property
    def spec(self) -> Image:
        return self._spec

    def open(self) -> None:
        path, max_age_s = self.config.path, self.config.max_age_s
        grabber = Grabber(self._connect, name=path, clock=self.clock, max_age_s=max_age_s)
        grabber.start(self.config.open_s)
        self._grabber = grabber

    def read(self) -> Frame:
        if self._grabber is None:
            raise HardwareError(f"{self._spec.name} is not open; call open() first")
        return self._grabber.newest()

    def close(self) -> None:
        if self._grabber is not None:
            self._grabber.stop()
            self._grabber = None

    def _connect(self) -> "_Stream":
        return _Stream(self._cv2, self._capture(self.config), self.config, self.clock)


class _Stream:
    """See hal.grabber.Source."""

    def __init__(self, cv2: Any, capture: Any, config: V4l2Config, clock: Clock) -> None:  # noqa: ANN401
        self._cv2, self._capture, self._config, self._clock = cv2, capture, config, clock
        self._stamps = StampMapper(latency_s=config.latency_s)
        try:
            if not capture.isOpened():
                raise HardwareError(f"{config.path} does not open as a camera; see what holds it with fuser -v")
            self._ask()
            self._check_given()
        except HardwareError:
            capture.release()
            raise

    def next_frame(self) -> Frame:
        came, pixels = self._capture.read()
        arrival_s = self._clock.now_s()
        if not came:
            gone = "gives no frames" if Path(self._config.path).exists() else "is gone"
            raise HardwareError(f"{self._config.path} {gone}; look at cable and port, then open it again")
        device_s = self._capture.get(self._cv2.CAP_PROP_POS_MSEC) * 1e-3  # when the kernel got it, on its own clock
        stamp_s = self._stamps.stamp_s(device_s, arrival_s) if device_s > 0 else arrival_s
        return Frame(stamp_s=stamp_s, pixels=self._cv2.cvtColor(pixels, self._cv2.COLOR_BGR2RGB))

    def close(self) -> None:
        self._capture.release()

    def _ask(self) -> None:
        cv2, config = self._cv2, self._config
        self._capture.set(cv2.CAP_PROP_FOURCC, cv2.VideoWriter.fourcc(*config.fourcc))  # first: it decides the sizes
        self._capture.set(cv2.CAP_PROP_FRAME_WIDTH, config.width)
        self._capture.set(cv2.CAP_PROP_FRAME_HEIGHT, config.height)
        self._capture.set(cv2.CAP_PROP_FPS, config.rate_hz)

    def _check_given(self) -> None:
        cv2, config = self._cv2, self._config
        code = int(self._capture.get(cv2.CAP_PROP_FOURCC))
        fourcc = code.to_bytes(4, "little").decode("ascii", "replace")
        width, height = (int(self._capture.get(p)) for p in (cv2.CAP_PROP_FRAME_WIDTH, cv2.CAP_PROP_FRAME_HEIGHT))
        rate_hz = float(self._capture.get(cv2.CAP_PROP_FPS))
        same_rate = abs(rate_hz - config.rate_hz) <= _RATE_TOLERANCE * config.rate_hz
        if (fourcc, width, height) != (config.fourcc, config.width, config.height) or not same_rate:
            raise HardwareError(
                f"{config.path} gives {fourcc} {width} x {height} at {rate_hz:g} Hz, wanted {config.fourcc} "
                f"{config.width} x {config.height} at {config.rate_hz:g} Hz; v4l2-ctl -d {config.path} "
                "--list-formats-ext says what it can"
            )


def _cameras_here() -> list[str]:
    by_id = sorted(str(path) for path in Path("/dev/v4l/by-id").glob("*"))
    return by_id or sorted(str(path) for path in Path("/dev").glob("video*"))
