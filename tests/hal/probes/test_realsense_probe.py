import msgspec
import pytest

from hal.probes.realsense import probe
from hal.resources import Condition, Resource, ResourceKind

rs = pytest.importorskip("pyrealsense2", exc_type=ImportError)


def test_cameras_are_known_by_their_serial_and_a_slow_port_is_told() -> None:
    fast, slow = rs.software_device(), rs.software_device()
    for device, serial, usb in ((fast, "042", "3.2"), (slow, "043", "2.1")):
        device.register_info(rs.camera_info.serial_number, serial)
        device.register_info(rs.camera_info.name, "Intel RealSense D435")
        device.register_info(rs.camera_info.usb_type_descriptor, usb)
    first, second = (msgspec.convert(p, Resource) for p in probe(None, devices=lambda: [fast, slow]))
    assert (first.id, first.kind, first.model) == ("realsense-042", ResourceKind.CAMERA, "Intel RealSense D435")
    assert (first.address, first.health.condition) == ("serial=042", Condition.OK)
    assert (second.id, second.health.condition) == ("realsense-043", Condition.DEGRADED)
    assert second.health.reason == "on USB 2.1, which carries less; use a USB 3 port and cable"
