import logging
import time
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from hal.guard import GuardConfig, Guarded
from hal.robot import RobotState
from hal.testing import FakeRobot
from user_rl.clock import FakeClock, FreeRunningClock
from user_rl.errors import ConfigError, RobotFault, RobotUnreachable, SensorStale, SpecError
from user_rl.specs import Array

NOT_SO_FAST = GuardConfig(pace_commands=False)


def guarded(config: GuardConfig = NOT_SO_FAST) -> tuple[Guarded, FakeRobot, FakeClock]:
    clock = FakeClock(100.0)
    robot = FakeRobot(clock=clock)
    guard = Guarded(robot, config, clock=clock)
    guard.open()
    guard.read()
    return guard, robot, clock


def step(*values: float) -> Array:
    return np.array(values, np.float32)


def test_a_command_beyond_its_box_is_clipped_and_what_was_sent_comes_back() -> None:
    guard, robot, _ = guarded()
    sent = guard.command(step(5.0, -5.0))
    np.testing.assert_array_equal(sent, step(0.1, -0.1))
    np.testing.assert_array_equal(robot.sent, [step(0.1, -0.1)])


def test_a_command_inside_its_box_passes_as_it_is() -> None:
    guard, robot, _ = guarded()
    np.testing.assert_array_equal(guard.command(step(0.02, -0.03)), step(0.02, -0.03))
    assert robot.sent[0].dtype == np.float32


def test_a_command_of_doubles_is_sent_as_floats() -> None:
    guard, _, _ = guarded()
    assert guard.command(np.array([0.02, 0.03])).dtype == np.float32


@pytest.mark.parametrize("bad", [step(np.nan, 0), step(0, np.inf), step(0, -np.inf), step(0), step(0, 0, 0)])
def test_a_command_that_is_not_finite_or_of_another_length_is_not_sent(bad: Array) -> None:
    guard, robot, _ = guarded()
    with pytest.raises(SpecError, match=r"fake was asked for .*, allowed 2 finite numbers; nothing was sent"):
        guard.command(bad)
    assert not robot.sent


@given(arrays(np.float32, 2, elements=st.floats(-1e6, 1e6, width=32)))
def test_whatever_is_asked_what_is_sent_is_inside(asked: Array) -> None:
    guard, robot, _ = guarded()
    guard.command(asked)
    robot.spec.command.check(robot.sent[0])


@given(st.lists(arrays(np.float32, 2, elements=st.floats(-0.125, 0.125, width=32)), min_size=2, max_size=10))
def test_whatever_is_asked_two_commands_differ_by_no_more_than_the_limit(asked: list[Array]) -> None:
    guard, robot, _ = guarded(replace(NOT_SO_FAST, max_change=(0.01, 0.05)))
    for target in asked:
        guard.command(target)
    change = np.abs(np.diff(robot.sent, axis=0))
    assert (change <= np.array([0.01, 0.05]) + 1e-6).all()


def test_a_change_is_shortened_towards_what_was_asked() -> None:
    guard, _, _ = guarded(replace(NOT_SO_FAST, max_change=(0.01, 0.05)))
    guard.command(step(0.0, 0.0))
    np.testing.assert_allclose(guard.command(step(0.1, 0.02)), step(0.01, 0.02))


def test_the_first_command_after_a_halt_has_nothing_to_differ_from() -> None:
    guard, _, _ = guarded(replace(NOT_SO_FAST, max_change=(0.01, 0.01)))
    guard.command(step(0.0, 0.0))
    guard.halt()
    np.testing.assert_allclose(guard.command(step(0.1, 0.1)), step(0.1, 0.1))


def test_an_old_reading_halts_the_arm() -> None:
    guard, robot, clock = guarded(replace(NOT_SO_FAST, max_state_age_s=0.5))
    clock.advance(0.6)
    with pytest.raises(SensorStale) as caught:
        guard.command(step(0, 0))
    assert str(caught.value) == (
        "fake's last reading is 0.6 s old, allowed 0.5 s old; halted, read again before commanding"
    )
    assert robot.halts == 1
    assert not robot.sent


def test_a_fresh_reading_mends_a_stale_one() -> None:
    guard, robot, clock = guarded(replace(NOT_SO_FAST, max_state_age_s=0.5))
    clock.advance(0.6)
    with pytest.raises(SensorStale):
        guard.command(step(0, 0))
    guard.read()
    guard.command(step(0, 0))
    assert len(robot.sent) == 1


def test_a_reading_of_just_the_limit_is_fresh_enough() -> None:
    guard, robot, clock = guarded(replace(NOT_SO_FAST, max_state_age_s=0.5))
    clock.advance(0.5)
    guard.command(step(0, 0))
    assert len(robot.sent) == 1


def test_the_age_counts_from_the_stamp_and_not_from_the_call() -> None:
    guard, robot, clock = guarded(replace(NOT_SO_FAST, max_state_age_s=0.5))
    robot.read = lambda: RobotState(stamp_s=clock.now_s() - 1.0, values=step(0, 0))  # type: ignore[method-assign]
    guard.read()
    with pytest.raises(SensorStale, match="is 1 s old"):
        guard.command(step(0, 0))


def test_nothing_is_commanded_before_the_first_reading_of_a_life() -> None:
    guard, robot, _ = guarded()
    guard.close()
    guard.open()
    with pytest.raises(SensorStale, match="still to come"):
        guard.command(step(0, 0))
    assert not robot.sent


def test_the_age_limit_can_be_switched_off() -> None:
    guard, robot, clock = guarded(replace(NOT_SO_FAST, max_state_age_s=None))
    clock.advance(1e6)
    guard.command(step(0, 0))
    assert robot.sent


