"""What arms hold: geometry that tasks rest on."""

import mujoco
import numpy as np
import pytest

from hal.sim.arm import SimArm
from hal.sim.arms import ARM6, PANDA, SimArmConfig
from hal.sim.tools import Tool
from hal.sim.world import World
from user_rl.clock import FakeClock


def world_of(tool: Tool) -> World:
    world = World(PANDA, substep_s=0.002, tool=tool)
    world.open()
    return world


@pytest.mark.parametrize("tool", Tool)
def test_every_tools_tip_is_where_the_pegs_is(tool: Tool) -> None:
    """One kinematic model of an arm serves them all."""
    tips = [w.data.site("tip") for w in (world_of(Tool.PEG), world_of(tool))]
    np.testing.assert_allclose(tips[0].xpos, tips[1].xpos, atol=1e-9)
    np.testing.assert_allclose(tips[0].xmat, tips[1].xmat, atol=1e-9)


@pytest.mark.parametrize("tool", Tool)
def test_the_tip_is_the_lowest_point_that_touches(tool: Tool) -> None:
    world = world_of(tool)
    touching = [i for i in range(world.model.ngeom) if world.model.geom_contype[i]]
    assert touching
    lowest = []
    for i in touching:  # half the height of each, seen from the world's z
        size, kind = world.model.geom_size[i], world.model.geom_type[i]
        matrix = world.data.geom_xmat[i].reshape(3, 3)
        if kind == mujoco.mjtGeom.mjGEOM_BOX:
            reach = np.abs(matrix[2]) @ size
        else:
            reach = size[0] + (abs(matrix[2, 2]) * size[1] if kind == mujoco.mjtGeom.mjGEOM_CAPSULE else 0.0)
        lowest.append(world.data.geom_xpos[i][2] - reach)
    assert min(lowest) == pytest.approx(world.data.site("tip").xpos[2], abs=2e-4)


@pytest.mark.parametrize("arm", [PANDA, ARM6], ids=lambda arm: arm.model)
@pytest.mark.parametrize("tool", [t for t in Tool if t is not Tool.GRIPPER])
def test_held_tools_have_no_joints(arm: object, tool: Tool) -> None:
    assert isinstance(arm, type(PANDA))
    world = World(arm, substep_s=0.002, tool=tool)
    world.open()
    assert world.model.nq == world.model.nu == len(arm.joints)


@pytest.mark.parametrize("arm", [PANDA, ARM6], ids=lambda arm: arm.model)
def test_a_gripper_leaves_the_arms_state_and_command_as_they_are(arm: object) -> None:
    assert isinstance(arm, type(PANDA))
    peg, gripper = (SimArm(arm, SimArmConfig(), clock=FakeClock(), tool=tool) for tool in (Tool.PEG, Tool.GRIPPER))
    assert peg.spec == gripper.spec
    for sim in (peg, gripper):
        sim.open()
        for _ in range(5):
            sim.command(np.asarray(arm.home, np.float32))
    np.testing.assert_allclose(peg.read().values, gripper.read().values, atol=1e-4)


def test_fingers_stand_apart_by_the_sum_of_their_joints() -> None:
    world = world_of(Tool.GRIPPER)
    for right_m, left_m in ((0.04, 0.04), (0.01, 0.02), (0.0, 0.0)):
        world.place(np.asarray(PANDA.home), {"finger_right": [right_m], "finger_left": [left_m]})
        pads = [world.data.geom(f"pad_{side}").xpos for side in ("left", "right")]
        assert np.linalg.norm(pads[0] - pads[1]) - 2 * 0.004 == pytest.approx(right_m + left_m, abs=1e-6)
        assert world.width_m == pytest.approx(right_m + left_m)
