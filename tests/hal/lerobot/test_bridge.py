"""The bridge process in an environment of its own, against a robot and teleoperators of LeRobot's shape."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from hal.driver import Parts
from hal.kits import check_camera, check_robot, check_teleop
from hal.lerobot.config import LeRobotCameraConfig, LeRobotConfig
from hal.lerobot.driver import LeRobotRobot
from hal.robot import OnSilence
from hal.tables.cameras import make_camera
from hal.tables.robots import make_robot
from hal.tables.teleops import make_teleop
from tests.hal.remote.rig import ROOT, children, until
from user_rl.clock import SystemClock
from user_rl.errors import ConfigError, RobotFault, RobotUnreachable
from user_rl.specs import Array, Image, box

pytestmark = pytest.mark.slow
CLOCK = SystemClock()
PARTS = Parts(clock=CLOCK, seed=0)
BOUNDS = {"gripper.pos": [0, 100, "%"], "*.pos": [-90, 90, "deg"], "is_warm": [0, 1]}
THERE: Array = np.array([20.0, -5.0, 50.0], np.float32)


class Bench:
    """Makes planar arms, and reads what happened to them."""

    def __init__(self, python: str, folder: Path) -> None:
        self.python, self.path = python, folder / "journal"
        self.made: list[LeRobotRobot] = []

    def tree(
        self, type_: str = "planar", *, options: dict[str, Any] | None = None, **changed: object
    ) -> dict[str, Any]:
        arm = {"port": "/dev/ttyACM0", "id": "left", "journal": str(self.path)} | (options or {})
        tree = {"name": "lerobot", "type": type_, "python": self.python, "options": arm, "bounds": BOUNDS}
        return {**tree, "deadline_s": 5.0, **changed}

    def robot(self, **changed: Any) -> LeRobotRobot:  # noqa: ANN401
        robot = make_robot(self.tree(**changed), PARTS)
        assert isinstance(robot, LeRobotRobot)
        self.made.append(robot)
        return robot

    def journal(self) -> list[str]:
        return self.path.read_text().splitlines()


@pytest.fixture
def bench(lerobot_python: str, tmp_path: Path) -> Iterator[Bench]:
    bench = Bench(lerobot_python, tmp_path)
    yield bench
    for robot in bench.made:
        robot.close()
        robot.bridge.leave()


def test_a_plugins_robot_and_its_camera_keep_our_contracts(bench: Bench) -> None:
    robot = bench.robot()
    check_robot(lambda: robot, harmless=THERE)
    check_camera(lambda: robot.camera(LeRobotCameraConfig(key="front"), "top"))
    assert bench.journal()[:2] == ["made", "connect calibrate=False"]
    assert bench.journal()[-1] == "disconnect"


def test_features_become_named_vectors_and_pictures(bench: Bench) -> None:
    robot = bench.robot(state_bounds={"shoulder.pos": [-95, 95, "deg"]})
    joints = [("shoulder.pos", "deg", -90, 90), ("elbow.pos", "deg", -90, 90), ("gripper.pos", "%", 0, 100)]
    spec = robot.spec
    assert (spec.model, spec.rate_hz, spec.on_silence) == ("planar", 30.0, OnSilence.STOPS)
    assert spec.command == box("action", joints)
    assert spec.state == box(
        "observation.state", [("shoulder.pos", "deg", -95, 95), *joints[1:], ("is_warm", "", 0, 1)]
    )
    camera = robot.camera(LeRobotCameraConfig(key="front"), "top")
    assert camera.spec == Image(name="observation.images.top", height=4, width=6)


def test_a_command_reaches_the_robot_and_what_it_really_sent_comes_back(bench: Bench) -> None:
    robot = bench.robot(options={"max_relative_target": 5.0}, ignore=["is_warm"])
    robot.open()
    assert robot.read().values.tolist() == [10.0, 10.0, 10.0]
    assert robot.command(THERE).tolist() == [15.0, 5.0, 15.0]
    assert robot.read().values.tolist() == [15.0, 5.0, 15.0]
    assert bench.journal()[-1] == "send [20.0, -5.0, 50.0]"


def test_a_halt_holds_what_is_measured_where_it_is(bench: Bench) -> None:
    robot = bench.robot(options={"max_relative_target": 5.0})
    robot.open()
    robot.command(THERE)
    robot.halt()
    assert bench.journal()[-1] == "send [15.0, 5.0, 15.0]"
    assert len(bench.journal()) == 4
    robot.command(THERE)
    until(lambda: len(bench.journal()) == 6)  # the server's dead man
    assert bench.journal()[-1] == "send [20.0, 0.0, 20.0]"


def test_robot_and_camera_share_one_observation(bench: Bench) -> None:
    robot = bench.robot()
    camera = robot.camera(LeRobotCameraConfig(), "front")
    robot.open()
    camera.open()
    state, frame = robot.read(), camera.read()
    assert frame.stamp_s == pytest.approx(state.stamp_s, abs=1e-3)
    assert (frame.pixels == 1).all()
    assert (camera.read().pixels == 2).all()  # it has shown the first one
    robot.read()
    assert (camera.read().pixels == 3).all()
    camera.close()


def test_a_leader_drives_demonstrations_and_a_pad_takes_over_by_its_events(bench: Bench) -> None:
    leader = make_teleop(bench.tree("planar_leader", bounds=BOUNDS) | {"options": {"port": "x"}}, PARTS)
    check_teleop(lambda: leader)
    leader.open()
    leader.begin(demonstrate=False)
    assert leader.poll().action is None
    leader.begin(demonstrate=True)
    said = leader.poll()
    assert said.action is not None
    assert not said.is_intervention
    leader.close()
    bounds = {"delta_*": [-1, 1, "m"], "gripper": [0, 2]}
    pad = make_teleop(bench.tree("planar_pad", bounds=bounds) | {"options": {}}, PARTS)
    assert pad.action == box("action", [("delta_x", "m", -1, 1), ("delta_y", "m", -1, 1), ("gripper", "", 0, 2)])
    pad.open()
    pad.begin(demonstrate=False)
    readings = [pad.poll() for _ in range(5)]
    assert [r.is_intervention for r in readings] == [False, False, True, False, False]
    assert [r.success for r in readings] == [False, False, False, False, True]
    assert readings[2].action is not None
    assert readings[2].action.tolist() == [0.5, -1.0, 1.0]  # within its bounds
    assert readings[4].action is None
    pad.close()


@pytest.mark.parametrize(
    ("changed", "line"),
    [
        ({"bounds": {"gripper.pos": [0, 100]}},
         r"bounds.shoulder.pos: not set; LeRobot gives no bounds, give bounds={shoulder.pos: \[LOW, HIGH, UNIT\]}"),
        ({"bounds": BOUNDS | {"gripper.pos": [1]}}, r"bounds.gripper.pos = \[1\], allowed \[LOW, HIGH\] or \[LOW, "),
        ({"bounds": BOUNDS | {"gripper.pos": [1, 1]}}, r"bounds.gripper.pos = \[1, 1\], allowed LOW below HIGH"),
        ({"type_": "planer"}, r"type = planer: LeRobot of an unknown version has no such type, did you mean planar\?; "
                              r"lame does not load: ModuleNotFoundError: No module named 'a_vendors_package_that_"),
        ({"options": {"speed": 1}}, "unexpected keyword argument 'speed'"),
        ({"python": "/nowhere/python"}, "python = /nowhere/python: No such file or directory; give LeRobot's interpr"),
        ({"python": sys.executable}, r"No module named 'lerobot'; .* needs lerobot, numpy, msgspec and pyzmq"),
    ],
)  # fmt: skip
def test_a_bridge_that_cannot_start_says_why_in_one_line(bench: Bench, changed: dict[str, Any], line: str) -> None:
    with pytest.raises(ConfigError, match=line) as caught:
        bench.robot(**changed)
    assert "\n" not in str(caught.value)


def test_what_is_driven_by_speed_is_not_said_to_stop_by_itself(bench: Bench) -> None:
    """And it is registered by LeRobot's own package, which is imported for it."""
    bounds = {"axis.pos": [-1, 1, "m"], "axis.vel": [-1, 1, "m/s"]}
    tree = bench.tree("slider", bounds=bounds) | {"options": {}}
    assert make_robot(tree, PARTS).spec.on_silence is OnSilence.NONE
    assert make_robot({**tree, "on_silence": "stops"}, PARTS).spec.on_silence is OnSilence.STOPS


