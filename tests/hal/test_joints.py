"""DeltaJoints over the made-up arm, whose numbers can be checked by hand, and over both simulated ones."""

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

from hal.end_effector import DeltaEndEffector, EndEffectorConfig
from hal.joints import DeltaJoints, JointsConfig
from hal.kits import check_robot, check_teleop
from hal.make import CellConfig, make_cell
from hal.translated import Translated
from tests.hal.gantry import ORIGIN, Gantry, Identity
from user_rl.clock import FreeRunningClock
from user_rl.config import build
from user_rl.errors import ConfigError
from user_rl.specs import Array

HAND = EndEffectorConfig(
    origin_m=(0.4, 0.0, 0.1), low=(-0.1, -0.1, 0.0, -1.0), high=(0.1, 0.1, 0.2, 1.0), max_step_m=0.05, max_turn_rad=0.1
)
CONFIG = JointsConfig(max_step_rad=0.03, leash_rad=0.02)
HOME = ORIGIN - 0.5


def make(gantry: Gantry) -> DeltaJoints:
    return DeltaJoints(DeltaEndEffector(gantry, Identity(), HAND), HOME, CONFIG)


@pytest.fixture
def gantry() -> Gantry:
    return Gantry()


@pytest.fixture
def arm(gantry: Gantry) -> Iterator[DeltaJoints]:
    arm = make(gantry)
    arm.open()
    arm.read()
    yield arm
    arm.close()


def step(*values: float) -> Array:
    return np.array(values, np.float32)


def state_of(arm: DeltaJoints) -> dict[str, float]:
    return dict(zip(arm.spec.state.names, arm.read().values.tolist(), strict=True))


def simulated(name: str, task: str = "peg_insertion") -> Any:  # noqa: ANN401
    tree = {
        "robot": {"name": name, "control": "joints"}, "task": {"name": task},
        "teleop": {"name": "scripted"},
    }  # fmt: skip
    return make_cell(build(CellConfig, tree), name="cell", clock=FreeRunningClock(), seed=1)


def test_delta_joints_keep_the_contract(gantry: Gantry) -> None:
    check_robot(lambda: make(gantry))


def test_the_state_is_the_hands_then_the_joints_against_home_and_their_targets(
    arm: DeltaJoints, gantry: Gantry
) -> None:
    gantry.position = ORIGIN + np.array([0.01, 0.02, 0.03, 0.5])
    state = state_of(arm)
    assert len(state) == 13 + 4 + 4
    assert [state[f"tip.{axis}"] for axis in "xyz"] == pytest.approx([0.01, 0.02, 0.03])
    assert [state[f"joint.{n}.from_home"] for n in (1, 2, 3, 4)] == pytest.approx([0.51, 0.52, 0.53, 1.0])
    assert [state[f"joint.{n}.offset"] for n in (1, 2, 3, 4)] == pytest.approx([0.0] * 4)


def test_a_command_moves_each_joint_by_that_much(arm: DeltaJoints, gantry: Gantry) -> None:
    np.testing.assert_allclose(arm.command(step(0.01, -0.01, 0.02, 0.03)), [0.01, -0.01, 0.02, 0.03], atol=1e-6)
    np.testing.assert_allclose(gantry.position, ORIGIN + step(0.01, -0.01, 0.02, 0.03), atol=1e-6)


def test_what_leaves_the_workspace_is_taken_out_and_the_sent_step_says_so(arm: DeltaJoints, gantry: Gantry) -> None:
    gantry.position = ORIGIN + np.array([0.09, 0.0, 0.01, 0.0])
    arm.hand.forget()
    arm.read()
    np.testing.assert_allclose(arm.command(step(0.03, 0.03, -0.03, 0.0)), [0.01, 0.03, -0.01, 0.0], atol=1e-6)


def test_the_target_stays_within_the_leash_of_what_is_measured(arm: DeltaJoints, gantry: Gantry) -> None:
    gantry.stiff = 0.0  # something holds it
    for _ in range(10):
        arm.read()
        arm.command(step(0.03, 0.0, 0.0, 0.0))
    state = state_of(arm)
    assert state["joint.1.offset"] == pytest.approx(CONFIG.leash_rad + 0.03)
    assert state["tip.offset.x"] == pytest.approx(CONFIG.leash_rad + 0.03)


