"""Cameras and operators on threads of their own: nobody waits, nothing said is lost, what is old is refused."""

import queue
import threading
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import hal.background
from hal.background import BackgroundCamera, BackgroundTeleop, blocks
from hal.camera import Camera, Frame
from hal.kits import check_camera, check_teleop
from hal.make import CellConfig, make_cell
from hal.teleop import Teleop, TeleopReading
from hal.testing import FakeCamera, FakeCameraConfig, FakeRobot, FakeTeleop
from user_rl.clock import FakeClock, SystemClock
from user_rl.config import build
from user_rl.errors import HardwareError, SensorStale
from user_rl.specs import Box, Image, box

CLOCK = SystemClock()
WAIT_S = 20.0
COMMAND = box("command", [("dx", "m", -1, 1)])


def wait_for(condition: Callable[[], object]) -> None:
    until_s = time.monotonic() + WAIT_S
    while not condition():
        assert time.monotonic() < until_s, "it did not happen"
        time.sleep(0.002)


def frame(stamp_s: float) -> Frame:
    return Frame(stamp_s=stamp_s, pixels=np.zeros((2, 2, 3), np.uint8))


class Slow:
    """See hal.camera.Camera. `read` waits for what a test puts on the belt."""

    blocks = True

    def __init__(self) -> None:
        self.things: queue.Queue[Frame | Exception] = queue.Queue()
        self.threads: set[int] = set()
        self.opened = self.closed = 0
        self.spec = Image(name="observation.images.slow", height=2, width=2)

    def open(self) -> None:
        self.threads.add(threading.get_ident())
        self.opened += 1

    def read(self) -> Frame:
        self.threads.add(threading.get_ident())
        thing = self.things.get(timeout=WAIT_S)
        if isinstance(thing, Exception):
            raise thing
        return thing

    def close(self) -> None:
        self.closed += 1


class Hand:
    """See hal.teleop.Teleop. Says `says`, once each; then nothing, with the stamp `now() - age_s`."""

    blocks = True
    action: Box = COMMAND

    def __init__(self) -> None:
        self.says: queue.SimpleQueue[dict[str, Any] | Exception] = queue.SimpleQueue()
        self.begun: list[bool] = []
        self.polls, self.age_s, self.closed = 0, 0.0, 0
        self.threads: set[int] = set()
        self.may_begin = threading.Event()
        self.may_begin.set()

    def open(self) -> None:
        self.threads.add(threading.get_ident())

    def begin(self, *, demonstrate: bool) -> None:
        self.threads.add(threading.get_ident())
        assert self.may_begin.wait(WAIT_S)
        self.begun.append(demonstrate)

    def poll(self) -> TeleopReading:
        self.threads.add(threading.get_ident())
        said: dict[str, Any] = {}
        if not self.says.empty():
            thing = self.says.get()
            if isinstance(thing, Exception):
                raise thing
            said = thing
        self.polls += 1
        return TeleopReading(**{"stamp_s": CLOCK.now_s() - self.age_s, "action": None, **said})

    def close(self) -> None:
        self.closed += 1


def said(hand: Hand, *things: dict[str, Any] | Exception) -> None:
    """Returns when the thread has taken all of them, and one reading more."""
    for thing in things:
        hand.says.put(thing)
    wait_for(hand.says.empty)
    polls = hand.polls
    wait_for(lambda: hand.polls > polls + 1)


def opened(hand: Hand) -> BackgroundTeleop:
    teleop = BackgroundTeleop(hand, clock=CLOCK)
    teleop.open()
    return teleop


def test_a_camera_behind_a_thread_keeps_the_contract() -> None:
    check_camera(lambda: BackgroundCamera(FakeCamera(FakeCameraConfig(rate_hz=100.0), clock=CLOCK), clock=CLOCK))


def test_an_operator_behind_a_thread_keeps_the_contract() -> None:
    check_teleop(lambda: BackgroundTeleop(FakeTeleop(robot=robot(), clock=CLOCK), clock=CLOCK))


