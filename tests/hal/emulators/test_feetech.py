"""The servo bus as a product: what it does by itself, seen without the driver."""

import json
import os
import select
import subprocess
import sys
from pathlib import Path

import pytest

from hal import feetech
from hal.emulators.feetech import FASTEST_STEPS_S, Servo, feetech_emulator
from hal.so101 import load_calibration


def test_a_servo_goes_to_its_goal_at_its_limit_and_stops_there() -> None:
    servo = Servo()
    servo.set(feetech.TORQUE_ENABLE, 1)
    servo.set(feetech.GOAL_SPEED, 100)
    servo.set(feetech.GOAL_POSITION, 2000)
    servo.pass_time(0.2)
    assert (servo.get(feetech.PRESENT_POSITION), servo.get(feetech.PRESENT_SPEED)) == (2028, -100)
    servo.pass_time(1.0)
    assert (servo.get(feetech.PRESENT_POSITION), servo.get(feetech.PRESENT_SPEED)) == (2000, 0)


def test_a_servo_without_a_limit_is_as_fast_as_it_can_and_without_torque_does_not_move() -> None:
    servo = Servo()
    servo.set(feetech.GOAL_POSITION, 4000)
    servo.pass_time(0.1)
    assert servo.position == 2048
    servo.set(feetech.TORQUE_ENABLE, 1)
    servo.pass_time(0.1)
    assert servo.position == 2048 + FASTEST_STEPS_S * 0.1


def test_a_servo_stays_within_its_own_ends() -> None:
    servo = Servo()
    servo.set(feetech.MAX_POSITION, 2100)
    servo.set(feetech.GOAL_POSITION, 4000)
    servo.set(feetech.TORQUE_ENABLE, 1)
    servo.pass_time(10)
    assert servo.position == 2100


def exchange(path: str, request: str) -> bytes:
    port = os.open(path, os.O_RDWR | os.O_NOCTTY)
    try:
        os.write(port, bytes.fromhex(request))
        answer = b""
        while select.select([port], [], [], 0.2 if answer else 5)[0]:
            answer += os.read(port, 100)
        return answer
    finally:
        os.close(port)


@pytest.mark.slow
def test_the_wire_carries_the_manuals_bytes() -> None:
    with feetech_emulator() as emulator:
        assert exchange(emulator.path, "FF FF 01 02 01 FB") == bytes.fromhex("FF FF 01 02 00 FC")
        assert exchange(emulator.path, "FF FF 01 04 02 2A 02 CC") == bytes.fromhex("FF FF 01 04 00 00 08 F2")


@pytest.mark.slow
def test_it_runs_by_itself_and_writes_a_calibration(tmp_path: Path) -> None:
    file = tmp_path / "calibration.json"
    process = subprocess.Popen(
        [sys.executable, "-m", "hal.emulators.feetech", "--missing", "2", "--calibration", str(file)],
        stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    try:
        assert process.stdout is not None
        path = process.stdout.readline().strip()
        assert exchange(path, "FF FF 01 02 01 FB") == bytes.fromhex("FF FF 01 02 00 FC")
        assert set(json.loads(file.read_text())) >= {"shoulder_pan", "gripper"}
        assert [joint.id for joint in load_calibration(file)] == [1, 2, 3, 4, 5, 6]
    finally:
        process.terminate()
        process.communicate(timeout=30)
