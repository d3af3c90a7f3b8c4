import mujoco
import numpy as np
import pytest

from hal.dh import FRANKA_FLANGE_M, FRANKA_HAND_RAD, FRANKA_HOME, FRANKA_LINKS, UR_HOME, UR_LINKS, Link, mjcf
from hal.kinematics import MinkKinematics
from user_rl.specs import Array

ARMS = [
    *((UR_LINKS[name], UR_HOME, 0.0, 0.0) for name in UR_LINKS),
    (FRANKA_LINKS, FRANKA_HOME, FRANKA_FLANGE_M, FRANKA_HAND_RAD),
]


def turned(axis: int, angle: float) -> Array:
    i, j = [(1, 2), (2, 0), (0, 1)][axis]
    matrix = np.eye(4)
    matrix[[i, i, j, j], [i, j, i, j]] = np.cos(angle), -np.sin(angle), np.sin(angle), np.cos(angle)
    return matrix


def moved(x: float, z: float) -> Array:
    matrix = np.eye(4)
    matrix[0, 3], matrix[2, 3] = x, z
    return matrix


def ur_by_its_published_rows(name: str, q: Array) -> Array:
    """Universal Robots' own form: about z, along z, along x, about x."""
    a, d = {
        "ur3e": ((0, -0.24355, -0.2132, 0, 0, 0), (0.15185, 0, 0, 0.13105, 0.08535, 0.0921)),
        "ur5e": ((0, -0.425, -0.3922, 0, 0, 0), (0.1625, 0, 0, 0.1333, 0.0997, 0.0996)),
        "ur10e": ((0, -0.6127, -0.57155, 0, 0, 0), (0.1807, 0, 0, 0.17415, 0.11985, 0.11655)),
        "ur16e": ((0, -0.4784, -0.36, 0, 0, 0), (0.1807, 0, 0, 0.17415, 0.11985, 0.11655)),
    }[name]
    pose = np.eye(4)
    for i, alpha in enumerate((np.pi / 2, 0, 0, np.pi / 2, -np.pi / 2, 0)):
        pose = pose @ turned(2, q[i]) @ moved(a[i], d[i]) @ turned(0, alpha)
    return pose


def tip(links: tuple[Link, ...], q: Array, tip_m: float, tip_rad: float = 0.0) -> Array:
    model = mujoco.MjModel.from_xml_string(mjcf(links, tip_m=tip_m, tip_rad=tip_rad))
    data = mujoco.MjData(model)
    data.qpos[:] = q
    mujoco.mj_kinematics(model, data)
    pose = np.eye(4)
    pose[:3, :3], pose[:3, 3] = data.site("tip").xmat.reshape(3, 3), data.site("tip").xpos
    return pose


@pytest.mark.parametrize("name", list(UR_LINKS))
def test_a_ur_arm_is_as_its_published_rows_say(name: str) -> None:
    for q in np.random.default_rng(1).uniform(-3, 3, (5, 6)):
        expected = ur_by_its_published_rows(name, q) @ moved(0, 0.15)
        np.testing.assert_allclose(tip(UR_LINKS[name], q, 0.15), expected, atol=1e-6)


def test_a_franka_arm_is_as_its_documentation_says() -> None:
    """Stretched upwards the lengths add up; at home the flange is where every user of the arm has seen it."""
    upright = tip(FRANKA_LINKS, np.zeros(7), FRANKA_FLANGE_M)
    np.testing.assert_allclose(upright[:3, 3], [0.088, 0, 0.333 + 0.316 + 0.384 - 0.107], atol=1e-6)
    home = tip(FRANKA_LINKS, np.array(FRANKA_HOME), FRANKA_FLANGE_M)
    np.testing.assert_allclose(home[:3, 3], [0.3069, 0, 0.5903], atol=1e-3)
    np.testing.assert_allclose(home[:3, :3], np.diag([1, -1, -1]) @ turned(2, np.pi / 4)[:3, :3], atol=1e-6)


@pytest.mark.parametrize(("links", "home", "tip_m", "tip_rad"), ARMS, ids=[*UR_LINKS, "franka"])
def test_at_home_the_tool_points_down_with_yaw_zero_and_poses_around_are_found(
    links: tuple[Link, ...], home: tuple[float, ...], tip_m: float, tip_rad: float
) -> None:
    pose = tip(links, np.array(home), tip_m, tip_rad)
    np.testing.assert_allclose(pose[:3, :3], np.diag([1, -1, -1]), atol=1e-6)
    assert pose[0, 3] > 0.25
    kinematics = MinkKinematics(mjcf(links, tip_m=tip_m, tip_rad=tip_rad), np.array(home), period_s=0.1)
    here, _ = kinematics.forward(np.array(home), np.zeros(len(links)))
    goal = here + np.array([0.03, -0.02, 0.02, 0.2])
    reached, _ = kinematics.forward(kinematics.search(goal), np.zeros(len(links)))
    np.testing.assert_allclose(reached, goal, atol=1e-3)


def test_a_joints_range_is_the_models() -> None:
    model = mujoco.MjModel.from_xml_string(mjcf(FRANKA_LINKS, tip_m=0.0))
    np.testing.assert_allclose(model.jnt_range, [(link.low, link.high) for link in FRANKA_LINKS], atol=1e-6)
