"""The SO-101 driver through a real pyserial port, against the servo-bus emulator."""

import math
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from hal import feetech
from hal.emulators.feetech import FeetechEmulator, feetech_emulator
from hal.feetech import Alarm, BusConfig
from hal.guard import Guarded
from hal.kits import check_robot
from hal.so101 import JOINTS, So101, So101Config, load_calibration
from tests.hal.arm_files import PATIENT, make_so101, write_calibration
from user_rl.clock import FakeClock, SystemClock
from user_rl.errors import ConfigError, RobotFault, RobotUnreachable
from user_rl.specs import Array


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


@pytest.fixture
def emulator(clock: FakeClock) -> Iterator[FeetechEmulator]:
    with feetech_emulator(clock=clock) as running:
        yield running


@pytest.fixture
def arm(emulator: FeetechEmulator, tmp_path: Path) -> Iterator[So101]:
    arm = make_so101(emulator, tmp_path)
    arm.open()
    yield arm
    arm.close()


def goals(emulator: FeetechEmulator) -> list[int]:
    return [servo.get(feetech.GOAL_POSITION) for servo in emulator.servos.values()]


def send(arm: So101, **target: float) -> Array:
    """Commands, and returns when the command has arrived: nobody acknowledges it, but a reading comes after it."""
    sent = arm.command(zeros(**target))
    arm.read()
    return sent


def zeros(**changes: float) -> Array:
    return np.array([changes.get(name, 0.0) for name in JOINTS], np.float32)


def test_the_so101_keeps_the_contract_bare_and_guarded(emulator: FeetechEmulator, tmp_path: Path) -> None:
    arm = make_so101(emulator, tmp_path)
    check_robot(lambda: arm)
    guarded = Guarded(arm, clock=FakeClock())
    check_robot(lambda: guarded)


def test_it_goes_where_it_is_told_and_says_how_fast(arm: So101, clock: FakeClock) -> None:
    sent = send(arm, shoulder_pan=1.0, elbow_flex=-1.0, gripper=0.75)
    np.testing.assert_allclose(sent, zeros(shoulder_pan=1.0, elbow_flex=-1.0, gripper=0.75), atol=0.001)
    clock.advance(0.1)
    moving = dict(zip(arm.spec.state.names, arm.read().values, strict=True))
    assert moving["shoulder_pan.position"] == pytest.approx(0.3, abs=0.01)
    assert moving["shoulder_pan.velocity"] == pytest.approx(3.0, abs=0.01)
    assert moving["elbow_flex.velocity"] == pytest.approx(-3.0, abs=0.01)
    assert moving["gripper.opening_rate"] > 0
    assert moving["wrist_roll.velocity"] == 0
    clock.advance(10)
    there = arm.read().values
    np.testing.assert_allclose(there[:6], sent, atol=0.001)
    assert not there[6:].any()


def test_opening_leaves_the_arm_where_it_is(emulator: FeetechEmulator, tmp_path: Path, clock: FakeClock) -> None:
    """A servo would go to its old goal as soon as its torque comes on."""
    for servo in emulator.servos.values():
        servo.position = 3000.0
    arm = make_so101(emulator, tmp_path)
    arm.open()
    clock.advance(5)
    assert [servo.get(feetech.TORQUE_ENABLE) for servo in emulator.servos.values()] == [1] * 6
    emulator.pass_time()
    assert [servo.position for servo in emulator.servos.values()] == [3000.0] * 6
    arm.close()


@pytest.mark.parametrize("stop", ["halt", "close"])
def test_a_stop_holds_the_arm_where_it_is_with_torque(
    arm: So101, emulator: FeetechEmulator, clock: FakeClock, stop: str
) -> None:
    send(arm, shoulder_pan=2.0)
    clock.advance(0.1)
    getattr(arm, stop)()
    held = goals(emulator)
    assert held[0] == pytest.approx(2048 + 0.3 / feetech.RAD_PER_STEP, abs=2)
    clock.advance(5)
    emulator.pass_time()
    assert [round(servo.position) for servo in emulator.servos.values()] == held
    assert [servo.get(feetech.TORQUE_ENABLE) for servo in emulator.servos.values()] == [1] * 6


@pytest.mark.slow
def test_the_halt_command_holds_an_arm_whose_process_is_gone(
    emulator: FeetechEmulator, tmp_path: Path, clock: FakeClock
) -> None:
    arm = make_so101(emulator, tmp_path)
    arm.open()
    send(arm, shoulder_pan=2.0)
    clock.advance(0.1)
    subprocess.run(arm.spec.halt_command, check=True, timeout=60)
    assert goals(emulator)[0] == pytest.approx(2048 + 0.3 / feetech.RAD_PER_STEP, abs=2)
    emulator.faults.missing = {2}
    run = subprocess.run(arm.spec.halt_command, capture_output=True, text=True, timeout=60, check=False)
    assert run.returncode == 1
    assert run.stderr.startswith("shoulder_lift (id 2) cannot be held and may still move")
    emulator.faults.missing = set()
    arm.close()


