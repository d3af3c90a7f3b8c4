"""Real server processes, real sockets, and what a kill of either side does to the robot."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from hal.kits import check_camera, check_robot, check_teleop
from hal.remote.client import RemoteCamera, RemoteRobot, RemoteTeleop
from hal.robot import OnSilence, RobotSpec
from hal.testing import FakeRobot, Motion
from tests.hal.remote.rig import ROOT, children, remote, serving, until
from user_rl.clock import SystemClock
from user_rl.errors import ConfigError, RobotUnreachable
from user_rl.specs import Array

pytestmark = pytest.mark.slow
CLOCK = SystemClock()
FORWARD: Array = np.array([0.05, 0.0], np.float32)
TTL_S, SLACK_S = 0.4, 1.0  # the machine may be busy
DRIVE = """
import sys, time
import numpy as np
from hal.remote.client import RemoteRobot
from hal.remote.config import RemoteConfig
from user_rl.clock import SystemClock
robot = RemoteRobot(RemoteConfig(invitation=sys.argv[1]), clock=SystemClock())
robot.open()
while True:
    robot.command(np.array([0.05, 0.0], np.float32))
    print("sent", flush=True)
    time.sleep(0.05)
"""


def coasting(tmp_path: Path) -> tuple[str, ...]:
    return ("robot=coasting", f"robot.path={tmp_path / 'motion'}", f"server.command_ttl_s={TTL_S}")


def moves(tmp_path: Path) -> bool:
    return Motion.load(tmp_path / "motion").moves


def driving(home: Path) -> "subprocess.Popen[str]":
    """A client process that has sent its first command, and sends on."""
    command = [sys.executable, "-c", DRIVE, str(home / "invitation.json")]
    client = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True)
    assert client.stdout is not None
    assert client.stdout.readline() == "sent\n"
    return client


def ended(client: "subprocess.Popen[str]") -> None:
    client.kill()
    client.communicate()


@pytest.mark.parametrize("address", ["", "tcp://127.0.0.1:*"], ids=["ipc", "tcp"])
def test_served_parts_keep_their_contracts(tmp_path: Path, address: str) -> None:
    home = tmp_path / "home"
    with serving(home, f"address='{address}'", "robot=fake", "cameras=fake", "teleop=fake"):
        robot = RemoteRobot(remote(home), clock=CLOCK)
        check_robot(lambda: robot)
        check_camera(lambda: RemoteCamera(remote(home), name="front", clock=CLOCK))
        robot.open()  # the fake operator looks at it
        check_teleop(lambda: RemoteTeleop(remote(home), clock=CLOCK))
        robot.close()


def test_the_spec_crosses_exactly_and_silence_is_the_servers_to_end(tmp_path: Path) -> None:
    home = tmp_path / "home"
    with serving(home, *coasting(tmp_path)):
        spec = RemoteRobot(remote(home), clock=CLOCK).spec
    fake = FakeRobot(clock=CLOCK).spec
    assert spec == RobotSpec(
        model="coasting", state=fake.state, command=fake.command, rate_hz=10.0, on_silence=OnSilence.STOPS
    )


def test_a_killed_client_is_a_halted_robot_and_its_seat_is_free(tmp_path: Path) -> None:
    home = tmp_path / "home"
    with serving(home, *coasting(tmp_path)):
        client = driving(home)
        assert moves(tmp_path)
        client.send_signal(signal.SIGKILL)
        killed_s = time.monotonic()
        until(lambda: not moves(tmp_path))
        assert time.monotonic() - killed_s < TTL_S + SLACK_S
        ended(client)
        robot = RemoteRobot(remote(home), clock=CLOCK)
        robot.open()
        robot.close()


def test_a_stopped_client_is_a_halted_robot_and_its_session_ends(tmp_path: Path) -> None:
    """SIGSTOP: the connection stands, but nobody speaks."""
    home = tmp_path / "home"
    with serving(home, *coasting(tmp_path), "server.silent_after_s=1.5"):
        client = driving(home)
        client.send_signal(signal.SIGSTOP)
        stopped_s = time.monotonic()
        until(lambda: not moves(tmp_path))
        assert time.monotonic() - stopped_s < TTL_S + SLACK_S
        robot = RemoteRobot(remote(home), clock=CLOCK)
        with pytest.raises(RobotUnreachable, match=r"robot is held by another client \(session 1, heard .* s ago\), "):
            robot.open()
        until(lambda: opens(robot))
        client.send_signal(signal.SIGCONT)
        assert client.wait(30) != 0  # its session is over, and its commands are refused
        ended(client)
        assert not moves(tmp_path)
        robot.close()


def opens(robot: RemoteRobot) -> bool:
    try:
        robot.open()
    except RobotUnreachable:
        return False
    return True


def test_a_second_client_is_refused_by_name(tmp_path: Path) -> None:
    home = tmp_path / "home"
    with serving(home, "robot=fake"):
        first, second = (RemoteRobot(remote(home), clock=CLOCK) for _ in range(2))
        first.open()
        with pytest.raises(
            RobotUnreachable,
            match=r"robot is held by another client \(session 1, heard [\d.]+ s ago\), allowed one; stop that client",
        ):
            second.open()
        first.command(FORWARD)  # and the first one goes on
        first.close()
        second.open()
        second.close()


def test_a_killed_server_is_unreachable_within_the_deadline(tmp_path: Path) -> None:
    home = tmp_path / "home"
    with serving(home, "robot=fake") as server:
        robot = RemoteRobot(remote(home, deadline_s=0.5), clock=CLOCK)
        robot.open()
        [child] = children(server.pid)
        for pid in (server.pid, child):
            os.kill(pid, signal.SIGKILL)
        for call in (robot.read, lambda: robot.command(FORWARD), robot.read):
            start_s = time.monotonic()
            with pytest.raises(
                RobotUnreachable, match=r"no answer from robot at ipc:.* within 0.5 s; look at its serv"
            ):
                call()
            assert time.monotonic() - start_s < 0.5 + SLACK_S
        robot.halt()
        robot.close()


def test_when_the_process_that_owns_it_is_killed_the_watch_halts_the_robot(tmp_path: Path) -> None:
    home = tmp_path / "home"
    with serving(home, *coasting(tmp_path)) as server:
        robot = RemoteRobot(remote(home), clock=CLOCK)
        robot.open()
        robot.command(FORWARD)
        assert moves(tmp_path)
        [child] = children(server.pid)
        os.kill(child, signal.SIGKILL)
        until(lambda: not moves(tmp_path))
        assert server.wait(30) == 1
        robot.close()


def test_when_the_watch_is_killed_the_server_halts_its_robot_and_ends(tmp_path: Path) -> None:
    home = tmp_path / "home"
    with serving(home, *coasting(tmp_path)) as server:
        robot = RemoteRobot(remote(home), clock=CLOCK)
        robot.open()
        robot.command(FORWARD)
        [child] = children(server.pid)
        os.kill(server.pid, signal.SIGKILL)
        until(lambda: not moves(tmp_path))
        until(lambda: not Path(f"/proc/{child}").exists() or "Z" in Path(f"/proc/{child}/stat").read_text())
        robot.close()


def test_a_server_that_is_told_to_stop_halts_its_robot_first(tmp_path: Path) -> None:
    home = tmp_path / "home"
    with serving(home, *coasting(tmp_path)) as server:
        robot = RemoteRobot(remote(home), clock=CLOCK)
        robot.open()
        robot.command(FORWARD)
        server.terminate()
        assert server.wait(30) == 0
        assert not moves(tmp_path)
        robot.close()


def test_a_server_comes_back_with_the_same_keys_and_higher_sessions(tmp_path: Path) -> None:
    home = tmp_path / "home"
    with serving(home, "robot=fake"):
        robot = RemoteRobot(remote(home, deadline_s=10.0), clock=CLOCK)
        robot.open()
        robot.command(FORWARD)
    with serving(home, "robot=fake"):
        with pytest.raises(RobotUnreachable, match="session 1 of robot is over, nobody holds it now; open it again"):
            robot.command(FORWARD)
        robot.open()
        assert robot._remote.link.session == 2
        robot.close()


@pytest.mark.parametrize(
    ("overrides", "line"),
    [
        ((), "nothing to serve; give robot=NAME, cameras=NAME or teleop=NAME"),
        (
            ("robot=coasting", "robot.path=/tmp/x", "robot.declared=none"),
            "coasting goes on moving when its process is k",
        ),
        (("robot=fake", "address=tcp://nowhere"), "cannot listen on tcp://nowhere: "),
        (("robot=fak",), "robot=fak: no such choice, did you mean fake?"),
        (("robot=fake", "server.poll_s=0"), "server.poll_s = 0.0, allowed above 0; change its value"),
    ],
)
def test_what_cannot_be_served_is_said_in_one_line(tmp_path: Path, overrides: tuple[str, ...], line: str) -> None:
    command = [sys.executable, "-m", "hal.serve", f"home={tmp_path / 'home'}", *overrides]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode == 2
    assert line in done.stderr
    assert "Traceback" not in done.stderr


def test_another_part_or_kind_is_refused_by_name(tmp_path: Path) -> None:
    home = tmp_path / "home"
    with serving(home, "robot=fake"):
        with pytest.raises(ConfigError, match="no part arm is served here, allowed robot"):
            RemoteRobot(remote(home, part="arm"), clock=CLOCK)
        with pytest.raises(ConfigError, match=r"robot at ipc:.* is a robot, allowed a camera; name another part"):
            RemoteCamera(remote(home, part="robot"), name="front", clock=CLOCK)