def test_cameras_in_the_options_are_known_by_lerobots_names(bench: Bench) -> None:
    assert bench.robot(options={"cameras": {"front": {"type": "painted"}}}).spec.model == "planar"
    with pytest.raises(ConfigError, match=r"no camera of type \{'unpainted'\} is registered$"):
        bench.robot(options={"cameras": {"front": {"type": "unpainted"}}})


def test_a_start_has_a_deadline(bench: Bench, tmp_path: Path) -> None:
    sleeper = tmp_path / "python"
    sleeper.write_text("#!/bin/sh\necho 'waiting for a licence' >&2\nexec sleep 100\n")
    sleeper.chmod(0o755)
    with pytest.raises(RobotUnreachable, match=r"LeRobot's planar is not there after 0.5 s: waiting for a licence"):
        bench.robot(python=str(sleeper), start_s=0.5)


def test_a_device_that_does_not_connect_or_is_not_calibrated_is_unreachable(bench: Bench) -> None:
    with pytest.raises(RobotUnreachable, match="left Planar: ConnectionError: no such port: /dev/nowhere; look at its"):
        bench.robot(options={"port": "/dev/nowhere"}).open()
    with pytest.raises(RobotUnreachable, match="left Planar is not calibrated; run lerobot-calibrate with its type, p"):
        bench.robot(options={"calibrated": False}).open()
    assert bench.journal()[-1] == "disconnect"