def test_small_steps_add_up_although_the_arm_lags(arm: DeltaJoints, gantry: Gantry) -> None:
    gantry.stiff = 0.9
    for _ in range(5):
        arm.read()
        arm.command(step(0.01, 0.0, 0.0, 0.0))
    state = state_of(arm)
    assert state["tip.x"] + state["joint.1.offset"] == pytest.approx(0.05, abs=1e-5)


def test_an_arm_that_a_task_has_placed_starts_from_there(arm: DeltaJoints, gantry: Gantry) -> None:
    arm.command(step(0.03, 0.0, 0.0, 0.0))
    gantry.position = ORIGIN + 0.05
    arm.hand.forget()
    assert state_of(arm)["joint.1.offset"] == 0.0
    arm.command(step(0.01, 0.0, 0.0, 0.0))
    assert gantry.position[0] == pytest.approx(ORIGIN[0] + 0.06)


def test_a_tips_step_becomes_a_step_of_the_joints_as_far_as_one_goes(arm: DeltaJoints) -> None:
    np.testing.assert_allclose(arm.steps(step(0.01, 0.05, 0.0, 0.02)), [0.01, 0.03, 0.0, 0.02], atol=1e-6)


@pytest.mark.slow
def test_an_operator_of_the_tip_keeps_the_contract_at_the_joints() -> None:
    cell = simulated("arm6_sim")
    cell.robot.open()
    assert isinstance(cell.teleop, Translated)
    check_teleop(lambda: cell.teleop)
    cell.robot.close()


@pytest.mark.parametrize("wrong", [{"max_step_rad": 0.0}, {"leash_rad": -0.1}])
def test_a_step_or_a_leash_of_nothing_is_refused(wrong: dict[str, float]) -> None:
    (key, value), *_ = wrong.items()
    with pytest.raises(ValueError, match=f"{key} = {value}, allowed above 0; change it"):
        JointsConfig(**wrong)


@pytest.mark.slow
@pytest.mark.parametrize(("name", "joints"), [("panda_sim", 7), ("arm6_sim", 6)])
def test_whatever_is_commanded_the_tool_points_down_inside_the_workspace(name: str, joints: int) -> None:
    cell = simulated(name)
    assert len(cell.action.names) == joints
    random, box = np.random.default_rng(0), cell.robot.robot.hand.config
    cell.open()
    try:
        cell.task.reset(0)
        for _ in range(150):
            state = dict(zip(cell.robot.spec.state.names, cell.robot.read().values.tolist(), strict=True))
            cell.robot.command(random.uniform(cell.action.low, cell.action.high).astype(np.float32))
            tilt_rad = np.arccos(-cell.robot.robot.hand.kinematics._measured.data.site("tip").xmat[8])
            assert tilt_rad < 0.08
            assert max(abs(state["tip.x"]), abs(state["tip.y"])) < box.high[0] + 0.015
            assert state["tip.z"] < box.high[2] + 0.015
    finally:
        cell.close()


@pytest.mark.slow
@pytest.mark.parametrize("name", ["panda_sim", "arm6_sim"])
@pytest.mark.parametrize("task", ["peg_insertion", "button_press"])
def test_the_scripted_operator_succeeds_joint_by_joint(name: str, task: str) -> None:
    cell = simulated(name, task)
    cell.open()
    try:
        assert sum(succeeds(cell, seed) for seed in range(20)) >= 19
    finally:
        cell.close()


def succeeds(cell: Any, seed: int) -> bool:  # noqa: ANN401
    cell.task.reset(seed)
    cell.teleop.begin(demonstrate=True)
    for _ in range(cell.task.max_steps):
        cell.robot.read()
        action = cell.teleop.poll().action
        cell.action.check(action)
        cell.robot.command(action)
        if cell.task.judge().success:
            return True
    return False


def test_a_gripper_is_not_driven_joint_by_joint() -> None:
    with pytest.raises(ConfigError, match=r"robot\.control = joints at a task with a gripper, allowed tip; set robot"):
        simulated("panda_sim", "pick_and_place")
