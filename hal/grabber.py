"""Grabber: the thread between a camera's SDK, which blocks, and the control loop, which must not.

The thread opens the device, is the only one that touches it, keeps the newest frame, and closes it. Whatever the SDK
does, the loop waits for nothing: a frame that is too old is SensorStale, a device that is gone is HardwareError.
"""

import logging
import threading
from collections.abc import Callable
from typing import Protocol

from hal.camera import Frame
from user_rl.clock import Clock
from user_rl.errors import HardwareError, SensorStale

log = logging.getLogger(__name__)

STOP_S = 2.0  # an SDK that does not come back within this keeps its thread, and its device


class Source(Protocol):
    """An open device that streams."""

    def next_frame(self) -> Frame | None:
        """Waits for a frame, a few periods at most; None if none came; raises HardwareError when none will."""

    def close(self) -> None:
        """Lets go of the device."""


class Grabber:
    """The newest frame of one device's stream; `connect` opens the device, in the thread. Used once: start, stop."""

    def __init__(self, connect: Callable[[], Source], *, name: str, clock: Clock, max_age_s: float) -> None:
        self.name, self._clock, self._max_age_s = name, clock, max_age_s
        self._connect = connect
        self._news = threading.Condition()
        self._frame: Frame | None = None
        self._error: HardwareError | None = None
        self._ended = False
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name=f"grab {name}", daemon=True)

    def start(self, within_s: float) -> None:
        """Returns when there is a frame; raises HardwareError if there is none after `within_s` of real time."""
        self._thread.start()
        with self._news:
            self._news.wait_for(lambda: self._frame or self._error or self._ended, within_s)
            seen = self._frame or self._error or self._ended
        if self._frame is None:
            self.stop()
        if not seen:
            raise HardwareError(f"{self.name} gave no frame within {within_s:g} s of opening; look at cable and port")
        self._check()

    def newest(self) -> Frame:
        """At once; raises SensorStale, HardwareError."""
        self._check()
        frame = self._frame
        assert frame is not None  # start has returned
        age_s = self._clock.now_s() - frame.stamp_s
        if age_s > self._max_age_s:
            raise SensorStale(
                f"{self.name}'s newest frame is {age_s:.3g} s old, allowed {self._max_age_s:g} s; "
                "look at its cable and at what else uses its port"
            )
        return frame

    def stop(self) -> None:
        """Ends the thread, which closes the device; safe to call twice."""
        self._stopping.set()
        self._thread.join(STOP_S)
        if self._thread.is_alive():
            log.error("%s's SDK has not come back for %g s; its device stays open until it does", self.name, STOP_S)

    def _check(self) -> None:
        if self._error is not None:
            raise HardwareError(str(self._error)) from self._error
        if self._ended:
            raise HardwareError(f"{self.name}'s thread ended; read what it said above, then open the camera again")

    def _run(self) -> None:
        try:
            source = self._connect()
            try:
                self._grab(source)
            finally:
                source.close()
        except HardwareError as error:
            self._error = error
        finally:
            with self._news:
                self._ended = True
                self._news.notify_all()

    def _grab(self, source: Source) -> None:
        while not self._stopping.is_set():
            frame = source.next_frame()
            if frame is not None:
                with self._news:
                    self._frame = frame
                    self._news.notify_all()
