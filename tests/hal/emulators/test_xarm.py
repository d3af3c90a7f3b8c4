"""The controller as a product, seen by a plain socket: frames written out by hand from the protocol's description."""

import socket
import struct
import subprocess
import sys

import pytest

from hal.emulators.xarm import FASTEST_RAD_S, Controller, XArmEmulator
from user_rl.clock import FakeClock


def ready() -> Controller:
    controller = Controller(mode=1, is_enabled=True, is_stopped=False)
    controller.target = [0.5] + [0.0] * 6
    return controller


@pytest.mark.parametrize(
    ("request_", "answer"),
    [
        ("0001 0002 0001 0D", "0001 0002 0003 0D 00 02"),  # state: standing
        ("0102 0003 0002 0C 04", "0102 0003 0002 0C 10"),  # stop; from then on not ready
        ("0002 0002 0001 0F", "0002 0002 0004 0F 00 00 00"),  # error and warning
        ("0003 0002 0001 63", "0003 0002 0002 63 08"),  # no such function
        ("0004 0002 0002 1D 00", "0004 0002 0002 1D 08"),  # too short for a joint target
    ],
)
def test_frames_are_those_of_the_description(request_: str, answer: str) -> None:
    controller = Controller(mode=1, is_enabled=True, is_stopped=False)
    assert XArmEmulator(controller, clock=FakeClock()).answer(bytes.fromhex(request_)) == bytes.fromhex(answer)


def test_alarms_stand_in_the_bits_of_every_answer() -> None:
    controller = ready()
    controller.warning = 3
    emulator = XArmEmulator(controller, clock=FakeClock())
    assert emulator.answer(bytes.fromhex("0001 0002 0001 0D"))[7] == 0x20
    controller.error = 2
    assert emulator.answer(bytes.fromhex("0001 0002 0001 0D"))[7] == 0x70


def test_joints_go_at_their_speed_and_stop_where_they_are() -> None:
    controller = ready()
    controller.pass_time(0.1)
    assert controller.position[0] == pytest.approx(FASTEST_RAD_S * 0.1)
    assert controller.velocity[0] == FASTEST_RAD_S
    assert controller.state == 1
    controller.carry_out(12, bytes((4,)))
    controller.pass_time(1.0)
    assert controller.position[0] == pytest.approx(FASTEST_RAD_S * 0.1)
    assert (controller.velocity[0], controller.state) == (0.0, 4)


def test_a_change_of_mode_stops_it_until_it_is_made_ready() -> None:
    controller = ready()
    controller.carry_out(19, bytes((1, 0)))
    controller.pass_time(1.0)
    assert (controller.position[0], controller.state) == (0.0, 4)
    controller.carry_out(12, bytes((0,)))
    assert controller.state == 2


@pytest.mark.parametrize("why", [{"mode": 0}, {"is_enabled": False}, {"is_stopped": True}, {"error": 5}])
def test_only_a_ready_arm_in_servo_mode_takes_targets(why: dict[str, int]) -> None:
    controller = Controller(**({"mode": 1, "is_enabled": True, "is_stopped": False} | why))  # type: ignore[arg-type]
    controller.carry_out(29, struct.pack("<10f", *[0.3] * 10))
    assert controller.target == [0.0] * 7


@pytest.mark.parametrize(("port", "size"), [(30001, 145), (30002, 288), (30003, 87)])
def test_a_report_is_as_long_as_it_says(port: int, size: int) -> None:
    controller = ready()
    controller.position[0] = 0.25
    report = controller.report(port, 7)
    assert len(report) == size == struct.unpack(">I", report[:4])[0]
    assert report[4] == 2 | 1 << 4
    assert struct.unpack("<f", report[7:11]) == (0.25,)


@pytest.mark.slow
def test_it_runs_by_itself() -> None:
    process = subprocess.Popen(
        [sys.executable, "-m", "hal.emulators.xarm", "--host", "127.31.41.59"], stdout=subprocess.PIPE, text=True
    )
    try:
        assert process.stdout is not None
        host, port = (word.split("=")[1] for word in process.stdout.readline().split())
        with socket.create_connection((host, int(port)), timeout=5) as link:
            link.sendall(bytes.fromhex("0001 0002 0001 0D"))
            assert link.recv(20) == bytes.fromhex("0001 0002 0003 0D 10 04")
        with socket.create_connection((host, 30003), timeout=5) as link, link.makefile("rb") as reports:
            assert struct.unpack(">I", reports.read(87)[:4]) == (87,)
    finally:
        process.terminate()
        process.communicate(timeout=30)
