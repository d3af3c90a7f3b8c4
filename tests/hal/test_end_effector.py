"""DeltaEndEffector over a made-up arm whose joints are its pose: every number can be checked by hand."""

from collections.abc import Iterator

import numpy as np
import pytest

from hal.end_effector import DeltaEndEffector, EndEffectorConfig
from hal.kits import check_robot
from tests.hal.gantry import ORIGIN, Gantry, Identity
from user_rl.errors import RobotFault
from user_rl.specs import Array

CONFIG = EndEffectorConfig(
    origin_m=(0.4, 0.0, 0.1), low=(-0.1, -0.1, 0.0, -1.0), high=(0.1, 0.1, 0.2, 1.0), leash_m=0.004, leash_rad=0.05
)


@pytest.fixture
def gantry() -> Gantry:
    return Gantry()


@pytest.fixture
def hand(gantry: Gantry) -> Iterator[DeltaEndEffector]:
    hand = DeltaEndEffector(gantry, Identity(), CONFIG)
    hand.open()
    yield hand
    hand.close()


def step(*values: float) -> Array:
    return np.array(values, np.float32)


def state_of(hand: DeltaEndEffector) -> dict[str, float]:
    return dict(zip(hand.spec.state.names, hand.read().values.tolist(), strict=True))


def test_the_hand_keeps_the_contract(gantry: Gantry) -> None:
    check_robot(lambda: DeltaEndEffector(gantry, Identity(), CONFIG))


def test_the_state_is_the_tip_in_the_work_frame(hand: DeltaEndEffector, gantry: Gantry) -> None:
    gantry.position = ORIGIN + np.array([0.01, 0.02, 0.03, 0.5])
    gantry.velocity = np.array([0.1, 0.2, 0.3, 0.4])
    state = state_of(hand)
    assert [state[f"tip.{axis}"] for axis in "xyz"] == pytest.approx([0.01, 0.02, 0.03])
    assert (state["tip.yaw.sin"], state["tip.yaw.cos"]) == pytest.approx((np.sin(0.5), np.cos(0.5)))
    assert [state[f"tip.velocity.{axis}"] for axis in "xyz"] == pytest.approx([0.1, 0.2, 0.3])
    assert state["tip.velocity.yaw"] == pytest.approx(0.4)
    assert hand.read().stamp_s == gantry.clock.now_s()


def test_a_command_moves_the_tip_by_that_much(hand: DeltaEndEffector) -> None:
    sent = hand.command(step(0.01, -0.01, 0.005, 0.1))
    np.testing.assert_allclose(sent, [0.01, -0.01, 0.005, 0.1], atol=1e-6)
    state = state_of(hand)
    assert [state[f"tip.{axis}"] for axis in "xyz"] == pytest.approx([0.01, -0.01, 0.005], abs=1e-6)
    assert state["tip.yaw.sin"] == pytest.approx(np.sin(0.1))
    assert state["tip.offset.x"] == pytest.approx(0.0, abs=1e-6)


def test_small_steps_add_up_although_the_arm_lags(gantry: Gantry) -> None:
    gantry.stiff = 0.9
    hand = DeltaEndEffector(gantry, Identity(), CONFIG)
    hand.open()
    for _ in range(5):
        hand.read()
        hand.command(step(0.01, 0, 0, 0))
    assert state_of(hand)["tip.x"] + state_of(hand)["tip.offset.x"] == pytest.approx(0.05, abs=1e-5)


def test_the_target_stays_in_the_workspace_and_the_sent_step_says_so(hand: DeltaEndEffector) -> None:
    for _ in range(6):
        hand.read()
        hand.command(step(0.015, 0, 0, 0))
    hand.read()
    np.testing.assert_allclose(hand.command(step(0.015, 0, -0.01, 0)), [0.01, 0, 0, 0], atol=1e-6)
    hand.read()
    np.testing.assert_allclose(hand.command(step(0.015, 0, 0, 0)), np.zeros(4), atol=1e-6)
    assert state_of(hand)["tip.x"] == pytest.approx(0.1, abs=1e-6)


def test_a_tip_outside_the_workspace_comes_back_by_single_steps(hand: DeltaEndEffector, gantry: Gantry) -> None:
    gantry.position = ORIGIN + np.array([0.15, 0, 0.1, 0])
    hand.forget()
    hand.read()
    np.testing.assert_allclose(hand.command(step(0, 0, 0, 0)), [-0.015, 0, 0, 0], atol=1e-6)


