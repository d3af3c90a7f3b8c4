"""Each limit shortens what is asked, or says what was measured; each key that cannot be is refused by its name."""

import re
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from hal.limits import LONGEST_PERIODS, AskLimits, FeltLimits, GuardConfig
from hal.robot import OnSilence, RobotSpec
from user_rl.errors import ConfigError
from user_rl.specs import Array, box

RATE_HZ = 10.0
PERIOD_S = 1 / RATE_HZ
JOINTS = RobotSpec(
    model="two",
    state=box("observation.state", [
        ("joint1.position", "rad", -4.0, 4.0), ("joint2.position", "rad", -4.0, 4.0),
        ("joint1.velocity", "rad/s", -9.0, 9.0), ("joint2.velocity", "rad/s", -9.0, 9.0),
        ("tip.x", "m", -2.0, 2.0), ("tip.y", "m", -2.0, 2.0), ("tip.z", "m", -2.0, 2.0),
        *((f"tip.force.{axis}", "N", -500.0, 500.0) for axis in "xyz"),
        *((f"tip.torque.{axis}", "Nm", -50.0, 50.0) for axis in "xyz"),
    ]),
    command=box("action", [("joint1.target", "rad", -3.0, 3.0), ("joint2.target", "rad", -3.0, 3.0)]),
    rate_hz=RATE_HZ, on_silence=OnSilence.STOPS,
)  # fmt: skip
TIP = RobotSpec(
    model="tip",
    state=box("observation.state", [(f"tip.{axis}", "m", -2.0, 2.0) for axis in "xyz"]),
    command=box("action", [(f"tip.delta.{axis}", "m", -0.1, 0.1) for axis in "xyz"]),
    rate_hz=RATE_HZ, on_silence=OnSilence.STOPS,
)  # fmt: skip
BOX = {"tip.x": [-0.5, 0.5], "tip.y": [-0.5, 0.5], "tip.z": [0.0, 1.0]}


def reading(spec: RobotSpec, **values: float) -> Array:
    found = np.zeros(spec.state.shape, np.float32)
    for name, value in values.items():
        found[spec.state.names.index(name.replace("_", "."))] = value
    return found


def asked(
    spec: RobotSpec, config: GuardConfig, *target: float, sent: Array | None = None, since_s: float = PERIOD_S,
    **measured: float,
) -> Array:  # fmt: skip
    given_ = np.array(target, np.float32)
    return AskLimits(spec, config).shortened(given_, sent, reading(spec, **measured), since_s)


def test_a_target_beyond_a_joint_limit_stops_at_it() -> None:
    config = GuardConfig(limits={"joint1": [-1.0, 1.0]})
    np.testing.assert_allclose(asked(JOINTS, config, 2.0, 2.0), [1.0, 2.0])
    np.testing.assert_allclose(asked(JOINTS, config, -2.0, -2.0), [-1.0, -2.0])


def test_a_pattern_limits_every_joint_that_it_names() -> None:
    np.testing.assert_allclose(asked(JOINTS, GuardConfig(limits={"joint*": [-1.0, 1.0]}), 2.0, -2.0), [1.0, -1.0])


def test_a_step_that_would_leave_the_workspace_ends_at_its_wall() -> None:
    sent = asked(TIP, GuardConfig(limits=BOX), 0.1, -0.1, -0.1, tip_x=0.45, tip_y=0.0, tip_z=0.02)
    np.testing.assert_allclose(sent, [0.05, -0.1, -0.02], atol=1e-6)


def test_a_tip_outside_its_workspace_may_come_back_and_goes_no_further() -> None:
    config = GuardConfig(limits=BOX)
    np.testing.assert_allclose(asked(TIP, config, 0.1, 0.0, 0.0, tip_x=0.6)[0], 0.0)
    np.testing.assert_allclose(asked(TIP, config, -0.05, 0.0, 0.0, tip_x=0.6)[0], -0.05)