def test_a_closed_robot_is_not_commanded_through_its_guard() -> None:
    guard, _, _ = guarded()
    guard.close()
    with pytest.raises(RobotUnreachable, match=r"fake is not open; call open\(\) first"):
        guard.command(step(0, 0))


@pytest.mark.parametrize("call", ["read", "command", "open"])
def test_a_fault_of_the_robot_halts_it_and_latches(call: str, caplog: pytest.LogCaptureFixture) -> None:
    guard, robot, _ = guarded()
    robot.fault = "the elbow is hot"
    if call == "open":
        robot.open = robot._check  # type: ignore[method-assign]
    with caplog.at_level(logging.ERROR), pytest.raises(RobotFault, match="the elbow is hot"):
        guard.command(step(0, 0)) if call == "command" else getattr(guard, call)()
    assert robot.halts == 1
    assert "latched: the elbow is hot" in caplog.text
    robot.fault = ""  # the robot is well again, and still nothing moves
    for again in (guard.read, guard.open, lambda: guard.command(step(0, 0))):
        with pytest.raises(RobotFault, match="the elbow is hot"):
            again()
    assert not robot.sent


def test_a_robot_that_cannot_be_halted_either_is_reported(caplog: pytest.LogCaptureFixture) -> None:
    guard, robot, _ = guarded()
    robot.fault = "the elbow is hot"
    robot.halt = robot._check  # type: ignore[method-assign]
    with pytest.raises(RobotFault, match="the elbow is hot"):
        guard.read()
    assert "fake could not be halted either: the elbow is hot" in caplog.text


def test_a_latched_robot_can_be_halted_and_closed() -> None:
    guard, robot, _ = guarded()
    robot.fault = "hot"
    with pytest.raises(RobotFault):
        guard.read()
    guard.halt()
    guard.close()
    assert robot.halts == 2


def test_being_unreachable_is_no_fault() -> None:
    guard, robot, _ = guarded()
    robot.unreachable = True
    with pytest.raises(RobotUnreachable):
        guard.read()
    robot.unreachable = False
    guard.read()


def test_a_state_beyond_its_limit_halts_and_latches() -> None:
    guard, robot, _ = guarded(replace(NOT_SO_FAST, state_limits={"point.y": [-0.5, 0.5]}))
    robot.place(np.array([1.9, 0.5]))
    guard.read()
    robot.place(np.array([0.0, -0.6]))
    with pytest.raises(RobotFault) as caught:
        guard.read()
    assert str(caught.value) == (
        "fake: point.y = -0.6 m, allowed [-0.5, 0.5]; look at the robot, bring it back inside, start again"
    )
    assert robot.halts == 1
    robot.place(np.zeros(2))
    with pytest.raises(RobotFault, match=r"point\.y"):
        guard.command(step(0, 0))


@pytest.mark.parametrize(("y", "inside"), [(-0.51, False), (-0.5, True), (0.5, True), (0.51, False)])
def test_a_limit_has_two_ends(y: float, inside: bool) -> None:
    guard, robot, _ = guarded(replace(NOT_SO_FAST, state_limits={"point.y": [-0.5, 0.5]}))
    robot.place(np.array([0.0, y]))
    if inside:
        guard.read()
    else:
        with pytest.raises(RobotFault):
            guard.read()


def test_commands_that_come_too_early_wait_for_their_turn() -> None:
    guard, _, clock = guarded(GuardConfig())
    start_s = clock.now_s()
    for _ in range(10):
        guard.command(step(0, 0))
    assert clock.now_s() - start_s == pytest.approx(0.85)  # nine periods of 0.1 s, less the half that may be early


def test_a_loop_that_keeps_the_rate_never_waits() -> None:
    guard, _, clock = guarded(GuardConfig())
    for k in range(20):
        clock.advance(0.06 if k % 2 else 0.14)  # every other step is late by 40 % of a period
        guard.read()
        guard.command(step(0, 0))
    assert not clock.sleeps_s


def test_a_pause_is_not_saved_up() -> None:
    guard, _, clock = guarded(GuardConfig(max_state_age_s=None))
    guard.command(step(0, 0))
    clock.advance(10.0)
    start_s = clock.now_s()
    for _ in range(5):
        guard.command(step(0, 0))
    assert clock.now_s() - start_s == pytest.approx(0.35)


def test_a_free_running_clock_is_not_held_back() -> None:
    clock = FreeRunningClock()
    guard = Guarded(FakeRobot(clock=clock), clock=clock)
    guard.open()
    guard.read()
    start_s = time.monotonic()
    for _ in range(100):
        guard.command(step(0, 0))
    assert time.monotonic() - start_s < 5.0  # at the robot's rate it would be ten


@pytest.mark.parametrize(
    ("config", "line"),
    [
        (GuardConfig(max_change=(0.1,)), r"guard.max_change = \[0.1\], allowed 2 positive numbers \(point.delta.x"),
        (GuardConfig(max_change=(0.1, 0.0)), r"guard.max_change = \[0.1, 0.0\], allowed 2 positive numbers"),
        (GuardConfig(state_limits={"z": [0, 1]}), r"guard.state_limits.z: no such element, allowed point.x, point.y"),
        (GuardConfig(state_limits={"point.x": 3}), r"guard.state_limits.point.x = 3, allowed \[low, high\]"),
        (GuardConfig(state_limits={"point.x": [1]}), r"guard.state_limits.point.x = \[1\], allowed \[low, high\]"),
    ],
)
def test_a_limit_that_cannot_be_meant_is_refused(config: GuardConfig, line: str) -> None:
    with pytest.raises(ConfigError, match=line):
        Guarded(FakeRobot(clock=FakeClock()), config, clock=FakeClock())


def test_the_guard_shows_the_robots_own_spec() -> None:
    guard, robot, _ = guarded()
    assert guard.spec is robot.spec
