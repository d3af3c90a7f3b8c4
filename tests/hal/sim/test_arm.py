from collections.abc import Iterator
from xml.etree.ElementTree import Element, SubElement

import mujoco
import numpy as np
import pytest

from hal.sim.arm import SimArm
from hal.sim.arms import ARM6, PANDA, Arm, SimArmConfig
from hal.sim.world import World
from user_rl.clock import FakeClock
from user_rl.errors import RobotUnreachable, SpecError


@pytest.fixture(params=[PANDA, ARM6], ids=lambda arm: arm.model)
def arm(request: pytest.FixtureRequest) -> Iterator[SimArm]:
    arm = SimArm(request.param, SimArmConfig(), clock=FakeClock(7.0))
    arm.open()
    yield arm
    arm.close()


def home(arm: SimArm) -> np.ndarray:
    return np.asarray(arm.arm.home, np.float32)


def test_the_arm_rests_at_home_against_its_own_weight(arm: SimArm) -> None:
    for _ in range(20):
        arm.command(home(arm))
    joints = len(arm.arm.joints)
    np.testing.assert_allclose(arm.read().values[:joints], home(arm), atol=1e-4)
    np.testing.assert_allclose(arm.read().values[joints:], 0, atol=1e-4)


def test_each_joint_follows_its_target(arm: SimArm) -> None:
    for i in range(len(arm.arm.joints)):
        arm.place(home(arm))
        target = home(arm)
        target[i] += 0.1
        for _ in range(10):
            arm.command(target)
        np.testing.assert_allclose(arm.read().values[: len(target)], target, atol=2e-3)


def test_a_joint_gets_most_of_the_way_in_one_period_and_does_not_ring(arm: SimArm) -> None:
    for i in range(len(arm.arm.joints)):
        arm.place(home(arm))
        target = home(arm)
        target[i] += 0.05
        ways = []
        for _ in range(6):
            arm.command(target)
            ways.append((arm.read().values[i] - home(arm)[i]) / 0.05)
        assert 0.6 < ways[0] < 1.1, arm.arm.joints[i].name
        assert max(ways) < 1.1


def test_time_passes_by_one_period_per_command_and_never_else(arm: SimArm) -> None:
    start_s = arm.world.data.time
    arm.read()
    arm.halt()
    assert arm.world.data.time == start_s
    arm.command(home(arm))
    assert arm.world.data.time - start_s == pytest.approx(0.1)


def test_the_stamp_is_the_drivers_clock(arm: SimArm) -> None:
    assert arm.read().stamp_s == 7.0


def test_a_placed_arm_depends_on_nothing_that_came_before(arm: SimArm) -> None:
    def run() -> bytes:
        arm.place(home(arm) + 0.1)
        for k in range(5):
            arm.command(home(arm) + np.float32(0.02 * k))
        return b"".join(bytes(x.tobytes()) for x in (arm.read().values, arm.world.data.qpos, arm.world.data.qvel))

    first = run()
    for _ in range(3):
        arm.command(home(arm) - np.float32(0.2))
    assert run() == first


def test_a_target_beyond_a_joints_range_is_refused(arm: SimArm) -> None:
    with pytest.raises(SpecError, match=f"action.{arm.arm.joints[0].name}.target = 4 rad"):
        arm.command(np.array([4.0, *home(arm)[1:]], np.float32))


def test_motors_do_not_exceed_their_torque(arm: SimArm) -> None:
    target = np.asarray(arm.spec.command.low, np.float32)
    arm.command(target)
    torque = arm.world.data.actuator_force
    limits = [j.torque_nm for j in arm.arm.joints]
    assert (np.abs(torque) <= np.array(limits) + 1e-9).all()


def test_only_the_peg_can_touch_anything(arm: SimArm) -> None:
    model = arm.world.model
    touching = [model.geom(i).name for i in range(model.ngeom) if model.geom_contype[i] or model.geom_conaffinity[i]]
    assert touching == ["peg"]


def test_the_world_has_neither_shadows_nor_multisampling(arm: SimArm) -> None:
    quality = arm.world.model.vis.quality
    assert (quality.shadowsize, quality.offsamples) == (0, 0)
    assert not arm.world.model.light_castshadow.any()
    assert arm.world.model.nmesh == 0


def test_a_closed_world_says_so() -> None:
    world = World(PANDA, substep_s=0.005)
    for name in ("model", "data"):
        with pytest.raises(RobotUnreachable, match="the simulated panda_sim is not open; call open"):
            getattr(world, name)


def test_what_is_added_is_there_after_open() -> None:
    world = World(PANDA, substep_s=0.005)

    def add_ball(body: Element) -> None:
        SubElement(body, "geom", name="ball", type="sphere", size="0.1")

    world.add(add_ball)
    world.open()
    assert world.model.geom("ball").size[0] == 0.1


def test_a_refreshed_world_shows_the_present() -> None:
    arm = SimArm(PANDA, SimArmConfig(), clock=FakeClock())
    arm.open()
    arm.command(home(arm) + np.float32(0.05))
    arm.world.refresh()
    shown = arm.world.data.site("tip").xpos.copy()
    mujoco.mj_forward(arm.world.model, arm.world.data)
    np.testing.assert_array_equal(shown, arm.world.data.site("tip").xpos)


@pytest.mark.parametrize(
    ("config", "line"),
    [
        ({"substep_s": 0.0}, "substep_s = 0.0, allowed above 0 to 0.006"),
        ({"substep_s": 0.01}, "substep_s = 0.01, allowed above 0 to 0.006"),
        ({"rate_hz": 0.0}, "rate_hz = 0.0, allowed above 0 to 500"),
        ({"rate_hz": 501.0}, "rate_hz = 501.0, allowed above 0 to 500"),
    ],
)
def test_a_configuration_that_cannot_work_is_refused(config: dict[str, float], line: str) -> None:
    with pytest.raises(ValueError, match=line):
        SimArmConfig(**config)  # type: ignore[arg-type]


def test_an_arm_names_its_joints() -> None:
    arm: Arm = ARM6
    assert arm.joint_names[:3] == ("shoulder_pan", "shoulder_lift", "elbow")
    assert len(PANDA.joint_names) == 7
