"""The driver over franky's surface, faked; and that surface against the franky that is installed."""

import inspect
import re
import socket
import sys
from collections.abc import Iterator
from typing import Any

import franky
import numpy as np
import pytest

import hal.emulators.franka as fake
from hal.dh import FRANKA_HOME
from hal.emulators.franka import FakeFranky
from hal.franka import Franka, FrankaConfig
from hal.kits import Motion, check_robot
from hal.robot import OnSilence
from user_rl.clock import FakeClock
from user_rl.errors import ConfigError, RobotFault, RobotUnreachable, SpecError
from user_rl.specs import Array

HOST = "127.80.0.1"
HOME = np.array(FRANKA_HOME, np.float32)


class RisingClock(FakeClock):
    """A millisecond passes whenever somebody looks."""

    def now_s(self) -> float:
        self.advance(0.001)
        return super().now_s()


@pytest.fixture
def sdk(monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeFranky]:
    """With somebody at the arm's port, on a free one of this machine."""
    with socket.create_server((HOST, 0)) as listener:
        monkeypatch.setattr("hal.franka._FCI_PORT", listener.getsockname()[1])
        yield FakeFranky(RisingClock(5.0))


def make(sdk: FakeFranky, **config: Any) -> Franka:  # noqa: ANN401
    return Franka(FrankaConfig(host=HOST, **config), clock=sdk.arm.clock, sdk=sdk)


def opened(sdk: FakeFranky, **config: Any) -> Franka:  # noqa: ANN401
    robot = make(sdk, **config)
    robot.open()
    return robot


def turned(by: float) -> Array:
    return HOME + np.array([by, 0, 0, 0, 0, 0, 0], np.float32)


def advance(sdk: FakeFranky, by_s: float) -> None:
    assert isinstance(sdk.arm.clock, FakeClock)
    sdk.arm.clock.advance(by_s)


def test_franka_keeps_the_robot_contract(sdk: FakeFranky) -> None:
    far = Motion(commands=[HOME + np.float32(0.2)] * 4)  # every joint turns, for longer than a period
    check_robot(lambda: make(sdk, dynamics=0.1), harmless=HOME, motion=far, clock=sdk.arm.clock)
    assert sdk.arm.target is None


def test_the_spec_is_a_joint_arm_that_stops_on_silence(sdk: FakeFranky) -> None:
    spec = make(sdk, rate_hz=20.0).spec
    assert (spec.model, spec.rate_hz, spec.on_silence) == ("fr3_joints", 20.0, OnSilence.STOPS)
    assert (spec.state.names[0], spec.state.names[7]) == ("joint1.position", "joint1.velocity")
    assert spec.command.names == tuple(f"joint{i + 1}.target" for i in range(7))


def test_it_is_opened_as_configured(sdk: FakeFranky) -> None:
    opened(sdk, dynamics=0.3)
    opened(sdk, realtime=False)
    assert sdk.opened == [
        {"host": HOST, "dynamics": 0.3, "realtime": fake.RealtimeConfig.Enforce},
        {"host": HOST, "dynamics": 0.2, "realtime": fake.RealtimeConfig.Ignore},
    ]


def test_readings_are_positions_and_measured_velocities(sdk: FakeFranky) -> None:
    robot = opened(sdk)
    np.testing.assert_allclose(robot.read().values, [*FRANKA_HOME, *[0.0] * 7], atol=1e-6)
    robot.command(turned(1.0))
    advance(sdk, 0.1)
    moving = robot.read().values
    assert moving[7] == pytest.approx(2.62 * 0.2, rel=1e-3)
    assert 0.05 < moving[0] < 0.06
    advance(sdk, 10.0)
    robot.read()
    np.testing.assert_allclose(robot.read().values, [1.0, *FRANKA_HOME[1:], *[0.0] * 7], atol=1e-6)


def test_the_newest_target_replaces_the_old_and_is_held(sdk: FakeFranky) -> None:
    robot = opened(sdk)
    for by in (0.1, 0.2):
        np.testing.assert_array_equal(robot.command(turned(by)), turned(by))
    first, second = sdk.motions
    assert isinstance(first, fake.JointMotion)
    assert isinstance(second, fake.JointMotion)
    np.testing.assert_array_equal(second.target, turned(0.2).astype(np.float64))
    assert not second.return_when_finished


def test_stamps_are_of_the_drivers_clock_not_the_arms(sdk: FakeFranky) -> None:
    robot = opened(sdk)
    first = robot.read().stamp_s
    advance(sdk, 1.0)
    later = robot.read().stamp_s
    assert 5.0 < first < 5.1
    assert 1.0 <= later - first < 1.1
    assert later <= sdk.arm.clock.now_s()


