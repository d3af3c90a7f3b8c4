import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hal.kinematics import MinkKinematics
from hal.sim.arms import ARM6, PANDA, Arm
from hal.sim.world import scene_xml
from user_rl.errors import RobotFault
from user_rl.specs import Array

MIDDLE = np.array([0.45, 0.0, 0.16, 0.0])


def kinematics_of(arm: Arm) -> MinkKinematics:
    return MinkKinematics(scene_xml(arm, [], substep_s=0.005), np.asarray(arm.home), period_s=0.1)


ARMS = {arm.model: kinematics_of(arm) for arm in (PANDA, ARM6)}


def pose_at(kinematics: MinkKinematics, posture: Array) -> Array:
    return kinematics.forward(posture, np.zeros(len(posture)))[0]


def tilt_of(kinematics: MinkKinematics) -> float:
    """The angle between the tool's axis and straight down at the last `forward`."""
    down = -kinematics._measured.data.site("tip").xmat[8]
    return float(np.arccos(np.clip(down, -1, 1)))


def test_the_panda_stands_upright_at_zero() -> None:
    """The published length of the arm: 0.926 m to the flange, which points down from 0.088 m in front."""
    kinematics = ARMS["panda_sim"]
    pose = pose_at(kinematics, np.zeros(7))
    np.testing.assert_allclose(pose[:3], [0.088, 0.0, 0.333 + 0.316 + 0.384 - 0.107 - 0.170], atol=1e-9)
    assert tilt_of(kinematics) == pytest.approx(0.0, abs=1e-6)


@pytest.mark.parametrize("model", ARMS)
def test_at_home_the_tip_points_down_over_the_middle(model: str) -> None:
    kinematics = ARMS[model]
    np.testing.assert_allclose(pose_at(kinematics, kinematics.home), MIDDLE, atol=2e-3)
    assert tilt_of(kinematics) < 0.005


@pytest.mark.parametrize("model", ARMS)
@settings(max_examples=25, deadline=None)
@given(st.tuples(st.floats(-0.08, 0.08), st.floats(-0.08, 0.08), st.floats(-0.19, 0.02), st.floats(-0.5, 0.5)))
def test_a_searched_posture_holds_the_pose_pointing_down(model: str, offset: tuple[float, ...]) -> None:
    kinematics, pose = ARMS[model], MIDDLE + offset
    posture = kinematics.search(pose)
    np.testing.assert_allclose(pose_at(kinematics, posture), pose, atol=2e-4)
    assert tilt_of(kinematics) < 1e-3
    low, high = kinematics.model.jnt_range.T
    assert (posture >= low).all()
    assert (posture <= high).all()


@pytest.mark.parametrize("model", ARMS)
def test_a_search_depends_on_the_pose_alone(model: str) -> None:
    kinematics = ARMS[model]
    first = kinematics.search(MIDDLE + np.array([0.03, 0.02, 0, 0.1]))
    kinematics.search(MIDDLE - np.array([0.05, 0.02, 0, 0.1]))
    assert np.array_equal(first, kinematics.search(MIDDLE + np.array([0.03, 0.02, 0, 0.1])))


@pytest.mark.parametrize("model", ARMS)
def test_single_steps_follow_a_moving_target(model: str) -> None:
    kinematics = ARMS[model]
    posture = kinematics.search(MIDDLE)
    kinematics.search(MIDDLE + np.array([0.08, 0.08, 0, 0.5]))  # it was elsewhere
    kinematics.start(posture)
    for k in range(1, 6):
        target = MIDDLE + np.array([0.015, 0.01, -0.01, 0.08]) * k
        posture = kinematics.solve(target)
        np.testing.assert_allclose(pose_at(kinematics, posture), target, atol=1e-3)


@pytest.mark.parametrize("model", ARMS)
def test_the_rate_is_the_poses_derivative(model: str) -> None:
    kinematics = ARMS[model]
    posture = kinematics.search(MIDDLE)
    velocity = np.linspace(-0.3, 0.4, len(posture))
    pose, rate = kinematics.forward(posture, velocity)
    later = pose_at(kinematics, posture + 1e-6 * velocity)
    np.testing.assert_allclose(rate, (later - pose) / 1e-6, atol=2e-5 if model == "panda_sim" else 1e-3)


def test_joint_limits_hold_on_the_way_to_what_is_out_of_reach() -> None:
    kinematics = ARMS["panda_sim"]
    kinematics.start(kinematics.home)
    for _ in range(50):
        posture = kinematics.solve(np.array([1.5, 0.0, 0.1, 0.0]))
    low, high = kinematics.model.jnt_range.T
    assert (posture >= low - 1e-6).all()
    assert (posture <= high + 1e-6).all()


def test_no_way_on_is_a_fault() -> None:
    kinematics = kinematics_of(PANDA)
    kinematics._limits[0].upper[:] = -10.0  # nothing is both above the lower and below the upper limit
    with pytest.raises(RobotFault, match="no joint motion reaches the tip's target"):
        kinematics.solve(MIDDLE)