def robot() -> FakeRobot:
    made = FakeRobot(clock=CLOCK)
    made.open()
    return made


def test_nobody_waits_for_a_frame_and_its_stamp_stays_its_own() -> None:
    slow = Slow()
    camera = BackgroundCamera(slow, clock=CLOCK)
    stamp_s = CLOCK.now_s() - 0.1
    slow.things.put(frame(stamp_s))
    camera.open()
    assert [camera.read().stamp_s for _ in range(3)] == [stamp_s] * 3  # the camera waits for its next frame meanwhile
    slow.things.put(frame(stamp_s + 0.05))
    wait_for(lambda: camera.read().stamp_s == stamp_s + 0.05)
    slow.things.put(frame(0.0))
    camera.close()
    assert slow.closed == 1
    assert threading.get_ident() not in slow.threads
    assert len(slow.threads) == 1


def test_a_frame_that_is_too_old_is_refused_and_one_that_the_camera_refuses_changes_nothing() -> None:
    slow = Slow()
    camera = BackgroundCamera(slow, clock=CLOCK, max_age_s=1000.0)
    first_s = CLOCK.now_s()
    slow.things.put(frame(first_s))
    camera.open()
    slow.things.put(SensorStale("the cable"))
    wait_for(slow.things.empty)
    assert camera.read().stamp_s == first_s
    slow.things.put(frame(CLOCK.now_s() - 1001.0))
    with pytest.raises(SensorStale, match=r"observation.images.slow's newest frame is 1e\+03 s old, allowed 1000 s"):
        wait_for(lambda: camera.read().stamp_s < first_s)
    slow.things.put(HardwareError("gone"))
    wait_for(lambda: slow.closed)
    with pytest.raises(HardwareError, match="gone"):
        camera.read()
    camera.close()


def test_a_camera_that_does_not_wait_is_asked_sixty_times_a_second() -> None:
    clock = FakeClock(5.0)
    frames = BackgroundCamera(FakeCamera(clock=clock), clock=clock)._connect()
    stamps_s = [made.stamp_s for _ in range(3) if (made := frames.next_frame())]
    assert stamps_s == pytest.approx([5.0, 5.0 + 1 / 60, 5.0 + 2 / 60])


def test_an_event_between_two_polls_is_said_by_the_next_and_only_by_it() -> None:
    hand = Hand()
    teleop = opened(hand)
    drives = np.full(1, 0.5, np.float32)
    said(hand, {"success": True}, {"rerecord_episode": True}, {"action": drives, "is_intervention": True})
    reading = teleop.poll()
    assert (reading.success, reading.rerecord_episode, reading.failure, reading.terminate_episode) == (
        True, True, False, False,
    )  # fmt: skip
    again = teleop.poll()
    assert (again.success, again.rerecord_episode) == (False, False)
    assert again.action is None  # the hand has gone off the device since
    teleop.close()
    assert hand.closed == 1
    assert len(hand.threads) == 1
    assert threading.get_ident() not in hand.threads


def test_an_episode_begins_on_the_devices_thread_and_nothing_said_before_it_counts() -> None:
    hand = Hand()
    teleop = opened(hand)
    said(hand, {"failure": True, "terminate_episode": True})
    teleop.begin(demonstrate=True)
    assert hand.begun == [True]
    assert not teleop.poll().failure
    said(hand, {"failure": True})
    assert teleop.poll().failure
    teleop.begin(demonstrate=False)
    assert hand.begun == [True, False]
    teleop.close()
    assert len(hand.threads) == 1


def test_an_episode_that_does_not_begin_in_time_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hal.background, "BEGIN_S", 0.05)
    hand = Hand()
    teleop = opened(hand)
    hand.may_begin.clear()
    with pytest.raises(HardwareError, match=r"did not begin an episode within 0.05 s; look at its cable and port"):
        teleop.begin(demonstrate=False)
    hand.may_begin.set()
    teleop.close()


