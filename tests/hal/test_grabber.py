"""The thread between an SDK and the loop: real threads, waits bounded, no sleeping."""

import logging
import queue
import threading

import numpy as np
import pytest

import hal.grabber
from hal.camera import Frame
from hal.grabber import Grabber
from user_rl.clock import FakeClock
from user_rl.errors import HardwareError, SensorStale

WAIT_S = 10.0


class Belt:
    """See hal.grabber.Source. Frames, and errors, as a test puts them on."""

    def __init__(self) -> None:
        self.things: queue.Queue[Frame | Exception | None] = queue.Queue()
        self.taken, self.closed = threading.Semaphore(0), threading.Event()
        self.threads: set[int] = set()

    def next_frame(self) -> Frame | None:
        self.threads.add(threading.get_ident())
        self.taken.release()
        thing = self.things.get(timeout=WAIT_S)
        if isinstance(thing, Exception):
            raise thing
        return thing

    def close(self) -> None:
        self.threads.add(threading.get_ident())
        self.closed.set()

    def put(self, *things: Frame | Exception | None) -> None:
        """Returns when the thread has dealt with them all and asks for more."""
        for thing in things:
            assert self.taken.acquire(timeout=WAIT_S)
            self.things.put(thing)
        assert self.taken.acquire(timeout=WAIT_S)
        self.taken.release()


def frame(stamp_s: float) -> Frame:
    return Frame(stamp_s=stamp_s, pixels=np.zeros((2, 2, 3), np.uint8))


def started(belt: Belt, clock: FakeClock) -> Grabber:
    grabber = Grabber(lambda: belt, name="cam", clock=clock, max_age_s=0.5)
    belt.things.put(frame(0.0))
    grabber.start(WAIT_S)
    assert belt.taken.acquire(timeout=WAIT_S)
    return grabber


def test_the_newest_frame_is_kept_and_the_others_dropped() -> None:
    belt = Belt()
    grabber = started(belt, FakeClock(0.3))
    belt.put(frame(0.1), frame(0.2), None)
    assert grabber.newest().stamp_s == 0.2
    assert grabber.newest() is grabber.newest()
    belt.things.put(None)
    grabber.stop()


def test_one_thread_alone_touches_the_device_and_closes_it() -> None:
    belt = Belt()
    grabber = started(belt, FakeClock())
    belt.things.put(None)
    grabber.stop()
    assert belt.closed.is_set()
    assert len(belt.threads) == 1
    assert threading.get_ident() not in belt.threads
    grabber.stop()


def test_an_old_frame_is_stale_until_a_new_one_comes() -> None:
    belt, clock = Belt(), FakeClock()
    grabber = started(belt, clock)
    clock.advance(0.5)
    grabber.newest()
    clock.advance(0.2)
    with pytest.raises(SensorStale, match=r"cam's newest frame is 0\.7 s old, allowed 0\.5 s; look at its cable"):
        grabber.newest()
    belt.put(frame(0.7))
    assert grabber.newest().stamp_s == 0.7
    belt.things.put(None)
    grabber.stop()


def test_what_the_device_says_at_its_end_is_what_every_read_says() -> None:
    belt = Belt()
    grabber = started(belt, FakeClock())
    belt.things.put(HardwareError("cam is gone"))
    assert belt.closed.wait(WAIT_S)
    grabber.stop()
    for _ in range(2):
        with pytest.raises(HardwareError, match="cam is gone"):
            grabber.newest()


def test_a_device_that_does_not_open_says_why() -> None:
    def refuse() -> Belt:
        raise HardwareError("no cam; look at the cable")

    with pytest.raises(HardwareError, match="no cam; look at the cable"):
        Grabber(refuse, name="cam", clock=FakeClock(), max_age_s=1).start(WAIT_S)


def test_a_device_without_a_frame_is_given_up_and_closed() -> None:
    belt = Belt()
    grabber = Grabber(lambda: belt, name="cam", clock=FakeClock(), max_age_s=1)
    belt.things.put(None)
    belt.things.put(None)
    threading.Timer(0.2, belt.things.put, [None]).start()
    with pytest.raises(HardwareError, match=r"cam gave no frame within 0\.05 s of opening"):
        grabber.start(0.05)
    assert belt.closed.wait(WAIT_S)


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_a_bug_in_the_thread_is_an_error_of_the_camera_and_not_an_old_picture() -> None:
    belt = Belt()
    grabber = started(belt, FakeClock())
    belt.things.put(ZeroDivisionError("bug"))
    assert belt.closed.wait(WAIT_S)
    grabber.stop()
    with pytest.raises(HardwareError, match="cam's thread ended"):
        grabber.newest()


def test_an_sdk_that_does_not_come_back_does_not_hold_up_its_end(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(hal.grabber, "STOP_S", 0.05)
    belt = Belt()
    grabber = started(belt, FakeClock())
    with caplog.at_level(logging.ERROR):
        grabber.stop()
    assert "cam's SDK has not come back" in caplog.text
    belt.things.put(None)
    assert belt.closed.wait(WAIT_S)