@given(
    arrays(np.float32, 3, elements=st.floats(-0.5, 0.5, width=32)),
    arrays(np.float32, 3, elements=st.floats(0, 0.5, width=32)),
)
def test_whatever_is_asked_from_inside_the_tip_stays_inside(target: Array, at: Array) -> None:
    sent = asked(TIP, GuardConfig(limits=BOX), *target.tolist(), tip_x=at[0], tip_y=at[1], tip_z=at[2])
    after = at + sent
    assert (after >= np.array([-0.5, -0.5, 0.0]) - 1e-6).all()
    assert (after <= np.array([0.5, 0.5, 1.0]) + 1e-6).all()


def test_a_joint_is_asked_to_go_no_faster_than_it_may() -> None:
    config = GuardConfig(max_speed={"joint1": 0.5})
    sent = asked(JOINTS, config, 1.0, 1.0, sent=np.array([0.2, 0.2], np.float32))
    np.testing.assert_allclose(sent, [0.25, 1.0])


def test_the_first_target_starts_from_where_the_joint_is() -> None:
    sent = asked(JOINTS, GuardConfig(max_speed={"joint*": 0.5}), 2.0, -2.0, joint1_position=1.0, joint2_position=1.0)
    np.testing.assert_allclose(sent, [1.05, 0.95])


def test_a_speed_limit_counts_the_time_that_has_passed_and_no_more_than_two_periods_of_it() -> None:
    config, sent = GuardConfig(max_speed={"joint1": 1.0}), np.zeros(2, np.float32)
    np.testing.assert_allclose(asked(JOINTS, config, 1.0, 0.0, sent=sent, since_s=0.5 * PERIOD_S)[0], 0.05)
    np.testing.assert_allclose(asked(JOINTS, config, 1.0, 0.0, sent=sent, since_s=60.0)[0], LONGEST_PERIODS * PERIOD_S)


def test_a_step_of_the_tip_is_shortened_to_its_speed() -> None:
    np.testing.assert_allclose(
        asked(TIP, GuardConfig(max_speed={"tip.*": 0.2}), 0.1, -0.1, 0.01, sent=np.full(3, 0.1, np.float32)),
        [0.02, -0.02, 0.01],
        atol=1e-7,
    )


@pytest.mark.parametrize(
    ("config", "values", "sentence"),
    [
        (
            GuardConfig(limits={"joint1": [-1, 1]}),
            {"joint1_position": 1.1},
            "joint1.position = 1.1 rad, allowed [-1.04, 1.04]",
        ),
        (GuardConfig(limits=BOX), {"tip_z": -0.05}, "tip.z = -0.05 m, allowed [-0.02, 1.02]; look at the robot"),
        (GuardConfig(limits=BOX, tolerance=0.0), {"tip_z": -0.01}, "tip.z = -0.01 m, allowed [0, 1]"),
        (
            GuardConfig(state_limits={"*.velocity": [-2, 2]}),
            {"joint2_velocity": -3.0},
            "joint2.velocity = -3 rad/s, allowed [-2, 2]",
        ),
        (
            GuardConfig(max_force_n=50.0),
            {"tip_force_x": 30.0, "tip_force_y": 40.0, "tip_force_z": 5.0},
            "tip.force = 50.25 N, allowed 50; look at what it touches",
        ),
        (GuardConfig(max_torque_nm=5.0), {"tip_torque_z": -6.0}, "tip.torque = 6 Nm, allowed 5"),
    ],
)
def test_what_is_measured_beyond_a_limit_is_said(config: GuardConfig, values: dict[str, float], sentence: str) -> None:
    said = FeltLimits(JOINTS, config).broken(reading(JOINTS, **values))
    assert said is not None
    assert said.startswith(sentence)


