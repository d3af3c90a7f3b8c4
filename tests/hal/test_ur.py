"""The driver over the real SDK, against the emulated controller in a process of its own (the SDK holds the GIL)."""

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from itertools import count
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from hal.emulators.ur_controller import HOME
from hal.kits import Motion, check_robot
from hal.make import CellConfig, make_cell
from hal.robot import OnSilence
from hal.ur import Ur, UrConfig
from user_rl.clock import SystemClock
from user_rl.config import build
from user_rl.errors import ConfigError, RobotFault, RobotUnreachable, SpecError
from user_rl.specs import Array

ROOT = Path(__file__).parents[2]
HOME_32 = np.array(HOME, np.float32)
CLOCK = SystemClock()
_hosts = count(1)

pytestmark = pytest.mark.slow


class Arm:
    """An emulated arm, and the hand at its pendant."""

    def __init__(self) -> None:
        self.host = f"127.79.{os.getpid() % 250 + 1}.{next(_hosts)}"
        argv = [sys.executable, "-m", "hal.emulators.ur", self.host]
        self.process = subprocess.Popen(argv, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        assert self.process.stdout is not None
        assert self.process.stdout.readline().startswith(f"a UR arm at {self.host}")

    def __call__(self, word: str) -> dict[str, Any]:
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.write(f"{word}\n")
        self.process.stdin.flush()
        answer: dict[str, Any] = json.loads(self.process.stdout.readline())
        return answer

    @property
    def turn(self) -> float:
        return float(self("state")["position"][0])

    @property
    def is_moving(self) -> bool:
        return bool(max(map(abs, self("state")["velocity"])) > 1e-3)

    def wait(self, holds: Callable[[], bool], within_s: float = 10.0) -> None:
        end_s = time.monotonic() + within_s
        while not holds():
            assert time.monotonic() < end_s, f"not within {within_s} s: {self('state')}"
            time.sleep(0.02)

    def end(self) -> None:
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.close()
        assert self.process.wait(10) == 0
        self.process.stdout.close()


@pytest.fixture
def arm() -> Iterator[Arm]:
    arm = Arm()
    yield arm
    arm.end()


@pytest.fixture
def ur(arm: Arm) -> Iterator[Ur]:
    """An opened one."""
    ur = Ur(UrConfig(host=arm.host), clock=CLOCK)
    ur.open()
    yield ur
    ur.close()


def turned(by: float) -> Array:
    """HOME with the first joint elsewhere."""
    return HOME_32 + np.array([by, 0, 0, 0, 0, 0], np.float32)


def follow(ur: Ur, target: Array, for_s: float) -> None:
    """Commands at the arm's rate."""
    end_s = time.monotonic() + for_s
    while time.monotonic() < end_s:
        ur.read()
        ur.command(target)
        time.sleep(0.1)


def test_ur_keeps_the_robot_contract(arm: Arm) -> None:
    far = 0.02 * np.arange(1, 31, dtype=np.float32)[:, None]  # every joint turns
    motion = Motion(commands=[*(HOME_32 + far)])
    check_robot(lambda: Ur(UrConfig(host=arm.host), clock=CLOCK), harmless=HOME_32, motion=motion)
    assert not arm.is_moving


def test_the_spec_is_a_joint_arm_that_stops_on_silence(arm: Arm) -> None:
    spec = Ur(UrConfig(host=arm.host, rate_hz=20.0), clock=CLOCK).spec
    assert (spec.model, spec.rate_hz, spec.on_silence) == ("ur5e_joints", 20.0, OnSilence.STOPS)
    assert spec.state.names[:2] == ("shoulder_pan.position", "shoulder_lift.position")
    assert spec.state.names[6:8] == ("shoulder_pan.velocity", "shoulder_lift.velocity")
    assert spec.command.names[5] == "wrist_3.target"
    assert len(spec.command.names) == 6


def test_the_arm_goes_where_it_is_told_and_its_speed_is_measured(arm: Arm, ur: Ur) -> None:
    start = ur.read().values
    np.testing.assert_allclose(start, [*HOME, *[0.0] * 6], atol=1e-4)
    ur.command(turned(0.8))
    arm.wait(lambda: float(ur.read().values[6]) > 0.5)
    follow(ur, turned(0.8), 2.0)
    end = ur.read().values
    np.testing.assert_allclose(end, [0.8, *HOME[1:], *[0.0] * 6], atol=5e-3)
    np.testing.assert_allclose(end[:6], arm("state")["position"], atol=5e-3)


def test_a_halt_stops_the_arm_on_its_way(arm: Arm, ur: Ur) -> None:
    ur.command(turned(3.0))
    arm.wait(lambda: float(ur.read().values[6]) > 0.5)
    ur.halt()
    assert not arm.is_moving
    assert 0.0 < arm.turn < 2.9
    ur.command(turned(0.0))  # and goes on when told to
    arm.wait(lambda: arm.is_moving)


def test_a_close_stops_the_arm_too(arm: Arm) -> None:
    ur = Ur(UrConfig(host=arm.host, silence_s=20.0), clock=CLOCK)
    ur.open()
    ur.command(turned(6.0))
    arm.wait(lambda: arm.is_moving)
    ur.close()  # which takes longer than the way would
    arm.wait(lambda: not arm.is_moving)
    assert arm.turn < 5.5


def test_stamps_are_of_the_clock_and_rise_with_the_arms_readings(arm: Arm, ur: Ur) -> None:
    first, before_s = ur.read(), CLOCK.now_s()
    time.sleep(0.05)
    later = ur.read()
    assert before_s - 1.0 < first.stamp_s <= before_s < later.stamp_s <= CLOCK.now_s()


@pytest.mark.parametrize(
    ("word", "stop"),
    [
        ("protective_stop", "protective stop"),
        ("safeguard_stop", "safeguard stop"),
        ("emergency_stop", "emergency stop at the arm"),
    ],
)
def test_a_stop_is_a_fault_until_a_person_has_cleared_it(arm: Arm, ur: Ur, word: str, stop: str) -> None:
    ur.command(turned(3.0))
    arm.wait(lambda: arm.is_moving)
    arm(word)
    line = f"{stop} of the UR arm at {arm.host}; look at the arm, clear the stop at the pendant, then start again"
    with pytest.raises(RobotFault) as caught:
        arm.wait(lambda: ur.read() is None)
    assert str(caught.value) == line
    assert ur.emergency_stop_pressed() == ("emergency" in stop)
    with pytest.raises(RobotFault, match=stop):
        ur.command(turned(0.0))
    ur.halt()
    arm.wait(lambda: not arm.is_moving)
    assert arm("state")["safety"] != "NORMAL"
    ur.close()
    with pytest.raises(RobotFault, match=stop):
        ur.open()
    assert arm("state")["safety"] != "NORMAL"
    arm("clear")
    ur.open()
    assert not ur.emergency_stop_pressed()
    assert ur.read().values[6] == 0


class Standing:
    """A link whose newest reading stays the newest."""

    def __init__(self, link: Any) -> None:  # noqa: ANN401
        self._link, self._tick_s = link, link.getTimestamp()

    def getTimestamp(self) -> float:
        return float(self._tick_s)

    def __getattr__(self, name: str) -> Any:  # noqa: ANN401
        return getattr(self._link, name)


def test_a_controllers_clock_that_stands_is_a_lost_link(arm: Arm, ur: Ur) -> None:
    link = ur._receive
    ur._receive = Standing(link)
    first = ur.read().stamp_s
    assert ur.read().stamp_s == first
    time.sleep(0.6)
    with pytest.raises(RobotUnreachable, match=rf"the UR arm at {arm.host} was last heard 0.\d+ s ago, allowed 0.5 s;"):
        ur.read()
    ur._receive, ur._is_lost = link, False


def test_a_program_that_is_stopped_at_the_pendant_is_a_fault(arm: Arm, ur: Ur) -> None:
    follow(ur, turned(0.0), 0.2)
    arm("stop_program")
    with pytest.raises(RobotFault, match=f"the program on the UR arm at {arm.host} was ended from elsewhere; look at"):
        follow(ur, turned(0.0), 5.0)


def test_without_commands_the_arm_stops_itself_and_a_new_one_begins_from_there(arm: Arm, ur: Ur) -> None:
    ur.command(turned(6.0))
    arm.wait(lambda: arm("state")["runtime"] == "STOPPED")
    arm.wait(lambda: not arm.is_moving)
    stopped_at = arm.turn
    assert stopped_at < 5.0
    assert arm("state")["log"] == ["program stopped: watchdog: no command came in time"]
    here = ur.read().values[:6].copy()
    for _ in range(5):
        ur.command(here)
        assert arm.turn == pytest.approx(stopped_at, abs=0.01)  # the old target is forgotten
    ur.command(here - np.array([0.5, 0, 0, 0, 0, 0], np.float32))
    arm.wait(lambda: arm.turn < stopped_at - 0.1)
    arm.wait(lambda: arm("state")["runtime"] == "STOPPED")  # and the new program has its watchdog


def test_a_stop_that_the_program_does_not_confirm_is_made_by_the_dashboard(arm: Arm, ur: Ur) -> None:
    ur.command(turned(3.0))
    arm.wait(lambda: arm.is_moving)
    ur._is_lost = True  # as after a call that failed
    ur.halt()
    arm.wait(lambda: not arm.is_moving)
    ur._is_lost = False
    assert arm("state")["log"] == ["program stopped: dashboard"]
    assert arm.turn < 2.9
    ur._begin()  # a new program, which does not find the old target where it was left
    time.sleep(0.2)
    assert arm("state")["runtime"] == "PLAYING"
    assert not arm.is_moving


def test_a_program_that_ends_after_a_late_command_may_be_the_watchdogs_and_is_begun_anew(arm: Arm, ur: Ur) -> None:
    ur.command(turned(0.0))
    time.sleep(0.3)  # of 0.5 s
    ur.command(turned(0.0))
    arm("stop_program")
    arm.wait(lambda: ur.command(turned(0.0)) is not None and arm("state")["runtime"] == "PLAYING")


def in_a_process_of_its_own(code: str, host: str) -> subprocess.Popen[str]:
    code = (
        "import sys, time, numpy as np\n"
        "from hal.ur import Ur, UrConfig\n"
        "from user_rl.clock import SystemClock\n"
        "from user_rl.errors import HardwareError\n"
        f"ur = Ur(UrConfig(host={host!r}, timeout_s=0.5), clock=SystemClock())\n"
        "ur.open()\n"
        "target = ur.read().values[:6].copy()\n"
        "target[0] += 6\n"
    ) + code
    return subprocess.Popen([sys.executable, "-c", code], cwd=ROOT, stdout=subprocess.PIPE, text=True)


def test_a_killed_process_leaves_an_arm_that_stops(arm: Arm) -> None:
    child = in_a_process_of_its_own("while True:\n    ur.command(target)\n    time.sleep(0.1)\n", arm.host)
    arm.wait(lambda: arm.is_moving, 30.0)
    child.kill()
    child.communicate()
    arm.wait(lambda: not arm.is_moving)
    assert arm.turn < 5.9
    assert arm("state")["runtime"] == "STOPPED"


@pytest.mark.parametrize("word", ["freeze", "drop_links"])
def test_a_lost_link_is_noticed_and_let_go_of_and_the_arm_stops(arm: Arm, word: str) -> None:
    child = in_a_process_of_its_own(
        "stamps = []\n"
        "try:\n"
        "    for _ in range(300):\n"
        "        ur.command(target)\n"
        "        time.sleep(0.02)\n"
        "        stamps.append(ur.read().stamp_s)\n"
        "except HardwareError as error:\n"
        "    print(type(error).__name__, error, flush=True)\n"
        "print('old stamps', len(set(stamps[-5:])) == 1, flush=True)\n"
        "start_s = time.monotonic()\n"
        "ur.close()\n"
        "print('closed', time.monotonic() - start_s < 10, flush=True)\n"
        "try:\n"
        "    ur.open()\n"
        "except HardwareError as error:\n"
        "    print(error, flush=True)\n",
        arm.host,
    )
    arm.wait(lambda: arm.is_moving, 30.0)
    arm(word)
    out, _ = child.communicate(timeout=60)
    arm.wait(lambda: not arm.is_moving)
    assert arm.turn < 5.9
    if word == "drop_links" and child.returncode < 0:
        return  # the SDK's own reconnecting has crashed the process, which the arm survives
    assert "RobotUnreachable" in out
    assert f"the UR arm at {arm.host} was last heard" in out or word == "drop_links"
    assert "old stamps True" in out or word == "drop_links"
    assert "closed True" in out
    assert f"the link to the UR arm at {arm.host} was lost; start the process again" in out


def test_an_address_where_nobody_answers_is_named_at_once() -> None:
    start_s = time.monotonic()
    with pytest.raises(RobotUnreachable, match=r"no UR controller at 127.79.0.1, port 30004: .*; look at its power"):
        Ur(UrConfig(host="127.79.0.1"), clock=CLOCK).open()
    assert time.monotonic() - start_s < 5.0


def test_a_controller_that_accepts_and_says_nothing_is_given_up(arm: Arm) -> None:
    arm("freeze")
    start_s = time.monotonic()
    with pytest.raises(RobotUnreachable, match=f"no UR controller at {arm.host}, port 30004: timed out; look at"):
        Ur(UrConfig(host=arm.host, timeout_s=0.5), clock=CLOCK).open()
    assert time.monotonic() - start_s < 10.0


def test_a_pendant_in_local_control_is_named(arm: Arm) -> None:
    arm("local")
    with pytest.raises(RobotUnreachable, match=r"remote control on the robot.*; look at the pendant"):
        Ur(UrConfig(host=arm.host), clock=CLOCK).open()


def test_commands_beyond_a_joints_range_are_refused(ur: Ur) -> None:
    with pytest.raises(SpecError, match=r"action.shoulder_pan.target = 7 rad, allowed \[-6.28, 6.28\]"):
        ur.command(turned(7.0))


def test_the_address_may_come_from_the_environment(arm: Arm, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ROBOT_IP", arm.host)
    assert Ur(UrConfig(), clock=CLOCK).host == arm.host
    monkeypatch.delenv("ROBOT_IP")
    with pytest.raises(ConfigError, match=r"robot.host = '', allowed the address of the UR arm; give robot.host=ADDR"):
        Ur(UrConfig(), clock=CLOCK)


def test_without_the_sdk_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "rtde_control", None)
    with pytest.raises(ConfigError, match=r"robot=ur needs ur_rtde; pip install 'user-rl\[ur\]'"):
        Ur(UrConfig(host="127.0.0.2"), clock=CLOCK)


def test_its_tip_can_be_driven(arm: Arm) -> None:
    hand = {"origin_m": [-0.49, -0.13, 0.39], "low": [-0.1, -0.1, -0.1, 1.0], "high": [0.1, 0.1, 0.1, 2.0]}
    robot_tree = {"name": "ur", "host": arm.host, "tool_m": 0.1, "hand": hand | {"leash_m": 0.02}}
    tree = {"robot": robot_tree, "task": {"name": "still"}}
    from hal.tables.tasks import TASKS
    from hal.testing import FakeTaskConfig

    class Still:
        name, max_steps = "still", 10

        def __init__(self, *_: object) -> None: ...

    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(TASKS, "still", (FakeTaskConfig, Still))
        robot = make_cell(build(CellConfig, tree), name="cell", clock=CLOCK, seed=1).robot
    assert robot.spec.model == "ur5e"
    robot.open()
    try:
        start = robot.read().values[:3].copy()
        for _ in range(15):
            robot.command(np.array([0.0, 0.01, 0.0, 0.0], np.float32))
            robot.read()
        moved = robot.read().values[:3] - start
        assert moved[1] > 0.02
        assert np.abs(moved[[0, 2]]).max() < 0.01
        assert np.abs(np.array(arm("state")["position"]) - HOME).max() > 0.02
    finally:
        robot.close()