MOVES_SLOWLY = """
import sys, numpy as np
from hal.so101 import BusConfig, So101, So101Config
from user_rl.clock import SystemClock
where = {"port": sys.argv[1], "calibration": sys.argv[2]}
slow = So101Config(**where, rate_hz=2, max_speed_rad_s=0.2, bus=BusConfig(answer_s=0.2))
arm = So101(slow, clock=SystemClock())
arm.open()
arm.command(np.array([2, 0, 0, 0, 0, 0], np.float32))
arm.read()
print("moves", flush=True)
sys.stdin.read()
"""


@pytest.mark.slow
def test_an_arm_whose_process_was_killed_goes_on_until_the_halt_command_runs(tmp_path: Path) -> None:
    """What `on_silence` says: the servos go on to their last target, 10 s away, and only the command stops them."""
    with feetech_emulator() as emulator:  # in real time
        arm = make_so101(emulator, tmp_path)
        command = [sys.executable, "-c", MOVES_SLOWLY, emulator.path, arm.config.calibration]
        child = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        assert child.stdout is not None
        assert child.stdout.readline() == "moves\n"
        child.kill()
        child.communicate(timeout=30)
        emulator.pass_time()
        killed_at = emulator.servos[1].position
        time.sleep(0.1)
        emulator.pass_time()
        assert emulator.servos[1].position > killed_at
        subprocess.run(arm.spec.halt_command, check=True, timeout=60)
        emulator.pass_time()
        halted_at = emulator.servos[1].position
        time.sleep(0.1)
        emulator.pass_time()
        assert emulator.servos[1].position == pytest.approx(halted_at, abs=1)
        assert halted_at < 2048 + 1.9 / feetech.RAD_PER_STEP


@pytest.mark.slow
def test_the_halt_command_says_how_it_is_used() -> None:
    run = subprocess.run(
        [sys.executable, "-m", "hal.so101", "stop"], capture_output=True, text=True, timeout=60, check=False
    )
    assert run.stderr.strip() == "usage: python -m hal.so101 halt PORT [BAUD_RATE]"


def test_servos_limit_their_own_speed_and_torque(emulator: FeetechEmulator, tmp_path: Path) -> None:
    arm = make_so101(emulator, tmp_path, max_speed_rad_s=1.5, torque=0.8, gripper_torque=0.25)
    arm.open()
    limits = [servo.get(feetech.TORQUE_LIMIT) for servo in emulator.servos.values()]
    assert limits == [800] * 5 + [250]
    for servo in emulator.servos.values():
        assert servo.get(feetech.ACCELERATION) == 254
        assert servo.get(feetech.GOAL_SPEED) == round(1.5 / feetech.RAD_PER_STEP)
        servo.set(feetech.GOAL_SPEED, 0)  # as after a power cut: no limit
    send(arm)
    assert {servo.get(feetech.GOAL_SPEED) for servo in emulator.servos.values()} == {978}
    arm.close()


def test_ranges_and_directions_come_from_the_calibration(
    emulator: FeetechEmulator, tmp_path: Path, clock: FakeClock
) -> None:
    changes = {"shoulder_pan": {"range_min": 1000, "range_max": 3000, "homing_offset": -14, "drive_mode": 1}}
    changes["gripper"] = {"range_min": 2000, "range_max": 3000}
    for servo, change in zip((1, 6), changes.values(), strict=True):
        emulator.servos[servo].set(feetech.MIN_POSITION, change["range_min"])
        emulator.servos[servo].set(feetech.MAX_POSITION, change["range_max"])
        emulator.servos[servo].set(feetech.HOMING_OFFSET, change.get("homing_offset", 0))
    config = So101Config(port=emulator.path, calibration=write_calibration(tmp_path, **changes), rate_hz=2, bus=PATIENT)
    arm = So101(config, clock=SystemClock())
    assert arm.spec.command.high[0] == pytest.approx(1000 * 2 * math.pi / 4096)
    assert (arm.spec.command.low[-1], arm.spec.command.high[-1]) == (0.0, 1.0)
    check_robot(lambda: arm)
    arm.open()
    send(arm, shoulder_pan=1.0, gripper=0.25)
    assert goals(emulator)[0] == 2000 - round(1.0 / feetech.RAD_PER_STEP)
    assert goals(emulator)[-1] == 2250
    clock.advance(5)
    values = arm.read().values
    assert values[0] == pytest.approx(1.0, abs=0.001)
    assert values[5] == pytest.approx(0.25)
    arm.close()


