from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

from hal.kits import check_robot
from hal.robot import Robot
from hal.sim.arms import ARM6, PANDA, SimArmConfig
from hal.sim.gripper import Gripping
from hal.sim.robot import make_sim_robot
from hal.sim.tools import Tool
from user_rl.clock import FakeClock
from user_rl.errors import SpecError
from user_rl.specs import Array


def make(arm: Any = PANDA, tool: Tool = Tool.GRIPPER) -> Robot:  # noqa: ANN401
    return make_sim_robot(arm, SimArmConfig(), tool, clock=FakeClock(2.0))


@pytest.fixture
def hand() -> Iterator[Robot]:
    hand = make()
    hand.open()
    yield hand
    hand.close()


def step(width_m: float, z_m: float = 0.0) -> Array:
    return np.array([0, 0, z_m, 0, width_m], np.float32)


def width_m(hand: Robot) -> float:
    return float(hand.read().values[hand.spec.state.names.index("gripper.width")])


@pytest.mark.slow
@pytest.mark.parametrize("arm", [PANDA, ARM6], ids=lambda arm: arm.model)
def test_a_hand_with_fingers_keeps_the_contract(arm: object) -> None:
    check_robot(lambda: make(arm))


def test_only_a_gripper_adds_the_width_and_behind_everything_else() -> None:
    gripper, peg = make(), make(tool=Tool.PEG)
    assert isinstance(gripper, Gripping)
    assert not isinstance(peg, Gripping)
    assert gripper.spec.state.names == (*peg.spec.state.names, "gripper.width")
    assert gripper.spec.command.names == (*peg.spec.command.names, "gripper.width.target")
    assert (gripper.spec.command.low[-1], gripper.spec.command.high[-1]) == (0.0, 0.08)
    assert gripper.spec.command.units[-1] == "m"


def test_the_fingers_start_open_and_follow_their_target(hand: Robot) -> None:
    assert width_m(hand) == pytest.approx(0.08)
    for target_m in (0.03, 0.06, 0.0, 0.08):
        for _ in range(5):
            hand.command(step(target_m))
        assert width_m(hand) == pytest.approx(target_m, abs=1e-3)


def test_fingers_move_while_the_hand_does_and_both_are_sent(hand: Robot) -> None:
    before = hand.read().values
    sent = hand.command(step(0.02, z_m=0.01))
    np.testing.assert_allclose(sent, [0, 0, 0.01, 0, 0.02], atol=1e-6)
    after = hand.read().values
    assert after[2] - before[2] > 0.005
    assert after[-1] < 0.06
    assert hand.read().values is after  # nothing has moved since
    assert hand.read().stamp_s == 2.0


@pytest.mark.parametrize("wrong_m", [-0.01, 0.09])
def test_a_width_that_fingers_do_not_have_is_refused(hand: Robot, wrong_m: float) -> None:
    before = width_m(hand)
    with pytest.raises(SpecError, match=r"action.gripper.width.target = .* allowed \[0, 0.08\]"):
        hand.command(step(wrong_m, z_m=0.01))
    assert width_m(hand) == before