def test_a_broken_observation_is_a_fault_and_a_dead_bridge_says_its_last_line(bench: Bench) -> None:
    robot = bench.robot(options={"breaks_after": 1})
    robot.open()
    robot.read()
    with pytest.raises(RobotFault, match="left Planar: RuntimeError: motor 2 is overloaded; look at the robot"):
        robot.read()
    robot = bench.robot(options={"dies_after": 1})
    robot.open()
    robot.read()
    with pytest.raises(RobotUnreachable, match=r"planar has ended: a library of the vendor's gave up$"):
        robot.read()


def test_a_killed_driver_takes_its_bridge_along_and_the_arm_is_let_go(bench: Bench) -> None:
    code = """
import json, sys
from hal.driver import Parts
from hal.tables.robots import make_robot
from user_rl.clock import SystemClock
robot = make_robot(json.loads(sys.argv[1]), Parts(clock=SystemClock(), seed=0))
robot.open()
print("open", flush=True)
sys.stdin.read()
"""
    command = [sys.executable, "-c", code, json.dumps(bench.tree())]
    driver = subprocess.Popen(command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert driver.stdout is not None
    assert driver.stdout.readline() == "open\n"
    [bridge] = children(driver.pid)
    driver.send_signal(signal.SIGKILL)
    driver.communicate()
    until(lambda: bench.journal()[-1] == "disconnect")
    until(lambda: not os.path.exists(f"/proc/{bridge}"))


def test_a_bridge_ends_with_its_last_user(bench: Bench) -> None:
    robot = bench.robot()
    robot.open()
    process = robot.bridge._process._child
    assert process is not None
    robot.close()
    assert process.poll() == 0
    robot.open()
    robot.read()
    home = robot.bridge._home
    robot.close()
    bench.made.clear()
    del robot
    until(lambda: not home.exists())


def test_a_camera_that_is_not_there_and_a_camera_without_its_robot_are_refused(bench: Bench) -> None:
    with pytest.raises(ConfigError, match=r"no part cameras.wrist is served here, allowed robot, cameras.front"):
        bench.robot().camera(LeRobotCameraConfig(), "wrist")
    with pytest.raises(ConfigError, match=r"cameras.top.name = lerobot, allowed on robot=lerobot; choose that robot"):
        make_camera("top", {"name": "lerobot"}, PARTS)


def test_a_period_fits_many_calls(bench: Bench) -> None:
    robot = bench.robot()
    robot.open()
    start_s = time.monotonic()
    for _ in range(50):
        robot.read()
        robot.command(THERE)
    assert time.monotonic() - start_s < 5.0
    assert LeRobotConfig(type="x", python="y").rate_hz == 30.0
