"""RealSense: the colour stream of an Intel RealSense camera, through the vendor's own pyrealsense2.

Source: librealsense 2.5x, its device, sensor and frame_queue classes. Needs the extra `realsense`, and libusb on Debian
(libusb-1.0-0). Not the SDK's pipeline: its start blocks for 15 s without a device. Depth is left out.
"""

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np

from hal.camera import Frame
from hal.grabber import Grabber
from hal.stamps import StampMapper
from user_rl.clock import Clock
from user_rl.errors import ConfigError, HardwareError
from user_rl.specs import Image

Devices = Callable[[], Iterable[Any]]  # what the SDK sees now, as its `device` objects
_PATIENCE = 2.0  # periods without a frame after which we look whether the device is still there


@dataclass(frozen=True, kw_only=True)
class RealSenseConfig:
    """Which camera, and which of its colour streams."""

    serial: str = ""  # empty: the only one that is connected
    width: int = 640
    height: int = 480
    rate_hz: int = 30
    max_age_s: float = 0.5  # of the newest frame; older is SensorStale
    open_s: float = 5.0  # until the first frame
    latency_s: float = 0.0  # from exposure to arrival of the fastest frame, where it has been measured


def load_sdk() -> Any:  # noqa: ANN401  # the module
    """pyrealsense2; raises ConfigError that says what to install."""
    try:
        import pyrealsense2
    except ImportError as error:
        raise ConfigError(
            f"RealSense cameras need pyrealsense2 ({error}); pip install 'user-rl[realsense]' and, on Debian, "
            "apt-get install libusb-1.0-0"
        ) from error
    return pyrealsense2


def connected_devices() -> Iterable[Any]:
    """Every RealSense on this machine; returns at once when there is none."""
    devices: Iterable[Any] = load_sdk().context().query_devices()
    return devices


class RealSense:
    """See hal.camera.Camera."""

    def __init__(
        self, config: RealSenseConfig, *, name: str, clock: Clock, devices: Devices = connected_devices
    ) -> None:
        self.config, self.clock, self._devices = config, clock, devices
        self._sdk = load_sdk()
        self._spec = Image(name=f"observation.images.{name}", height=config.height, width=config.width)
        self._grabber: Grabber | None = None

    @property
    def spec(self) -> Image:
        return self._spec

    def open(self) -> None:
        what = f"RealSense {self.config.serial}".strip()
        grabber = Grabber(self._connect, name=what, clock=self.clock, max_age_s=self.config.max_age_s)
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
        try:
            return _Stream(self._sdk, self._devices, self.config, self.clock)
        except RuntimeError as error:  # whatever the SDK says
            what = f"RealSense {self.config.serial}".strip()
            raise HardwareError(f"{what}: {error}; see that nothing else uses it, or plug it in again") from error


class _Stream:
    """See hal.grabber.Source."""

    def __init__(self, sdk: Any, devices: Devices, config: RealSenseConfig, clock: Clock) -> None:  # noqa: ANN401
        self._sdk, self._devices, self._clock = sdk, devices, clock
        self._wait_ms = math.ceil(_PATIENCE * 1e3 / config.rate_hz)
        self._stamps = StampMapper(latency_s=config.latency_s)
        device = _device(self._by_serial(), config.serial)
        self._serial = _serial(sdk, device)
        self._sensor, profile = _colour(sdk, device, config)
        self._queue = sdk.frame_queue(1)
        self._sensor.open(profile)
        self._sensor.start(self._queue)

    def next_frame(self) -> Frame | None:
        try:
            came, frame = self._queue.try_wait_for_frame(self._wait_ms)
            arrival_s = self._clock.now_s()
            if not came:
                self._check_connected()
                return None
            stamp_s = self._stamps.stamp_s(frame.get_timestamp() * 1e-3, arrival_s)
            return Frame(stamp_s=stamp_s, pixels=np.asanyarray(frame.get_data()).copy())  # the SDK reuses its memory
        except RuntimeError as error:
            raise HardwareError(f"RealSense {self._serial}: {error}; open it again") from error

    def close(self) -> None:
        try:
            self._sensor.stop()
            self._sensor.close()
        except RuntimeError as error:
            raise HardwareError(f"RealSense {self._serial} did not stop: {error}; plug it in again") from error

    def _check_connected(self) -> None:
        if self._serial not in self._by_serial():
            raise HardwareError(f"RealSense {self._serial} is gone; plug it in again, then open it again")

    def _by_serial(self) -> dict[str, Any]:
        return {_serial(self._sdk, device): device for device in self._devices()}


def _serial(sdk: Any, device: Any) -> str:  # noqa: ANN401
    return str(device.get_info(sdk.camera_info.serial_number))


def _device(found: dict[str, Any], serial: str) -> Any:  # noqa: ANN401
    here = ", ".join(sorted(found)) or "none"
    if not serial and len(found) == 1:
        return next(iter(found.values()))
    if not serial:
        raise HardwareError(f"{len(found)} RealSense cameras are connected ({here}), wanted one; name its serial")
    if serial not in found:
        raise HardwareError(f"RealSense {serial} is not connected, here: {here}; look at cable, port and serial")
    return found[serial]


def _colour(sdk: Any, device: Any, config: RealSenseConfig) -> tuple[Any, Any]:  # noqa: ANN401
    """The sensor and the profile of its stream as the config wants it."""
    wanted, offered = (config.width, config.height, config.rate_hz), set()
    for sensor in device.query_sensors():
        for profile in sensor.get_stream_profiles():
            if profile.stream_type() == sdk.stream.color and profile.format() == sdk.format.rgb8:
                video = profile.as_video_stream_profile()
                this = (video.width(), video.height(), profile.fps())
                if this == wanted:
                    return sensor, profile
                offered.add(this)
    usb = sdk.camera_info.usb_type_descriptor
    port = f" on USB {device.get_info(usb)}" if device.supports(usb) else ""
    allowed = ", ".join(f"{w} x {h} at {fps} Hz" for w, h, fps in sorted(offered)) or "no colour at all"
    raise HardwareError(
        f"RealSense {_serial(sdk, device)}{port} has no {wanted[0]} x {wanted[1]} at {wanted[2]} Hz, "
        f"allowed {allowed}; change width, height, rate_hz, or the port"
    )
