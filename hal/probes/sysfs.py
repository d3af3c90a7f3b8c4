"""V4L2 cameras and serial adapters, as the kernel lays them out under /sys. Opens no device, needs no package.

Source: the kernel's documentation of sysfs (class/video4linux, class/tty) and of USB device attributes (idVendor,
idProduct, manufacturer, product, serial).
"""

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec

from hal.resources import Condition, Health, Resource, ResourceKind

KNOWN_ADAPTERS = {  # vendor:product -> what carries it in robots
    "1a86:7523": "CH340 (Feetech and Waveshare boards)",
    "1a86:55d3": "CH343 (Feetech bus, SO-100/101)",
    "1a86:55d4": "CH9102 (Waveshare bus boards)",
    "0403:6014": "FT232H (Robotis U2D2)",
    "0403:6001": "FT232R (FTDI: Robotiq, OpenRB)",
    "0403:6010": "FT2232 (FTDI, two ports)",
    "0403:6015": "FT231X (FTDI)",
    "10c4:ea60": "CP2102 (Silicon Labs)",
    "067b:2303": "PL2303 (Prolific)",
    "2341:0043": "Arduino Uno",
    "2f5d:2202": "OpenRB-150 (Robotis)",
    "0483:5740": "STM32 virtual port",
}
_REALSENSE = "8086"  # Intel: its cameras are the RealSense probe's


def cameras(root: str) -> Iterator[Any]:
    """Every V4L2 device that gives pictures, as plain data; `root` is / but for tests."""
    top = Path(root)
    for node in sorted((top / "sys/class/video4linux").glob("video*"), key=_number):
        usb = _usb(node)
        if _read(node / "index") in ("", "0") and _read(usb / "idVendor") != _REALSENSE:  # others carry metadata
            id = _stable(top, "dev/v4l/by-id", node.name) or _place(node)
            yield msgspec.to_builtins(_device(top, node, ResourceKind.CAMERA, id, _read(node / "name") or node.name))


def serial_adapters(root: str) -> Iterator[Any]:
    """Every USB serial adapter, as plain data."""
    top = Path(root)
    for node in sorted((top / "sys/class/tty").glob("tty[UA][SC][BM]*"), key=_number):
        usb = _usb(node)
        code = f"{_read(usb / 'idVendor')}:{_read(usb / 'idProduct')}"
        model = KNOWN_ADAPTERS.get(code) or _read(usb / "product") or "serial adapter"
        id = _stable(top, "dev/serial/by-id", node.name) or _place(node)
        yield msgspec.to_builtins(_device(top, node, ResourceKind.SERIAL, id, f"{model} [{code}]"))


def _device(top: Path, node: Path, kind: ResourceKind, id: str, model: str) -> Resource:
    path = top / "dev" / node.name
    return Resource(id=id, kind=kind, model=model, address=f"/dev/{node.name}", health=_health(path, kind))


def _health(path: Path, kind: ResourceKind) -> Health:
    if not path.exists():
        reason = f"the kernel knows it and /dev/{path.name} is not there; is this a container? pass the device in"
        return Health(condition=Condition.BROKEN, reason=reason)
    if not os.access(path, os.R_OK | os.W_OK):
        group = "video" if kind is ResourceKind.CAMERA else "dialout"
        reason = f"this user may not open it; usermod -aG {group} USER, then log in again"
        return Health(condition=Condition.BROKEN, reason=reason)
    return Health(condition=Condition.OK)


def _usb(node: Path) -> Path:
    """The USB device above `node`, or a folder without attributes."""
    device = (node / "device").resolve()
    return next((folder for folder in (device, *device.parents) if (folder / "idVendor").exists()), device)


def _stable(top: Path, folder: str, name: str) -> str:
    """udev's name for a device that stays when others are plugged in; empty without udev."""
    links = [link for link in sorted((top / folder).glob("*")) if os.path.basename(os.path.realpath(link)) == name]
    return links[0].name if links else ""


def _place(node: Path) -> str:
    """Where it is plugged in, for a device without a serial number: the port stays, the number does not."""
    device = (node / "device").resolve()
    return f"{node.name.rstrip('0123456789')}-{device.name}" if device.exists() else node.name


def _number(node: Path) -> tuple[str, int]:
    digits = "".join(c for c in node.name if c.isdigit())
    return node.name.rstrip("0123456789"), int(digits or 0)


def _read(file: Path) -> str:
    try:
        return file.read_text(errors="replace").strip()
    except OSError:  # no such attribute, or the device has just gone
        return ""
