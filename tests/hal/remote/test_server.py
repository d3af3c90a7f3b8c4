"""What the server holds against its clients: sessions, calls, ages, kinds, silence. Real sockets, a fake robot."""

import logging
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest

from hal.camera import Frame
from hal.remote.client import RemoteCamera, RemoteRobot, RemoteTeleop
from hal.remote.door import Door, load_invitation
from hal.remote.messages import REPLIES, Begin, Command, Done, Failed, Read, Reading, Sent
from hal.remote.parts import CameraPart, Part, RobotPart, TeleopPart, served_spec
from hal.remote.server import ServerConfig, _ttl_s
from hal.robot import OnSilence
from hal.teleop import TeleopReading
from hal.testing import CoastingConfig, CoastingRobot, FakeCamera, FakeRobot, FakeRobotConfig, FakeTeleop
from tests.hal.remote.rig import ServerThread, remote, until
from user_rl.clock import FakeClock, SystemClock
from user_rl.errors import ConfigError, HardwareError, RobotFault, RobotUnreachable, SensorStale, SpecError, StorageBusy
from user_rl.specs import Array

pytestmark = pytest.mark.slow
CLOCK = SystemClock()
FORWARD: Array = np.array([0.05, 0.0], np.float32)


class StaleCamera(FakeCamera):
    """Has nothing new."""

    def read(self) -> Frame:
        raise SensorStale("observation.images.front is 3 s old, allowed 0.5 s; look at its cable")


class Bench:
    """A server with one of each, in a thread, and a client's robot."""

    def __init__(self, home: Path, **config: float) -> None:
        self.device = FakeRobot(clock=CLOCK)
        self.teleop = FakeTeleop(robot=self.device, clock=CLOCK)
        self.parts: dict[str, Part] = {
            "robot": RobotPart(self.device),
            "cameras.front": CameraPart(StaleCamera(clock=CLOCK)),
            "teleop": TeleopPart(self.teleop),
        }
        self.server = ServerThread(home, self.parts, **config)
        self.config = remote(home, deadline_s=5.0)
        self.robot = RemoteRobot(self.config, clock=CLOCK)

    def ask(self, session: int, expires_s: float, payload: bytes = FORWARD.tobytes()) -> None:
        """A raw command."""
        self.robot._remote.link.ask(
            Sent, lambda call: Command("robot", session, call, expires_s), memoryview(payload), within_s=5.0
        )

    @property
    def session(self) -> int:
        return self.robot._remote.link.session


MakeBench = Callable[..., Bench]


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[MakeBench]:
    made: list[Bench] = []

    def make(**config: float) -> Bench:
        made.append(Bench(tmp_path / "home", **config))
        return made[-1]

    yield make
    for one in made:
        one.robot.close()
        one.server.close()


def test_a_robot_is_halted_when_commands_stop_and_moves_again_with_the_next(bench: MakeBench) -> None:
    b = bench(command_ttl_s=0.2)
    b.robot.open()
    b.robot.read()
    assert b.device.halts == 0
    for halts in (1, 2):
        b.robot.command(FORWARD)
        until(lambda halts=halts: b.device.halts == halts)  # type: ignore[misc]
    assert len(b.device.sent) == 2
    b.robot.command(FORWARD)


def test_commands_in_time_keep_it_going(bench: MakeBench) -> None:
    b = bench(command_ttl_s=1.0)
    b.robot.open()
    end_s = time.monotonic() + 1.5
    while time.monotonic() < end_s:
        b.robot.command(FORWARD)
    assert b.device.halts == 0


def test_the_time_to_live_is_never_shorter_than_three_periods() -> None:
    def ttl_s(rate_hz: float, **config: float) -> float:
        return _ttl_s(RobotPart(FakeRobot(FakeRobotConfig(rate_hz=rate_hz), clock=CLOCK)), ServerConfig(**config))

    assert ttl_s(100.0) == 0.5
    assert ttl_s(2.0) == 1.5
    assert ttl_s(2.0, command_ttl_s=0.1) == 0.1


def test_a_client_that_only_lives_keeps_its_session(bench: MakeBench) -> None:
    b = bench(silent_after_s=1.2)
    b.robot.open()
    time.sleep(2.0)
    b.robot.command(FORWARD)
    assert len(b.device.sent) == 1


def test_a_client_whose_connection_stands_but_says_nothing_loses_its_session(bench: MakeBench) -> None:
    b = bench(silent_after_s=0.4)
    b.robot.open()
    b.robot._remote.link._ended.set()  # its beat
    until(lambda: not b.device._is_open)
    assert b.device.halts > 0
    with pytest.raises(RobotUnreachable, match="session 1 of robot is over, nobody holds it now; open it again"):
        b.robot.command(FORWARD)


