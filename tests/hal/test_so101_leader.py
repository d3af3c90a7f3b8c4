"""The leader arm through a real pyserial port, against the servo-bus emulator; the follower is another one."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from hal import feetech
from hal.emulators.feetech import FeetechEmulator, feetech_emulator
from hal.kits import check_teleop
from hal.so101 import So101
from hal.so101_leader import So101Leader, So101LeaderConfig
from hal.testing import FakeRobot
from tests.hal.arm_files import PATIENT, make_so101, write_calibration
from user_rl.clock import FakeClock
from user_rl.errors import ConfigError, HardwareError, RobotFault


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


@pytest.fixture
def hand() -> Iterator[FeetechEmulator]:
    with feetech_emulator(clock=FakeClock()) as running:
        yield running


@pytest.fixture
def follower(tmp_path: Path) -> Iterator[So101]:
    with feetech_emulator(clock=FakeClock()) as running:
        running.servos[1].position = 2148.0
        arm = make_so101(running, tmp_path)
        arm.open()
        yield arm
        arm.close()


@pytest.fixture
def leader(hand: FeetechEmulator, follower: So101, tmp_path: Path, clock: FakeClock) -> So101Leader:
    config = So101LeaderConfig(port=hand.path, calibration=write_calibration(tmp_path), bus=PATIENT)
    return So101Leader(config, robot=follower, clock=clock)


def push(hand: FeetechEmulator, steps: int, steps_s: int) -> None:
    """A hand moves the first joint; the emulator's clock stands, so that the speed stays as set."""
    with hand.lock:
        servo = hand.servos[1]
        servo.position += steps
        servo.pass_time = lambda by_s: None  # type: ignore[method-assign]  # a person, not the motor
        servo.set(feetech.PRESENT_POSITION, round(servo.position))
        servo.set(feetech.PRESENT_SPEED, steps_s)


def test_the_leader_keeps_the_contract(leader: So101Leader) -> None:
    check_teleop(lambda: leader)


def test_a_leader_is_led_by_hand(leader: So101Leader, hand: FeetechEmulator) -> None:
    for servo in hand.servos.values():
        servo.set(feetech.TORQUE_ENABLE, 1)
    leader.open()
    assert {servo.get(feetech.TORQUE_ENABLE) for servo in hand.servos.values()} == {0}
    leader.close()


def test_a_demonstration_follows_from_where_both_arms_are(leader: So101Leader, hand: FeetechEmulator) -> None:
    leader.open()
    leader.begin(demonstrate=True)
    first = leader.poll()
    assert first.action is not None
    np.testing.assert_allclose(first.action, leader.robot.read().values[:6], atol=1e-6)
    push(hand, 100, 500)
    second = leader.poll()
    assert second.action is not None
    assert second.action[0] - first.action[0] == pytest.approx(100 * feetech.RAD_PER_STEP, abs=1e-5)
    assert not second.is_intervention
    leader.close()


def test_a_leader_that_moves_takes_over_and_one_that_rests_lets_go(
    leader: So101Leader, hand: FeetechEmulator, clock: FakeClock
) -> None:
    leader.open()
    leader.begin(demonstrate=False)
    assert leader.poll().action is None
    push(hand, 200, -300)
    taken = leader.poll()
    assert taken.is_intervention
    assert taken.action is not None
    np.testing.assert_allclose(taken.action, leader.robot.read().values[:6], atol=1e-6)  # no jump
    push(hand, 50, 0)
    clock.advance(0.9)
    later = leader.poll().action
    assert later is not None
    assert later[0] - taken.action[0] == pytest.approx(50 * feetech.RAD_PER_STEP, abs=1e-5)
    clock.advance(0.2)
    assert leader.poll().action is None
    push(hand, 300, 300)
    again = leader.poll().action
    assert again is not None
    np.testing.assert_allclose(again, leader.robot.read().values[:6], atol=1e-6)
    leader.close()


def test_a_slow_drift_is_no_hand(leader: So101Leader, hand: FeetechEmulator) -> None:
    leader.open()
    leader.begin(demonstrate=False)
    push(hand, 1, 190)  # 0.29 rad/s
    assert not leader.poll().is_intervention
    push(hand, 1, 200)  # 0.31 rad/s
    assert leader.poll().is_intervention
    leader.close()


def test_a_leader_of_another_calibration_is_refused(leader: So101Leader, hand: FeetechEmulator) -> None:
    hand.servos[2].set(feetech.HOMING_OFFSET, 9)
    with pytest.raises(RobotFault, match=r"shoulder_lift .* homing offset 9, allowed 0"):
        leader.open()
    with pytest.raises(HardwareError, match="is not open"):
        leader.poll()


def test_a_leader_leads_an_so101_alone() -> None:
    config = So101LeaderConfig(port="x", calibration="x")
    with pytest.raises(ConfigError, match=r"teleop=so101_leader on fake, allowed on robot=so101"):
        So101Leader(config, robot=FakeRobot(clock=FakeClock()), clock=FakeClock())
