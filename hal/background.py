"""Background: a camera or an operator whose driver waits (for a frame, for an answer) gets a thread of its own.

A driver says so by an attribute `blocks = True`; `hal.make` then wraps it, in real pace. The thread is the only one
that touches the device and keeps what it said last, with the stamp that it had; the loop takes that and waits for
nothing. What is older than its limit is SensorStale. What shares a device or a world with the robot (a simulated
camera, LeRobot's, a leader arm that looks at its follower) must not be wrapped.
"""

import logging
import threading
from collections.abc import Callable

import msgspec

from hal.camera import Camera, Frame
from hal.grabber import Grabber
from hal.teleop import Teleop, TeleopReading
from user_rl.clock import Clock
from user_rl.errors import HardwareError, SensorStale
from user_rl.specs import Box, Image

log = logging.getLogger(__name__)

FRAME_S = 1 / 60  # a camera that does not wait for its frames is asked so often
POLL_S = 0.01  # and an operator
MAX_AGE_S = 0.5
OPEN_S = 30.0  # with the first frame or word after it
BEGIN_S = 5.0
STOP_S = 2.0
EVENTS = ("success", "failure", "rerecord_episode", "terminate_episode")


def blocks(part: Camera | Teleop) -> bool:
    """Whether this driver waits in `read` or `poll`."""
    return bool(getattr(part, "blocks", False))


class BackgroundCamera:
    """See hal.camera.Camera."""

    def __init__(self, camera: Camera, *, clock: Clock, max_age_s: float = MAX_AGE_S) -> None:
        self.camera, self._clock, self._max_age_s = camera, clock, max_age_s
        self._grabber: Grabber | None = None

    @property
    def spec(self) -> Image:
        return self.camera.spec

    def open(self) -> None:
        grabber = Grabber(self._connect, name=self.spec.name, clock=self._clock, max_age_s=self._max_age_s)
        grabber.start(OPEN_S)
        self._grabber = grabber

    def read(self) -> Frame:
        if self._grabber is None:
            raise HardwareError(f"{self.spec.name} is not open; call open() first")
        return self._grabber.newest()

    def close(self) -> None:
        if self._grabber is not None:
            self._grabber.stop()
            self._grabber = None

    def _connect(self) -> "_Frames":
        self.camera.open()
        return _Frames(self.camera, self._clock)


class _Frames:
    """See hal.grabber.Source."""

    def __init__(self, camera: Camera, clock: Clock) -> None:
        self._camera, self._clock, self._again_s = camera, clock, clock.now_s()

    def next_frame(self) -> Frame | None:
        self._clock.sleep_until(self._again_s)
        self._again_s = self._clock.now_s() + FRAME_S
        try:
            return self._camera.read()
        except SensorStale:  # the newest that there was grows old, and is refused by its own age
            return None

    def close(self) -> None:
        self._camera.close()


class BackgroundTeleop:
    """See hal.teleop.Teleop. What an operator said between two polls is said by the next one, and only there."""

    def __init__(self, teleop: Teleop, *, clock: Clock, max_age_s: float = MAX_AGE_S) -> None:
        self.teleop, self._clock, self._max_age_s = teleop, clock, max_age_s
        self._lock = threading.Condition()
        self._reading: TeleopReading | None = None
        self._said: set[str] = set()  # events that nobody has taken yet
        self._begin: bool | None = None  # an episode that is to begin: whether it is a demonstration
        self._error: HardwareError | None = None
        self._stopping = threading.Event()
        self._thread: threading.Thread | None = None

    @property
    def action(self) -> Box:
        return self.teleop.action

    def open(self) -> None:
        self._reading, self._error, self._begin = None, None, None
        self._said.clear()
        self._stopping.clear()
        self._thread = threading.Thread(target=self._run, name="teleop", daemon=True)
        self._thread.start()
        try:
            self._wait(lambda: self._reading is not None, OPEN_S, "said nothing within {:g} s of opening")
        except HardwareError:
            self.close()
            raise

    def begin(self, *, demonstrate: bool) -> None:
        self._check_open()
        with self._lock:
            self._begin = demonstrate
        self._wait(lambda: self._begin is None, BEGIN_S, "did not begin an episode within {:g} s")

    def poll(self) -> TeleopReading:
        self._check_open()
        with self._lock:
            self._check()
            reading, said = self._reading, self._said
            self._said = set()
        assert reading is not None  # open has returned
        age_s = self._clock.now_s() - reading.stamp_s
        if age_s > self._max_age_s:
            raise SensorStale(
                f"the operator's newest word is {age_s:.3g} s old, allowed {self._max_age_s:g} s; look at the device"
            )
        return msgspec.structs.replace(reading, **dict.fromkeys(said, True)) if said else reading

    def close(self) -> None:
        thread, self._thread = self._thread, None
        if thread is not None:
            self._stopping.set()
            thread.join(STOP_S)
            if thread.is_alive():
                log.error("the operator's device has not come back for %g s; it stays open until it does", STOP_S)

    def _check_open(self) -> None:
        if self._thread is None:
            raise HardwareError("the operator's device is not open; call open() first")

    def _check(self) -> None:
        if self._error is not None:
            raise HardwareError(str(self._error)) from self._error

    def _wait(self, done: Callable[[], bool], within_s: float, what: str) -> None:
        with self._lock:
            answered = self._lock.wait_for(lambda: done() or self._error is not None, within_s)
            self._check()
        if not answered:
            raise HardwareError(f"the operator's device {what.format(within_s)}; look at its cable and port")

    def _run(self) -> None:
        try:
            self.teleop.open()
            try:
                while not self._stopping.is_set():
                    again_s = self._clock.now_s() + POLL_S
                    self._turn()
                    self._clock.sleep_until(again_s)
            finally:
                self.teleop.close()
        except HardwareError as error:
            with self._lock:
                self._error = error
                self._lock.notify_all()

    def _turn(self) -> None:
        begin = self._begin
        if begin is not None:
            self.teleop.begin(demonstrate=begin)
        try:
            reading = self.teleop.poll()
        except SensorStale:  # as in _Frames
            return
        with self._lock:
            if begin is not None:  # what was said before belongs to the episode before
                self._said.clear()
                self._begin = None
            self._said.update(name for name in EVENTS if getattr(reading, name))
            self._reading = reading
            self._lock.notify_all()