def test_a_command_of_an_older_session_is_refused(bench: MakeBench) -> None:
    b = bench()
    b.robot.open()
    with pytest.raises(RobotUnreachable, match="session 0 of robot is over, session 1 holds it now; open it again"):
        b.ask(b.session - 1, b.robot._remote.link.until_s(5.0))
    assert b.device.sent == []
    with pytest.raises(RobotUnreachable, match="session 0 of robot is over"):  # until it is opened again
        b.robot.command(FORWARD)
    b.robot.open()
    assert b.session == 2
    b.robot.command(FORWARD)


def test_a_command_that_comes_too_late_is_not_carried_out(bench: MakeBench) -> None:
    b = bench()
    b.robot.open()
    with pytest.raises(RobotUnreachable, match=r"a command for robot came [\d.]+ s too late; nothing was sent"):
        b.ask(b.session, b.robot._remote.link.until_s(-0.5))
    assert b.device.sent == []


def test_a_call_is_carried_out_once(bench: MakeBench) -> None:
    b = bench()
    b.robot.open()
    link = b.robot._remote.link
    link.ask(Reading, lambda call: Read("robot", link.session, call), within_s=5.0)
    link._call -= 1
    with pytest.raises(HardwareError, match=r"call (\d+) to robot comes after call \1; drop it"):
        link.ask(Reading, lambda call: Read("robot", link.session, call), within_s=5.0)


def test_a_fault_of_the_robot_is_a_fault_here(bench: MakeBench) -> None:
    b = bench()
    b.robot.open()
    b.device.fault = "joint 3 hit something; look at the arm"
    for call in (b.robot.read, lambda: b.robot.command(FORWARD)):
        with pytest.raises(RobotFault, match=r"^joint 3 hit something; look at the arm$"):
            call()
    b.device.fault = ""
    b.robot.read()


def test_a_device_that_does_not_open_is_unreachable_and_its_seat_free(bench: MakeBench) -> None:
    b = bench()
    b.device.unreachable = True
    for _ in range(2):
        with pytest.raises(RobotUnreachable, match="the fake robot does not answer; set unreachable = False"):
            b.robot.open()
    b.device.unreachable = False
    b.robot.open()


def test_a_bad_target_is_refused_on_both_sides(bench: MakeBench) -> None:
    b = bench()
    b.robot.open()
    with pytest.raises(SpecError, match=r"action.point.delta.x = 9 m, allowed \[-0.1, 0.1\]"):
        b.robot.command(np.array([9.0, 0.0], np.float32))
    with pytest.raises(SpecError, match=r"action.point.delta.x = 9 m, allowed \[-0.1, 0.1\]"):
        b.ask(b.session, b.robot._remote.link.until_s(5.0), np.array([9.0, 0.0], np.float32).tobytes())
    with pytest.raises(RobotUnreachable, match="a target of 7 bytes, allowed float32 numbers; drop it"):
        b.ask(b.session, b.robot._remote.link.until_s(5.0), b"1234567")
    assert b.device.sent == []


def test_a_stale_frame_is_stale_here_and_a_camera_takes_no_commands(bench: MakeBench) -> None:
    b = bench()
    camera = RemoteCamera(b.config, name="front", clock=CLOCK)
    camera.open()
    with pytest.raises(SensorStale, match=r"observation.images.front is 3 s old"):
        camera.read()
    link = camera._remote.link
    with pytest.raises(HardwareError, match="Begin to a camera, allowed what a camera understands; drop it"):
        link.ask(Done, lambda call: Begin(link.part, link.session, call, True), within_s=5.0)
    camera.close()


def test_what_the_operator_says_and_does_crosses_by_its_name(bench: MakeBench) -> None:
    b = bench()
    teleop = RemoteTeleop(b.config, clock=CLOCK)
    b.robot.open()
    teleop.open()
    b.teleop.says = [
        TeleopReading(stamp_s=0.0, action=None, **{event: True})
        for event in ("success", "failure", "rerecord_episode", "terminate_episode")
    ] + [TeleopReading(stamp_s=0.0, action=FORWARD, is_intervention=True)]
    b.teleop.says.append(TeleopReading(stamp_s=0.0, action=FORWARD, is_enabled=False))
    said = [teleop.poll() for _ in range(5)]
    assert all(reading.is_enabled for reading in said)
    assert not teleop.poll().is_enabled
    events = ("is_intervention", "success", "failure", "rerecord_episode", "terminate_episode")
    assert [[e for e in events if getattr(r, e)] for r in said] == [
        ["success"], ["failure"], ["rerecord_episode"], ["terminate_episode"], ["is_intervention"]
    ]  # fmt: skip
    assert said[0].action is None
    assert np.array_equal(said[4].action, FORWARD)  # type: ignore[arg-type]
    teleop.begin(demonstrate=True)
    assert teleop.poll().action is not None
    b.teleop.says = [TeleopReading(stamp_s=0.0, action=9 * FORWARD)]
    with pytest.raises(SpecError, match=r"action.point.delta.x = 0.45 m, allowed \[-0.1, 0.1\]"):
        teleop.poll()
    teleop.close()