def test_an_operators_word_that_is_too_old_is_refused() -> None:
    hand = Hand()
    teleop = opened(hand)
    hand.age_s = 2.0
    said(hand)
    with pytest.raises(SensorStale, match=r"newest word is 2 s old, allowed 0.5 s; look at the device"):
        teleop.poll()
    hand.age_s = 0.0
    said(hand, SensorStale("once"))
    assert teleop.poll().action is None
    teleop.close()


def test_a_device_that_is_gone_is_said_by_the_next_poll_and_comes_back_when_opened() -> None:
    hand = Hand()
    teleop = opened(hand)
    hand.says.put(HardwareError("the receiver is out"))
    wait_for(lambda: hand.closed)
    with pytest.raises(HardwareError, match="the receiver is out"):
        teleop.poll()
    with pytest.raises(HardwareError, match="the receiver is out"):
        teleop.begin(demonstrate=False)
    teleop.close()
    teleop.open()
    assert teleop.poll().action is None
    teleop.close()


def test_a_device_that_does_not_open_says_why() -> None:
    hand = Hand()
    hand.says.put(HardwareError("no such port"))
    teleop = BackgroundTeleop(hand, clock=CLOCK)
    with pytest.raises(HardwareError, match="no such port"):
        teleop.open()
    with pytest.raises(HardwareError, match=r"is not open; call open\(\) first"):
        teleop.poll()


CELL = {"robot": {"name": "fake"}, "task": {"name": "fake"}, "teleop": {"name": "fake"}}


@pytest.mark.parametrize(
    ("rate_hz", "background", "wrapped"), [(30.0, True, True), (30.0, False, False), (0.0, True, False)]
)
def test_a_cell_wraps_what_waits_where_time_is_real(rate_hz: float, background: bool, wrapped: bool) -> None:
    tree = CELL | {"cameras": {"front": {"name": "fake", "rate_hz": rate_hz}}}
    cell = make_cell(build(CellConfig, tree), name="a", clock=CLOCK, seed=1, background=background)
    assert isinstance(cell.cameras["front"], BackgroundCamera) is wrapped
    assert cell.cameras["front"].spec.name == "observation.images.front"
    assert isinstance(cell.teleop, FakeTeleop)


def test_an_operator_whose_driver_waits_is_wrapped_too(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(FakeTeleop, "blocks", True, raising=False)
    cell = make_cell(build(CellConfig, CELL), name="a", clock=CLOCK, seed=1, background=True)
    assert isinstance(cell.teleop, BackgroundTeleop)


def test_which_of_our_drivers_wait() -> None:
    from hal.realsense import RealSense
    from hal.remote.client import RemoteCamera, RemoteTeleop
    from hal.sim.camera import SimCamera
    from hal.so101_leader import So101Leader
    from hal.v4l2 import V4l2Camera
    from hal.video import VideoCamera

    waits: tuple[type[Camera | Teleop], ...] = (RemoteCamera, RemoteTeleop, VideoCamera)
    others: tuple[type[Camera | Teleop], ...] = (RealSense, V4l2Camera, SimCamera, So101Leader)
    assert all(blocks(driver) for driver in waits)  # type: ignore[arg-type]
    assert not any(blocks(driver) for driver in others)  # type: ignore[arg-type]


def test_a_fake_camera_with_a_rate_gives_its_frames_at_that_rate() -> None:
    clock = FakeClock(10.0)
    camera = FakeCamera(FakeCameraConfig(rate_hz=20.0), clock=clock)
    camera.open()
    assert [camera.read().stamp_s for _ in range(3)] == pytest.approx([10.05, 10.1, 10.15])
    clock.advance(1.0)
    assert camera.read().stamp_s == pytest.approx(11.15)  # the frames in between went by unread
    assert clock.now_s() == pytest.approx(11.15)
