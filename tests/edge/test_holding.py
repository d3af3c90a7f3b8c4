"""Holding: what keeps each kind of robot where it is."""

import numpy as np
import pytest

from edge.holding import Holding
from hal.robot import OnSilence, RobotSpec
from user_rl.specs import Array, box

STATE = box("observation.state", [
    ("joint1.position", "rad", -3, 3), ("opening", "", 0, 1), ("tip.x", "m", -1, 1), ("theta.vel", "rad/s", -9, 9),
])  # fmt: skip
SEEN = np.array([0.7, 0.4, 0.25, 3.0], np.float32)


def holding(*command: tuple[str, str, float, float]) -> Holding:
    return Holding(
        RobotSpec(model="m", state=STATE, command=box("action", list(command)), rate_hz=10, on_silence=OnSilence.STOPS)
    )


def array(*values: float) -> Array:
    return np.array(values, np.float32)


MIXED = (
    ("joint1.target", "rad", -3, 3),
    ("opening.target", "", 0, 1),
    ("tip.delta.x", "m", -1, 1),
    ("theta.vel", "", -1, 1),
)


def test_targets_keep_what_is_measured_and_deltas_and_speeds_are_zero() -> None:
    held = holding(*MIXED).command(SEEN)
    assert held.dtype == np.float32
    np.testing.assert_allclose(held, [0.7, 0.4, 0.0, 0.0])


def test_targets_keep_what_was_sent_last_so_that_a_gripper_keeps_its_grip() -> None:
    hold = holding(*MIXED)
    hold.sent(array(0.9, 0.0, 0.5, 0.5))
    np.testing.assert_allclose(hold.command(SEEN), [0.9, 0.0, 0.0, 0.0])
    hold.begin()
    np.testing.assert_allclose(hold.command(SEEN), [0.7, 0.4, 0.0, 0.0])


def test_what_was_sent_is_kept_by_value() -> None:
    hold, sent = holding(*MIXED), array(0.9, 0.0, 0.5, 0.5)
    hold.sent(sent)
    sent[:] = 0.1
    np.testing.assert_allclose(hold.command(SEEN)[0], 0.9)


def test_a_name_that_the_state_measures_too_is_a_target() -> None:
    np.testing.assert_allclose(holding(("opening", "", 0, 1)).command(SEEN), [0.4])


def test_the_command_stays_inside_the_box() -> None:
    np.testing.assert_allclose(holding(("tip.delta.x", "m", 0.1, 0.5)).command(SEEN), [0.1])
    np.testing.assert_allclose(holding(("joint1.target", "rad", -0.5, 0.5)).command(SEEN), [0.5])


def test_a_target_that_nothing_measures_is_known_once_it_was_sent() -> None:
    hold = holding(("joint1.target", "rad", -3, 3), ("joint9.target", "rad", -3, 3))
    assert not hold.is_known
    hold.sent(array(0.1, 0.2))
    assert hold.is_known
    assert holding(*MIXED).is_known


def test_an_element_of_an_unknown_kind_is_held_by_nothing_that_could_be_sent() -> None:
    hold = holding(("mystery", "", -1, 1))
    hold.sent(array(0.5))
    assert not hold.is_known


@pytest.mark.parametrize(("factor", "expected"), [(0.25, [0.775, 0.55, 0.05, -0.1]), (0.5, [0.85, 0.7, 0.1, -0.2])])
def test_slowed_is_a_part_of_the_way_from_holding_to_what_was_wanted(factor: float, expected: list[float]) -> None:
    np.testing.assert_allclose(
        holding(*MIXED).slowed(array(1.0, 1.0, 0.2, -0.4), SEEN, factor), expected, rtol=1e-5
    )  # fmt: skip
