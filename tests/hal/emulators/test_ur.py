"""The emulator's network side, met by plain sockets; the SDK meets it in tests/hal/test_ur.py."""

import json
import os
import socket
import struct
from collections.abc import Iterator
from itertools import count

import pytest

from hal.emulators.rtde import PORT, Kind, output_recipe, package
from hal.emulators.ur import DASHBOARD_PORT, UrEmulator, pendant
from hal.emulators.ur_controller import HOME
from tests.hal.emulators.test_ur_controller import SCRIPT

_hosts = count(1)


@pytest.fixture
def emulator() -> Iterator[UrEmulator]:
    with UrEmulator(f"127.78.{os.getpid() % 250 + 1}.{next(_hosts)}") as emulator:
        yield emulator


class Wire:
    """A client's end of one connection."""

    def __init__(self, host: str, port: int) -> None:
        self.socket = socket.create_connection((host, port), timeout=10)
        self.file = self.socket.makefile("rb")

    def ask(self, kind: Kind, payload: bytes = b"") -> tuple[int, bytes]:
        self.socket.sendall(package(kind, payload))
        return self.hear()

    def hear(self) -> tuple[int, bytes]:
        size, kind = struct.unpack(">HB", self.file.read(3))
        return kind, self.file.read(size - 3)

    def is_closed(self) -> bool:
        return self.file.read(1) == b""

    def close(self) -> None:
        self.file.close()
        self.socket.close()


@pytest.fixture
def rtde(emulator: UrEmulator) -> Iterator[Wire]:
    wire = Wire(emulator.host, PORT)
    yield wire
    wire.close()


@pytest.fixture
def dashboard(emulator: UrEmulator) -> Iterator[Wire]:
    wire = Wire(emulator.host, DASHBOARD_PORT)
    assert wire.file.readline() == b"Connected: Universal Robots Dashboard Server\n"
    yield wire
    wire.close()


def say(wire: Wire, line: str) -> str:
    wire.socket.sendall(f"{line}\n".encode())
    return wire.file.readline().decode().rstrip()


def test_a_client_sets_up_outputs_and_hears_the_arm(rtde: Wire) -> None:
    assert rtde.ask(Kind.PROTOCOL_VERSION, b"\x00\x02") == (Kind.PROTOCOL_VERSION, b"\x01")
    kind, version = rtde.ask(Kind.CONTROLLER_VERSION)
    assert (kind, struct.unpack(">4I", version)[0]) == (Kind.CONTROLLER_VERSION, 5)
    names = ["timestamp", "actual_q", "safety_status_bits"]
    asked = struct.pack(">d", 125.0) + ",".join(names).encode()
    assert rtde.ask(Kind.SETUP_OUTPUTS, asked) == (Kind.SETUP_OUTPUTS, b"\x01DOUBLE,VECTOR6D,UINT32")
    assert rtde.ask(Kind.START) == (Kind.START, b"\x01")
    layout = output_recipe(1, names).layout
    (first, *joints, bits), (second, *_) = (layout.unpack(rtde.hear()[1][1:]) for _ in range(2))
    assert joints == list(HOME)
    assert bits == 1
    assert second - first == pytest.approx(0.008)


def test_another_protocol_version_an_unknown_field_and_a_start_without_a_recipe_are_refused(rtde: Wire) -> None:
    assert rtde.ask(Kind.PROTOCOL_VERSION, b"\x00\x01") == (Kind.PROTOCOL_VERSION, b"\x00")
    assert rtde.ask(Kind.START) == (Kind.START, b"\x00")
    asked = struct.pack(">d", 125.0) + b"actual_x"
    assert rtde.ask(Kind.SETUP_OUTPUTS, asked) == (Kind.SETUP_OUTPUTS, b"\x00NOT_FOUND")
    assert rtde.ask(Kind.START) == (Kind.START, b"\x00")