@pytest.mark.parametrize(
    ("register", "value", "line"),
    [
        (feetech.MODEL, 2825, r"elbow_flex \(id 3\) holds model number 2825, allowed 777 by .*calibration.json"),
        (feetech.OPERATING_MODE, 1, "operating mode 1, allowed 0"),
        (feetech.HOMING_OFFSET, -7, "homing offset -7, allowed 0 .* give this arm's own calibration"),
        (feetech.MIN_POSITION, 5, "lower end 5, allowed 0"),
        (feetech.MAX_POSITION, 3000, "upper end 3000, allowed 4095"),
    ],
)
def test_an_arm_that_is_not_as_calibrated_is_not_moved(
    emulator: FeetechEmulator, tmp_path: Path, register: feetech.Register, value: int, line: str
) -> None:
    emulator.servos[3].set(register, value)
    arm = make_so101(emulator, tmp_path)
    with pytest.raises(RobotFault, match=line):
        arm.open()
    assert {servo.get(feetech.TORQUE_ENABLE) for servo in emulator.servos.values()} == {0}
    with pytest.raises(RobotUnreachable, match="is not open"):
        arm.read()


def test_an_overload_is_a_fault_in_reading_and_does_not_keep_the_arm_from_halting(
    arm: So101, emulator: FeetechEmulator, clock: FakeClock
) -> None:
    send(arm, shoulder_pan=2.0)
    clock.advance(0.1)
    emulator.servos[6].alarms = Alarm.OVERLOAD
    with pytest.raises(RobotFault, match=r"gripper \(id 6\) reports overload"):
        arm.read()
    arm.halt()
    assert goals(emulator)[0] < 2048 + 0.4 / feetech.RAD_PER_STEP


def test_a_servo_that_is_gone_is_named(arm: So101, emulator: FeetechEmulator) -> None:
    emulator.faults.missing = {4}
    with pytest.raises(RobotUnreachable, match=r"wrist_flex \(id 4\) did not answer"):
        arm.read()
    with pytest.raises(RobotUnreachable, match=r"wrist_flex \(id 4\) cannot be held"):
        arm.halt()


def test_closing_an_arm_whose_cable_is_out_says_so(
    arm: So101, emulator: FeetechEmulator, caplog: pytest.LogCaptureFixture
) -> None:
    emulator.close()
    with pytest.raises(RobotUnreachable):
        arm.read()
    arm.close()
    assert "is closed without a halt" in caplog.text
    arm.close()


def test_a_reading_is_no_newer_than_its_stamp_says(arm: So101) -> None:
    before_s = arm.clock.now_s()
    stamp_s = arm.read().stamp_s
    assert before_s <= stamp_s <= arm.clock.now_s()


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("{", "give the JSON file that LeRobot's calibration"),
        ("{}", "'shoulder_pan'; give the JSON file"),
        ('{"shoulder_pan": {"id": 1}}', "missing required field"),
    ],
)
def test_a_file_that_is_no_calibration_is_refused(tmp_path: Path, text: str, line: str) -> None:
    (tmp_path / "c.json").write_text(text)
    with pytest.raises(ConfigError, match=line):
        load_calibration(tmp_path / "c.json")
    with pytest.raises(ConfigError, match="No such file"):
        load_calibration(tmp_path / "none.json")


@pytest.mark.parametrize(
    ("change", "line"),
    [
        (
            {"range_min": 3000, "range_max": 2000},
            "shoulder_lift ranges from 3000 to 2000, allowed rising within 0 to 4095",
        ),
        ({"range_max": 4096}, "shoulder_lift ranges from 0 to 4096"),
        ({"id": 7}, r"ids \[1, 7, 3, 4, 5, 6\], allowed \[1, 2, 3, 4, 5, 6\]"),
    ],
)
def test_a_calibration_that_cannot_be_is_refused(tmp_path: Path, change: dict[str, int], line: str) -> None:
    with pytest.raises(ConfigError, match=line):
        load_calibration(Path(write_calibration(tmp_path, shoulder_lift=change)))


@pytest.mark.parametrize(
    ("change", "line"),
    [
        ({"torque": 0.0}, "torque = 0.0, allowed above 0 to 1"),
        ({"gripper_torque": 1.1}, "gripper_torque = 1.1, allowed above 0 to 1"),
        ({"max_speed_rad_s": 0.0}, "max_speed_rad_s = 0.0, allowed above 0 to 15"),
        ({"rate_hz": 50.0}, "rate_hz = 50.0, allowed below 50, which is what the bus may take"),
        ({"bus": BusConfig(attempts=4)}, "rate_hz = 30.0, allowed below 25"),
    ],
)
def test_settings_that_cannot_be_are_refused(change: dict[str, float], line: str) -> None:
    with pytest.raises(ValueError, match=line):
        So101Config(port="x", calibration="x", **change)  # type: ignore[arg-type]