def test_a_halt_decelerates_and_a_still_arm_needs_none(sdk: FakeFranky) -> None:
    robot = opened(sdk)
    robot.halt()
    assert sdk.motions == []
    robot.command(turned(1.0))
    robot.halt()
    assert isinstance(sdk.motions[-1], fake.JointStopMotion)
    assert sdk.arm.target is None
    assert sdk.stops == 0


def test_a_halt_that_does_not_end_is_made_by_fci(sdk: FakeFranky) -> None:
    robot = opened(sdk)
    sdk.arm.will_stop = False
    robot.command(turned(1.0))
    robot.halt()
    assert (sdk.stops, sdk.arm.target) == (1, None)


def test_a_halt_after_a_reflex_is_quiet(sdk: FakeFranky) -> None:
    robot = opened(sdk)
    robot.command(turned(1.0))
    sdk.arm.refusal = fake.ControlException("reflex")
    robot.halt()


def test_a_close_stops_the_arm_and_lets_go(sdk: FakeFranky) -> None:
    robot = opened(sdk)
    robot.command(turned(1.0))
    robot.close()
    assert sdk.arm.target is None
    with pytest.raises(RobotUnreachable, match=f"the Franka arm at {HOST} is not open; call open"):
        robot.read()


def test_a_reflex_is_a_fault_that_stays(sdk: FakeFranky) -> None:
    robot = opened(sdk)
    robot.command(turned(1.0))
    sdk.arm.reflex()
    with pytest.raises(RobotFault, match=r"stopped: libfranka: Move command aborted: .*; look at the arm, clear it in"):
        robot.read()
    line = (
        f"the Franka arm at {HOST} is in mode Reflex (joint_reflex), allowed Idle or Move; "
        "look at the arm, clear it in Franka Desk, then start again"
    )
    for call in (robot.read, lambda: robot.command(turned(0.0)), make(sdk).open):
        with pytest.raises(RobotFault, match=re.escape(line)):
            call()


@pytest.mark.parametrize("mode", [fake.RobotMode.UserStopped, fake.RobotMode.Guiding, fake.RobotMode.Other])
def test_a_mode_in_which_it_does_not_move_is_a_fault(sdk: FakeFranky, mode: fake.RobotMode) -> None:
    robot = opened(sdk)
    sdk.arm.mode = mode
    with pytest.raises(RobotFault, match=rf"is in mode {mode.name} \(no error\), allowed Idle or Move"):
        robot.read()


def test_an_error_in_a_good_mode_is_a_fault_too(sdk: FakeFranky) -> None:
    robot = opened(sdk)
    sdk.arm.errors.communication_constraints_violation = True
    with pytest.raises(RobotFault, match=r"is in mode Idle \(communication_constraints_violation\)"):
        robot.read()


def test_a_lost_link_is_unreachable_whatever_is_called(sdk: FakeFranky) -> None:
    robot = opened(sdk)
    robot.command(turned(1.0))
    sdk.arm.is_reachable = False
    line = f"the Franka arm at {HOST}: libfranka: UDP receive: Timeout; look at the cable, activate FCI, open again"
    for call in (robot.read, lambda: robot.command(turned(0.0)), robot.halt):
        with pytest.raises(RobotUnreachable, match=line):
            call()
    robot.close()


@pytest.mark.parametrize("error", [fake.ControlException, fake.CommandException, fake.RealtimeException])
def test_a_refused_motion_is_a_fault(sdk: FakeFranky, error: type[Exception]) -> None:
    robot = opened(sdk)
    move = fake.Robot.move

    def refuse(*_: object, **__: object) -> None:
        raise error("no")

    fake.Robot.move = refuse  # type: ignore[method-assign]
    try:
        with pytest.raises(RobotFault, match=f"the Franka arm at {HOST} refused a motion: no; look at the arm"):
            robot.command(turned(0.1))
    finally:
        fake.Robot.move = move  # type: ignore[method-assign]


def test_an_arm_without_fci_and_another_firmware_are_named(sdk: FakeFranky, monkeypatch: pytest.MonkeyPatch) -> None:
    sdk.arm.is_reachable = False
    with pytest.raises(RobotUnreachable, match=r"no control of the Franka arm .*: libfranka: Connection timeout; act"):
        make(sdk).open()

    def refuse(*_: object, **__: object) -> None:
        raise fake.IncompatibleVersionException("server version 5, library version 10")

    monkeypatch.setattr(sdk, "Robot", refuse)
    with pytest.raises(ConfigError, match=r"server version 5, library version 10; install franky for its firmware"):
        make(sdk).open()