def test_a_pause_stops_the_stream(rtde: Wire) -> None:
    rtde.ask(Kind.SETUP_OUTPUTS, struct.pack(">d", 500.0) + b"timestamp")
    rtde.ask(Kind.START)
    rtde.socket.sendall(package(Kind.PAUSE))
    while rtde.hear()[0] == Kind.DATA:
        pass
    answers = {rtde.ask(Kind.PROTOCOL_VERSION, b"\x00\x02")[0] for _ in range(100)}  # of several periods
    assert answers == {Kind.PROTOCOL_VERSION}


@pytest.mark.parametrize(
    "garbage",
    [
        b"\x00\x00U",
        package(Kind.DATA, b"\x09abc"),
        package(Kind.DATA),
        package(Kind.SETUP_OUTPUTS, b"ab"),
        package(Kind.SETUP_INPUTS, b"nothing") + package(Kind.DATA, b"\x01abcd"),
    ],
)
def test_what_is_no_rtde_ends_its_own_connection_alone(emulator: UrEmulator, rtde: Wire, garbage: bytes) -> None:
    rtde.socket.sendall(garbage)
    while not rtde.is_closed():
        pass
    other = Wire(emulator.host, PORT)
    assert other.ask(Kind.PROTOCOL_VERSION, b"\x00\x02")[1] == b"\x01"
    other.close()


def test_a_script_may_come_in_pieces_and_the_dashboard_stops_it(emulator: UrEmulator, dashboard: Wire) -> None:
    script = SCRIPT.format(0).encode()
    wire = Wire(emulator.host, 30003)
    wire.socket.sendall(script[:40])
    assert say(dashboard, "running") == "Program running: false"
    wire.socket.sendall(script[40:])
    while say(dashboard, "running") != "Program running: true":
        pass
    assert say(dashboard, "programState") == "PLAYING <unnamed>"
    assert say(dashboard, "stop") == "Stopped"
    assert say(dashboard, "running") == "Program running: false"
    wire.close()


def test_the_dashboard_knows_the_arm_and_says_what_it_does_not_know(emulator: UrEmulator, dashboard: Wire) -> None:
    assert say(dashboard, "PolyscopeVersion").startswith("URSoftware 5.")
    assert say(dashboard, "robotmode") == "Robotmode: RUNNING"
    assert say(dashboard, "dance") == "could not understand: 'dance'"
    assert say(dashboard, "is in remote control") == "true"
    pendant(emulator, "local")
    assert say(dashboard, "is in remote control") == "false"
    assert say(dashboard, "quit") == "Disconnected"
    assert dashboard.is_closed()


def test_the_pendant_says_how_the_arm_is_after_each_word(emulator: UrEmulator) -> None:
    assert json.loads(pendant(emulator, "state"))["safety"] == "NORMAL"
    assert json.loads(pendant(emulator, "protective_stop"))["safety"] == "PROTECTIVE_STOP"
    assert json.loads(pendant(emulator, "clear"))["safety"] == "NORMAL"
    assert json.loads(pendant(emulator, "dance"))["error"].startswith("dance: no such word, allowed protective_stop, ")


def test_a_frozen_link_is_silent_both_ways_and_thaws(emulator: UrEmulator, dashboard: Wire) -> None:
    pendant(emulator, "freeze")
    dashboard.socket.sendall(b"robotmode\n")
    dashboard.socket.settimeout(0.05)
    with pytest.raises(TimeoutError):
        dashboard.socket.recv(100)
    pendant(emulator, "thaw")
    dashboard.socket.settimeout(10)
    assert dashboard.socket.recv(100) == b"Robotmode: RUNNING\n"


def test_dropped_links_are_closed_and_new_ones_taken(emulator: UrEmulator, rtde: Wire) -> None:
    rtde.ask(Kind.PROTOCOL_VERSION, b"\x00\x02")
    pendant(emulator, "drop_links")
    assert rtde.is_closed()
    other = Wire(emulator.host, PORT)
    assert other.ask(Kind.PROTOCOL_VERSION, b"\x00\x02")[1] == b"\x01"
    other.close()