def test_a_blocked_tip_is_pressed_on_by_leash_and_step_and_no_more(gantry: Gantry) -> None:
    gantry.stiff = 0.0  # nothing moves it
    hand = DeltaEndEffector(gantry, Identity(), CONFIG)
    hand.open()
    for _ in range(10):
        hand.read()
        hand.command(step(0.015, 0, 0, 0.1))
    state = state_of(hand)
    assert state["tip.offset.x"] == pytest.approx(0.004 + 0.015, abs=1e-6)
    assert state["tip.offset.yaw"] == pytest.approx(0.05 + 0.1, abs=1e-6)


def test_the_first_target_is_where_the_tip_is(hand: DeltaEndEffector, gantry: Gantry) -> None:
    gantry.position = ORIGIN + np.array([0.05, 0, 0.05, 0.2])
    hand.command(step(0, 0, 0, 0))
    np.testing.assert_allclose(gantry.position, ORIGIN + np.array([0.05, 0, 0.05, 0.2]), atol=1e-6)


def test_forgetting_takes_the_next_reading_for_the_target(hand: DeltaEndEffector, gantry: Gantry) -> None:
    hand.read()
    gantry.position = ORIGIN + np.array([0.03, 0, 0.05, 0])  # somebody moved it
    assert state_of(hand)["tip.offset.x"] == pytest.approx(-0.03, abs=1e-6)
    hand.forget()
    assert state_of(hand)["tip.offset.x"] == pytest.approx(0.0, abs=1e-6)
    assert isinstance(hand.kinematics, Identity)
    np.testing.assert_allclose(hand.kinematics.started, gantry.position, atol=1e-6)


def test_a_halt_reaches_the_robot_and_drops_the_target(hand: DeltaEndEffector, gantry: Gantry) -> None:
    gantry.stiff = 0.0
    hand.read()
    hand.command(step(0.015, 0, 0, 0))
    assert state_of(hand)["tip.offset.x"] > 0.01
    hand.halt()
    assert gantry.halts == 1
    assert state_of(hand)["tip.offset.x"] == pytest.approx(0.0, abs=1e-6)


def test_a_sensor_that_leaves_its_range_saturates(hand: DeltaEndEffector, gantry: Gantry) -> None:
    gantry.velocity = np.array([5.0, 0, 0, -9.0])
    state = state_of(hand)
    assert (state["tip.velocity.x"], state["tip.velocity.yaw"]) == (2.0, -6.0)


def test_the_posture_is_searched_in_the_base_frame(hand: DeltaEndEffector) -> None:
    np.testing.assert_allclose(hand.posture(np.array([0.01, 0, 0.02, 0.3])), ORIGIN + np.array([0.01, 0, 0.02, 0.3]))


def test_the_spec_names_the_model_without_its_joints(hand: DeltaEndEffector, gantry: Gantry) -> None:
    assert hand.spec.model == "gantry"
    assert hand.spec.rate_hz == gantry.spec.rate_hz
    assert hand.spec.command.high == (0.015, 0.015, 0.015, 0.1)


def test_a_fault_below_is_a_fault_above(hand: DeltaEndEffector, gantry: Gantry) -> None:
    def jammed(target: Array) -> Array:
        raise RobotFault("jammed")

    gantry.command = jammed  # type: ignore[method-assign]
    with pytest.raises(RobotFault, match="jammed"):
        hand.command(step(0, 0, 0, 0))


@pytest.mark.parametrize(
    ("bad", "line"),
    [
        ({"origin_m": (0.0,)}, r"origin_m = \[0.0\], allowed 3 numbers"),
        ({"low": (0.0,) * 3}, r"low = \[0.0, 0.0, 0.0\], allowed 4 numbers"),
        ({"high": (0.0,) * 5}, "high = .*, allowed 4 numbers"),
        ({"low": (1.0,) * 4, "high": (1.0,) * 4}, "allowed below high"),
        ({"max_step_m": 0.0}, "max_step_m = 0.0, allowed above 0"),
        ({"max_turn_rad": -1.0}, "max_turn_rad = -1.0, allowed above 0"),
        ({"leash_m": 0.0}, "leash_m = 0.0, allowed above 0"),
        ({"leash_rad": 0.0}, "leash_rad = 0.0, allowed above 0"),
    ],
)
def test_a_configuration_that_cannot_work_is_refused(bad: dict[str, float], line: str) -> None:
    with pytest.raises(ValueError, match=line):
        EndEffectorConfig(**bad)  # type: ignore[arg-type]
