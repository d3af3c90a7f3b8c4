"""Against trees of real files and links, as the kernel and udev lay them out."""

import os
from pathlib import Path
from typing import Any

import pytest

from hal.probes.sysfs import cameras, serial_adapters

USB = "sys/devices/pci0000:00/0000:00:14.0/usb1"


def plug(
    root: Path, port: str, *, vendor: str = "", product: str = "", node: str, of: str, name: str = "", index: str = "0"
) -> None:
    """A USB device with one interface that shows as /dev/<node> of the class `of`."""
    device = root / USB / port
    under = device / f"{port}:1.0" / of / node
    under.mkdir(parents=True, exist_ok=True)
    if vendor:
        (device / "idVendor").write_text(f"{vendor}\n")
        (device / "idProduct").write_text(f"{product}\n")
        (device / "product").write_text("USB Thing\n")
    (under / "name").write_text(f"{name}\n")
    (under / "index").write_text(f"{index}\n")
    (under / "device").symlink_to(os.path.relpath(device / f"{port}:1.0", under))
    link = root / "sys/class" / of / node
    link.parent.mkdir(parents=True, exist_ok=True)
    link.symlink_to(os.path.relpath(under, link.parent))
    (root / "dev").mkdir(exist_ok=True)
    (root / "dev" / node).touch()


def name_by_id(root: Path, folder: str, name: str, node: str) -> None:
    link = root / "dev" / folder / "by-id" / name
    link.parent.mkdir(parents=True, exist_ok=True)
    link.symlink_to(f"../../{node}")


def told(found: list[dict[str, Any]]) -> list[tuple[str, str, str, str]]:
    return [(r["id"], r["model"], r["address"], r["health"]["condition"]) for r in found]


def test_a_webcam_is_one_camera_though_it_has_a_node_for_metadata(tmp_path: Path) -> None:
    plug(tmp_path, "1-2", vendor="046d", product="082d", node="video0", of="video4linux", name="HD Webcam C920")
    plug(tmp_path, "1-2", vendor="046d", product="082d", node="video1", of="video4linux", name="HD Webcam", index="1")
    name_by_id(tmp_path, "v4l", "usb-046d_HD_Webcam_C920_A1B2-video-index0", "video0")
    assert told(list(cameras(str(tmp_path)))) == [
        ("usb-046d_HD_Webcam_C920_A1B2-video-index0", "HD Webcam C920", "/dev/video0", "ok")
    ]


def test_a_camera_without_a_name_of_udevs_is_known_by_its_port(tmp_path: Path) -> None:
    plug(tmp_path, "1-3.2", vendor="1234", product="5678", node="video10", of="video4linux", name="Fisheye")
    plug(tmp_path, "1-3.1", vendor="1234", product="5678", node="video2", of="video4linux", name="Fisheye")
    assert [(i, at) for i, _, at, _ in told(list(cameras(str(tmp_path))))] == [
        ("video-1-3.1:1.0", "/dev/video2"), ("video-1-3.2:1.0", "/dev/video10")
    ]  # fmt: skip


def test_a_realsense_is_left_to_its_own_probe(tmp_path: Path) -> None:
    plug(tmp_path, "2-1", vendor="8086", product="0b07", node="video0", of="video4linux", name="Intel RealSense")
    assert list(cameras(str(tmp_path))) == []


def test_serial_adapters_are_named_by_what_they_are(tmp_path: Path) -> None:
    plug(tmp_path, "1-1", vendor="1a86", product="55d3", node="ttyACM0", of="tty")
    plug(tmp_path, "1-2", vendor="0403", product="6014", node="ttyUSB0", of="tty")
    plug(tmp_path, "1-3", vendor="dead", product="beef", node="ttyUSB1", of="tty")
    (tmp_path / "sys/class/tty/ttyS0").mkdir()
    name_by_id(tmp_path, "serial", "usb-1a86_USB_Single_Serial_5A46-if00", "ttyACM0")
    assert told(list(serial_adapters(str(tmp_path)))) == [
        ("usb-1a86_USB_Single_Serial_5A46-if00", "CH343 (Feetech bus, SO-100/101) [1a86:55d3]", "/dev/ttyACM0", "ok"),
        ("ttyUSB-1-2:1.0", "FT232H (Robotis U2D2) [0403:6014]", "/dev/ttyUSB0", "ok"),
        ("ttyUSB-1-3:1.0", "USB Thing [dead:beef]", "/dev/ttyUSB1", "ok"),
    ]


def test_a_device_that_is_not_passed_into_the_container_is_broken(tmp_path: Path) -> None:
    plug(tmp_path, "1-1", vendor="1a86", product="7523", node="ttyUSB0", of="tty")
    (tmp_path / "dev/ttyUSB0").unlink()
    [adapter] = serial_adapters(str(tmp_path))
    assert adapter["health"] == {
        "condition": "broken",
        "reason": "the kernel knows it and /dev/ttyUSB0 is not there; is this a container? pass the device in",
    }


@pytest.mark.parametrize(("of", "node", "group"), [("tty", "ttyUSB0", "dialout"), ("video4linux", "video0", "video")])
def test_a_device_that_this_user_may_not_open_names_the_group(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, of: str, node: str, group: str
) -> None:
    plug(tmp_path, "1-1", vendor="1a86", product="7523", node=node, of=of)
    (tmp_path / "dev" / node).chmod(0)
    if os.geteuid() == 0:  # root may open anything: only the kernel's answer is replaced
        monkeypatch.setattr(os, "access", lambda *_: False)
    found = list((cameras if of == "video4linux" else serial_adapters)(str(tmp_path)))
    assert found[0]["health"]["reason"] == f"this user may not open it; usermod -aG {group} USER, then log in again"


def test_a_machine_without_any_has_none(tmp_path: Path) -> None:
    assert list(cameras(str(tmp_path))) == []
    assert list(serial_adapters(str(tmp_path))) == []
