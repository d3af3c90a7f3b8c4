"""RealSense cameras by serial number, through the vendor's SDK. Nothing is opened, nothing starts to stream."""

from collections.abc import Callable, Iterable, Iterator
from typing import Any

import msgspec

from hal.realsense import connected_devices, load_sdk
from hal.resources import Condition, Health, Resource, ResourceKind
from user_rl.errors import ConfigError, HardwareError


def probe(argument: object, *, devices: Callable[[], Iterable[Any]] = connected_devices) -> Iterator[Any]:
    """Every camera, as plain data; raises HardwareError with the reason when the SDK is not there."""
    try:
        sdk = load_sdk()
        for device in devices():
            yield msgspec.to_builtins(_camera(sdk, device))
    except (ConfigError, RuntimeError) as error:
        raise HardwareError(str(error)) from error


def _camera(sdk: Any, device: Any) -> Resource:  # noqa: ANN401
    def told(what: str) -> str:
        key = getattr(sdk.camera_info, what)
        return str(device.get_info(key)) if device.supports(key) else ""

    usb = told("usb_type_descriptor")
    reason = f"on USB {usb}, which carries less; use a USB 3 port and cable"
    slow = Health(condition=Condition.DEGRADED, reason=reason)
    return Resource(
        id=f"realsense-{told('serial_number')}", kind=ResourceKind.CAMERA, model=told("name") or "RealSense",
        address=f"serial={told('serial_number')}",
        health=slow if usb.startswith("2") else Health(condition=Condition.OK),
    )  # fmt: skip