def test_nothing_moves_while_another_device_is_opened(bench: MakeBench) -> None:
    b = bench(command_ttl_s=60.0)
    b.robot.open()
    b.robot.command(FORWARD)
    camera = RemoteCamera(b.config, name="front", clock=CLOCK)
    camera.open()
    assert b.device.halts == 1
    camera.close()


def test_what_is_no_message_is_answered_and_the_server_goes_on(bench: MakeBench) -> None:
    b = bench()
    b.robot.open()
    channel = b.robot._remote.link._channel
    assert channel is not None
    for frames in ([b"\x07rubbish"], [b"\x01\x90"], [b"\x01" * 5000], [b"\x01\x90", b"\0" * 70_000]):
        assert channel.send(frames)
        answer = channel.receive(10.0)
        assert answer is not None
        failed, _ = REPLIES.decode(answer)
        assert isinstance(failed, Failed)
        assert failed.code == "wire"
    b.robot.read()


def test_stamps_are_the_callers_and_as_old_as_at_the_server(bench: MakeBench) -> None:
    b = bench()
    clock = FakeClock(1000.0)
    camera_clock = SystemClock()
    robot = RemoteRobot(b.config, clock=clock)
    robot.open()
    assert 999.0 < robot.read().stamp_s <= 1000.0
    before_s = camera_clock.now_s()
    stamps = [robot.read().stamp_s for _ in range(3)]
    assert stamps == sorted(stamps)
    assert stamps[0] >= 1000.0 - (camera_clock.now_s() - before_s) - 0.5
    robot.close()


def test_a_robot_that_nothing_stops_stays_one_and_others_stop(tmp_path: Path) -> None:
    def silence(declared: OnSilence) -> OnSilence:
        return served_spec(CoastingRobot(CoastingConfig(path="x", declared=declared)).spec).on_silence

    assert silence(OnSilence.NONE) is OnSilence.NONE
    assert silence(OnSilence.OUT_OF_BAND) is OnSilence.STOPS
    assert served_spec(FakeRobot(clock=CLOCK).spec) == FakeRobot(clock=CLOCK).spec


def test_a_robot_that_cannot_be_halted_is_shouted_about(
    bench: MakeBench, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    b = bench(command_ttl_s=0.1)

    def halt() -> None:
        raise RobotUnreachable("no cable")

    monkeypatch.setattr(b.device, "halt", halt)
    b.robot.open()
    with caplog.at_level(logging.ERROR):
        b.robot.command(FORWARD)
        until(lambda: "robot could not be halted: no cable; use the emergency stop" in caplog.text)


def test_one_server_at_a_time_holds_a_home_and_its_numbers_rise(tmp_path: Path) -> None:
    door = Door(tmp_path / "home")
    assert [door.next_session() for _ in range(2)] == [1, 2]
    with pytest.raises(StorageBusy):
        Door(tmp_path / "home")
    keys = door.keys
    door.close()
    door = Door(tmp_path / "home")
    assert door.keys == keys
    assert door.next_session() == 3
    door.close()


def test_what_is_in_a_home_is_its_owners_alone(tmp_path: Path) -> None:
    door = Door(tmp_path / "home")
    invitation = door.invite("tcp://10.0.0.5:7001")
    door.next_session()
    assert {f.name: f.stat().st_mode & 0o777 for f in door.home.iterdir() if f.name != "lock"} == {
        "keys.json": 0o600, "invitation.json": 0o600, "session": 0o600
    }  # fmt: skip
    assert load_invitation(invitation).address == "tcp://10.0.0.5:7001"
    invitation.chmod(0o644)
    with pytest.raises(ConfigError, match=r"holds secrets and has mode 0644, allowed 0600"):
        load_invitation(invitation)
    invitation.write_text("{}")
    invitation.chmod(0o600)
    with pytest.raises(ConfigError, match=r"invitation .*: .*; copy the one that hal.serve wrote into its home"):
        load_invitation(invitation)
    door.close()
    door.home.chmod(0o755)
    with pytest.raises(ConfigError, match=r"home = .* has mode 0755, allowed 0700; run: chmod 700"):
        Door(door.home)