@pytest.mark.parametrize(
    ("config", "values"),
    [
        (GuardConfig(limits={"joint1": [-1, 1]}), {"joint1_position": 1.03, "joint2_position": 3.0}),
        (GuardConfig(max_force_n=50.0), {"tip_force_x": 30.0, "tip_force_y": 39.0}),
        (GuardConfig(), {"tip_z": -2.0}),
    ],
)
def test_what_is_within_its_limits_is_not(config: GuardConfig, values: dict[str, float]) -> None:
    assert FeltLimits(JOINTS, config).broken(reading(JOINTS, **values)) is None


def test_a_reading_that_is_no_number_breaks_every_limit() -> None:
    for config in (GuardConfig(limits={"joint1": [-1, 1]}), GuardConfig(max_force_n=50.0)):
        assert FeltLimits(JOINTS, config).broken(np.full(JOINTS.state.shape, np.nan, np.float32)) is not None


def test_without_limits_nothing_is_looked_at() -> None:
    assert not AskLimits(JOINTS, GuardConfig()).any
    assert not FeltLimits(JOINTS, GuardConfig()).any


@pytest.mark.parametrize(
    ("spec", "config", "line"),
    [
        (
            JOINTS,
            {"limits": {"joint3": [0, 1]}},
            "guard.limits.joint3: two has no such axis, allowed joint1, joint2, tip.x, tip.y, tip.z; change the key",
        ),
        (
            JOINTS,
            {"limits": {"joint1": [1, 0]}},
            "guard.limits.joint1 = [1, 0], allowed low < high; change one of them",
        ),
        (JOINTS, {"limits": {"joint1": 3}}, "guard.limits.joint1 = 3, allowed [low, high]; change it"),
        (
            JOINTS,
            {"max_speed": {"elbow": 1.0}},
            "guard.max_speed.elbow: no such axis in action, allowed joint1, joint2; change the key",
        ),
        (
            JOINTS,
            {"state_limits": {"elbow": [0, 1]}},
            "guard.state_limits.elbow: no such element, allowed joint1.position,",
        ),
        (TIP, {"max_force_n": 3.0}, "guard.max_force_n = 3, but the robot measures no force (NAME.force.x, .y, .z)"),
        (TIP, {"max_torque_nm": 3.0}, "guard.max_torque_nm = 3, but the robot measures no torque"),
        (
            JOINTS,
            {"max_change": (0.1,)},
            "guard.max_change = [0.1], allowed 2 positive numbers (joint1.target, joint2.target)",
        ),
    ],
)
def test_a_limit_that_cannot_be_is_refused(spec: RobotSpec, config: dict[str, Any], line: str) -> None:
    with pytest.raises(ConfigError, match=f"^{re.escape(line)}"):
        (AskLimits(spec, GuardConfig(**config)), FeltLimits(spec, GuardConfig(**config)))


def test_an_axis_that_moves_by_steps_and_is_not_measured_cannot_be_limited() -> None:
    blind = RobotSpec(
        model="blind", state=box("observation.state", [("battery", "V", 0.0, 50.0)]), command=TIP.command,
        rate_hz=RATE_HZ, on_silence=OnSilence.STOPS,
    )  # fmt: skip
    with pytest.raises(
        ConfigError, match=r"^guard\.limits\.tip\.x: tip\.delta\.x moves an axis that blind does not meas"
    ):
        AskLimits(blind, GuardConfig(limits={"tip.x": [0, 1]}))


@pytest.mark.parametrize(
    ("config", "line"),
    [
        ({"max_force_n": 0.0}, "max_force_n = 0.0, allowed above 0"),
        ({"max_speed": {"joint1": -1.0}}, "max_speed.joint1 = -1.0, allowed above 0"),
        ({"tolerance": -0.1}, "tolerance = -0.1, allowed 0 or more"),
    ],
)
def test_a_number_that_limits_nothing_is_refused(config: dict[str, Any], line: str) -> None:
    with pytest.raises(ValueError, match=line):
        GuardConfig(**config)
