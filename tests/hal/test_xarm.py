"""The xArm driver through UFACTORY's own SDK, against the emulator of the controller."""

import itertools
import math
import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from hal.composite import Composite
from hal.emulators.robotiq import robotiq_emulator
from hal.emulators.xarm import FASTEST_RAD_S, Controller, XArmEmulator, xarm_emulator
from hal.guard import Guarded
from hal.kits import check_robot
from hal.robotiq import Robotiq, RobotiqConfig
from hal.xarm import MODELS, XArm, XArmConfig, stop
from user_rl.clock import FakeClock, SystemClock
from user_rl.errors import ConfigError, RobotFault, RobotUnreachable, SpecError
from user_rl.specs import Array

pytestmark = pytest.mark.slow  # each connects through the SDK, whose threads take their time

HOSTS = (f"127.{1 + os.getpid() % 250}.{os.getpid() // 250 % 250}.{i}" for i in itertools.count(1))


@pytest.fixture(autouse=True)
def _what_the_sdk_does_to_its_process(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[None]:
    monkeypatch.setenv("HOME", str(tmp_path))  # it makes a folder there when it is imported
    socket.setdefaulttimeout(None)
    yield
    socket.setdefaulttimeout(None)


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


@pytest.fixture
def emulator(clock: FakeClock) -> Iterator[XArmEmulator]:
    with xarm_emulator(host=next(HOSTS), clock=clock) as running:
        yield running


def make(emulator: XArmEmulator, *, answer_s: float = 1.0, **more: Any) -> XArm:  # noqa: ANN401
    config = XArmConfig(
        host=emulator.host, port=emulator.port, answer_s=answer_s, rate_hz=0.9 / answer_s, connect_s=20.0, **more
    )
    return XArm(config, clock=SystemClock())


@pytest.fixture
def arm(emulator: XArmEmulator) -> Iterator[XArm]:
    arm = make(emulator)
    arm.open()
    yield arm
    arm.close()


def to(*angles: float) -> Array:
    return np.array([*angles, *[0.0] * (6 - len(angles))], np.float32)


def test_the_xarm_keeps_the_contract_bare_and_guarded(emulator: XArmEmulator) -> None:
    arm = make(emulator)
    check_robot(lambda: arm)
    guarded = Guarded(arm, clock=FakeClock())
    check_robot(lambda: guarded)
    assert emulator.controller.cleanings == 0


@pytest.mark.parametrize("model", MODELS)
def test_every_model_is_told_by_its_joints_and_type(model: str) -> None:
    joints, kind = len(MODELS[model].degrees), MODELS[model].types[-1]
    with xarm_emulator(Controller(axes=joints, kind=kind), host=next(HOSTS)) as emulator:
        arm = make(emulator, model=model)
        arm.open()
        assert len(arm.read().values) == 2 * joints
        arm.close()


def test_it_goes_where_it_is_told_and_says_how_fast(arm: XArm, clock: FakeClock) -> None:
    sent = arm.command(to(1.0, -0.5))
    clock.advance(0.1)
    moving = dict(zip(arm.spec.state.names, arm.read().values, strict=True))
    assert moving["joint1.position"] == pytest.approx(FASTEST_RAD_S * 0.1, abs=1e-5)
    assert moving["joint1.velocity"] == pytest.approx(FASTEST_RAD_S)
    assert moving["joint2.velocity"] == pytest.approx(-FASTEST_RAD_S)
    assert moving["joint3.velocity"] == 0
    clock.advance(5)
    there = arm.read().values
    np.testing.assert_allclose(there[:6], sent, atol=1e-6)
    assert not there[6:].any()


@pytest.mark.parametrize("way", ["halt", "close"])
def test_a_stop_stops_the_motion(arm: XArm, emulator: XArmEmulator, clock: FakeClock, way: str) -> None:
    arm.command(to(1.0))
    clock.advance(0.1)
    getattr(arm, way)()
    clock.advance(5)
    emulator.pass_time()
    assert emulator.controller.position[0] == pytest.approx(FASTEST_RAD_S * 0.1)
    assert emulator.controller.state == 4


def test_after_a_halt_the_next_command_moves_it_again(arm: XArm, clock: FakeClock) -> None:
    arm.halt()
    arm.halt()
    arm.command(to(0.2))
    clock.advance(5)
    assert arm.read().values[0] == pytest.approx(0.2)


def test_the_halt_command_stops_an_arm_whose_process_is_gone(
    arm: XArm, emulator: XArmEmulator, clock: FakeClock
) -> None:
    arm.command(to(1.0))
    clock.advance(0.1)
    subprocess.run(arm.spec.halt_command, check=True, timeout=60)
    clock.advance(5)
    emulator.pass_time()
    assert emulator.controller.position[0] == pytest.approx(FASTEST_RAD_S * 0.1)
    with pytest.raises(
        RobotFault, match=r"refuses a joint target: it is not ready to move \(state \d\); look at UFACTORY"
    ):
        arm.command(to(1.0))  # whoever stopped it is asked, not overruled


def test_the_halt_command_says_what_went_wrong() -> None:
    def run(*arguments: str) -> str:
        command = [sys.executable, "-m", "hal.xarm", *arguments]
        return subprocess.run(command, capture_output=True, text=True, timeout=60, check=False).stderr.strip()

    assert run("stop") == "usage: python -m hal.xarm halt HOST [PORT]"
    assert run("halt", "127.0.0.1", "1").startswith("the xArm at 127.0.0.1:1 cannot be stopped: ")


def test_a_stop_that_is_not_taken_is_said(emulator: XArmEmulator) -> None:
    emulator.mute = True
    with pytest.raises(RobotUnreachable, match="cannot be stopped: timed out; it may still move"):
        stop(emulator.host, emulator.port)
    emulator.mute = False
    emulator.answer = lambda frame: b"HTTP/1."  # type: ignore[method-assign]
    with pytest.raises(RobotUnreachable, match="does not take a stop; it may still move"):
        stop(emulator.host, emulator.port)


@pytest.mark.parametrize(
    ("alarm", "line"),
    [
        (
            {"error": 1},
            r"reports error C1: .*Emergency Stop.*; look at the arm, clear it in UFACTORY Studio, start again",
        ),
        ({"error": 31}, r"reports error C31: "),
        ({"warning": 11}, r"reports warning W11: "),
    ],
)
def test_an_alarm_is_a_fault_by_its_name_and_nothing_clears_it(
    arm: XArm, emulator: XArmEmulator, alarm: dict[str, int], line: str
) -> None:
    for name, number in alarm.items():
        setattr(emulator.controller, name, number)
    for _ in range(2):
        with pytest.raises(RobotFault, match=line):
            arm.read()
    arm.halt()
    with pytest.raises(RobotFault, match=line):
        arm.command(to(0.1))
    emulator.controller.is_enabled = False
    again = make(emulator)
    with pytest.raises(RobotFault, match=line):
        again.open()
    assert not emulator.controller.is_enabled
    assert emulator.controller.cleanings == 0


def test_an_alarm_during_a_command_is_a_fault(arm: XArm, emulator: XArmEmulator) -> None:
    emulator.controller.error = 24
    with pytest.raises(RobotFault, match="reports error C24: "):
        arm.command(to(0.1))


def test_a_controller_that_says_nothing_is_unreachable_in_time(emulator: XArmEmulator) -> None:
    arm = make(emulator, answer_s=0.2, lost_s=0.1)
    arm.open()
    arm.read()
    emulator.mute = True
    start_s = SystemClock().now_s()
    with pytest.raises(
        RobotUnreachable, match=r"was asked for the state of its joints and did not answer .*\(code 3\)"
    ):
        arm.read()
    with pytest.raises(RobotUnreachable, match=r"was asked for a joint target"):
        arm.command(to(0.1))
    assert SystemClock().now_s() - start_s < 3
    emulator.mute = False
    arm.close()


def test_an_answer_that_is_only_late_keeps_the_reading_and_its_age(emulator: XArmEmulator) -> None:
    arm = make(emulator, answer_s=0.2, lost_s=5.0)
    arm.open()
    state = arm.read()
    emulator.mute = True
    assert arm.read() is state
    np.testing.assert_array_equal(arm.command(to(0.1)), to(0.1))
    emulator.mute = False
    later = arm.read()
    assert later.stamp_s > state.stamp_s
    assert emulator.controller.target[0] == pytest.approx(0.1)
    arm.close()


def test_a_lost_link_is_unreachable_and_closing_says_that_it_did_not_halt(
    arm: XArm, emulator: XArmEmulator, caplog: pytest.LogCaptureFixture
) -> None:
    emulator.close()
    for call in (arm.read, lambda: arm.command(to(0.0)), arm.halt):
        with pytest.raises(RobotUnreachable):
            call()
    arm.close()
    assert "is closed without a halt" in caplog.text
    arm.close()


def test_a_link_that_is_slow_for_a_moment_still_halts(emulator: XArmEmulator, clock: FakeClock) -> None:
    """The halt goes over a connection of its own when the SDK gets no answer in time."""
    arm = make(emulator)
    arm.open()
    arm.command(to(1.0))
    clock.advance(0.1)
    arm._arm.set_state = lambda state: 3  # the SDK's code for no answer
    for _ in range(2):
        emulator.controller.is_stopped = False
        arm.halt()
        assert emulator.controller.is_stopped
        arm._arm.get_state()  # by now the SDK takes it for stopped
    del arm._arm.set_state
    arm.close()


def test_an_arm_may_be_called_by_its_name(emulator: XArmEmulator, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as names:
        names.setattr(socket, "gethostbyname", {"arm-1": emulator.host}.__getitem__)
        arm = XArm(XArmConfig(host="arm-1", port=emulator.port, connect_s=20.0), clock=SystemClock())
        arm.open()
        arm.halt()
        assert emulator.controller.is_stopped
        arm.close()
    nowhere = XArm(XArmConfig(host="xarm.invalid"), clock=SystemClock())
    with pytest.raises(RobotUnreachable, match=r"^no xArm at xarm.invalid:502: "):
        nowhere.open()


def test_nobody_there_and_nobody_who_answers_are_unreachable_in_time(emulator: XArmEmulator) -> None:
    nobody = XArm(XArmConfig(host="127.0.0.1", port=1), clock=SystemClock())
    with pytest.raises(RobotUnreachable, match=r"^no xArm at 127.0.0.1:1: connect socket failed; look at its power"):
        nobody.open()
    emulator.mute = True
    config = XArmConfig(host=emulator.host, port=emulator.port, connect_s=0.5)
    start_s = SystemClock().now_s()
    with pytest.raises(RobotUnreachable, match=r"it did not answer within 0.5 s; look at its power"):
        XArm(config, clock=SystemClock()).open()
    assert SystemClock().now_s() - start_s < 10
    assert socket.getdefaulttimeout() is None


@pytest.mark.parametrize(
    ("controller", "line"),
    [
        (Controller(axes=7, kind=7), r"has 7 joints and is of type 7, allowed 6 and \(6,\) as robot.model = xarm6"),
        (Controller(kind=9), r"has 6 joints and is of type 9, allowed 6"),
        (Controller(version="v1.8.7"), r"has firmware .*, allowed 1.9.0 or newer"),
    ],
)
def test_another_arm_than_said_is_not_moved(controller: Controller, line: str) -> None:
    with xarm_emulator(controller, host=next(HOSTS)) as emulator:
        arm = make(emulator)
        with pytest.raises(RobotFault, match=line):
            arm.open()
        assert not controller.is_enabled
        with pytest.raises(RobotUnreachable, match="is not open"):
            arm.read()


def test_an_arm_that_does_not_become_ready_is_a_fault(emulator: XArmEmulator, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("hal.xarm._SETUP_S", 0.5)
    monkeypatch.setattr(emulator.controller, "report", lambda port, count: Controller(mode=2).report(port, count))
    arm = make(emulator)
    with pytest.raises(RobotFault, match=r"is in mode \d and state 4 after 0.5 s, allowed mode 1 and ready"):
        arm.open()


def test_an_arm_with_a_gripper_is_one_robot(emulator: XArmEmulator) -> None:
    with robotiq_emulator() as hand:
        config = RobotiqConfig(host="127.0.0.1", port=hand.port, answer_s=5.0, rate_hz=0.15)
        robot = Composite({"arm": make(emulator), "gripper": Robotiq(config, clock=SystemClock())})
        check_robot(lambda: robot)
        robot.open()
        emulator.controller.error = 22
        with pytest.raises(RobotFault, match=r"^arm: the xarm6 at .* reports error C22: "):
            robot.read()
        robot.close()


def test_targets_beyond_the_arms_range_are_refused(arm: XArm, emulator: XArmEmulator) -> None:
    with pytest.raises(SpecError, match=r"action.joint2.target = 2.1 rad, allowed \[-2.042, 2.025\]"):
        arm.command(to(0.0, 2.1))
    high = np.asarray(arm.spec.command.high, np.float32)
    np.testing.assert_array_equal(arm.command(high), high)
    assert emulator.controller.target[0] == pytest.approx(2 * math.pi)


def test_without_the_sdk_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "xarm.wrapper", None)
    with pytest.raises(ConfigError, match=r"robot=xarm needs xarm-python-sdk; pip install 'user-rl\[xarm\]'"):
        XArm(XArmConfig(host="127.0.0.1"), clock=SystemClock()).open()


@pytest.mark.parametrize(
    ("change", "line"),
    [
        ({"model": "xarm8"}, "model = 'xarm8', allowed xarm5, xarm6, xarm7, lite6, uf850"),
        ({"rate_hz": 40.0}, "rate_hz = 40.0, allowed below 33.3"),
    ],
)
def test_settings_that_cannot_be_are_refused(change: dict[str, Any], line: str) -> None:
    with pytest.raises(ValueError, match=line):
        XArmConfig(host="x", **change)