def test_nobody_at_the_port_is_unreachable() -> None:
    robot = Franka(FrankaConfig(host="127.80.0.2"), clock=FakeClock(), sdk=FakeFranky(FakeClock()))
    with pytest.raises(RobotUnreachable, match=r"no Franka control interface at 127.80.0.2, port 1337: "):
        robot.open()


def test_a_target_beyond_a_joints_range_is_refused_before_the_arm_sees_it(sdk: FakeFranky) -> None:
    robot = opened(sdk)
    with pytest.raises(SpecError, match=r"action.joint1.target = 3 rad, allowed \[-2.744, 2.744\]"):
        robot.command(turned(3.0))
    assert sdk.motions == []


def test_config_and_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    sdk = FakeFranky(FakeClock())
    monkeypatch.setenv("ROBOT_IP", "10.0.0.7")
    assert Franka(FrankaConfig(), clock=FakeClock(), sdk=sdk).host == "10.0.0.7"
    monkeypatch.delenv("ROBOT_IP")
    with pytest.raises(ConfigError, match=r"allowed the address of the Franka arm; give robot.host=ADDRESS or set"):
        Franka(FrankaConfig(), clock=FakeClock(), sdk=sdk)
    with pytest.raises(ValueError, match=r"dynamics = 1.5, allowed above 0 to 1; change it"):
        FrankaConfig(dynamics=1.5)


def test_without_franky_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "franky", None)
    with pytest.raises(ConfigError, match=r"robot=franka needs franky; pip install 'user-rl\[franka\]'"):
        Franka(FrankaConfig(host=HOST), clock=FakeClock())


# The fake against the package: names, arguments, members, and what can be made without an arm.

CALLS = [
    (fake.FakeFranky.Robot, franky.Robot.__init__),
    (fake.Robot.move, franky.Robot.move),
    (fake.Robot.poll_motion, franky.Robot.poll_motion),
    (fake.Robot.join_motion, franky.Robot.join_motion),
    (fake.Robot.stop, franky.Robot.stop),
    (fake.JointMotion.__init__, franky.JointMotion.__init__),
    (fake.JointStopMotion.__init__, franky.JointStopMotion.__init__),
    (fake.Duration.to_sec, franky.Duration.to_sec),
]  # fmt: skip


@pytest.mark.parametrize(("ours", "theirs"), CALLS, ids=lambda call: call.__qualname__)
def test_each_call_of_the_fake_takes_what_frankys_takes(ours: Any, theirs: Any) -> None:  # noqa: ANN401
    named = set(re.findall(r"[(,] (\w+):|\((\w+):", theirs.__doc__))
    known = {a or b for a, b in named} | set(re.findall(r", (\w+): ", theirs.__doc__))
    assert {name.removesuffix("_s") for name in inspect.signature(ours).parameters} - {"self"} <= known


def test_what_the_fake_has_franky_has() -> None:
    for name in ("NetworkException", "ControlException", "CommandException", "RealtimeException"):
        assert issubclass(getattr(franky, name), Exception)
    assert issubclass(franky.IncompatibleVersionException, Exception)
    for enum in (fake.RobotMode, fake.RealtimeConfig):
        members = getattr(franky, enum.__name__).__members__
        assert {m.name: m.value for m in enum} == {name: int(member) for name, member in members.items()}
    for name in ("is_in_control", "has_errors", "state"):
        assert isinstance(getattr(franky.Robot, name), property)
    for name in fake.RobotState.__annotations__:
        assert isinstance(getattr(franky.RobotState, name), property)
    for name in fake.Errors.__annotations__:
        assert getattr(franky.Errors(), name) is False


def test_frankys_own_motions_take_the_drivers_arguments() -> None:
    motion = franky.JointMotion(turned(0.1).astype(np.float64), return_when_finished=False)
    np.testing.assert_array_equal(motion.target.position, turned(0.1))
    np.testing.assert_array_equal(motion.target.velocity, np.zeros(7))
    assert not motion.return_when_finished
    assert isinstance(motion, franky.BaseJointPositionMotion)
    assert isinstance(franky.JointStopMotion(), franky.BaseJointPositionMotion)


def test_what_franky_raises_without_an_arm_the_driver_names(monkeypatch: pytest.MonkeyPatch) -> None:
    """The real SDK against a port that hangs up."""
    with socket.create_server((HOST, 0)) as listener:
        monkeypatch.setattr("hal.franka._FCI_PORT", listener.getsockname()[1])
        robot = Franka(FrankaConfig(host=HOST, timeout_s=1.0), clock=FakeClock())
        with pytest.raises(RobotUnreachable, match=f"no control of the Franka arm at {HOST}: .*; activate FCI"):
            robot.open()
