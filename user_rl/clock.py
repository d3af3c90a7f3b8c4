"""Time as an argument: nothing in the project reads the system's clock by itself.

`now_s` is monotonic and has an arbitrary zero; it is never compared across machines.
"""

import threading
import time
from typing import Protocol


class Clock(Protocol):
    """Monotonic seconds, and waiting for them."""

    def now_s(self) -> float: ...

    def sleep_until(self, deadline_s: float) -> None:
        """Returns at `deadline_s`, at once if that is past."""


class SystemClock:
    """The machine's monotonic clock, which all processes of one machine share."""

    def now_s(self) -> float:
        return time.monotonic()

    def sleep_until(self, deadline_s: float) -> None:
        left_s = deadline_s - time.monotonic()
        if left_s > 0:
            time.sleep(left_s)


class FreeRunningClock(SystemClock):
    """Real time for stamps, no waiting at all: a simulation that runs as fast as it can."""

    def sleep_until(self, deadline_s: float) -> None:
        return None


class FakeClock:
    """Time that moves only when told to (or slept through), for tests and for replays."""

    def __init__(self, start_s: float = 0.0) -> None:
        self._now_s = start_s
        self._lock = threading.Lock()
        self.sleeps_s: list[float] = []

    def now_s(self) -> float:
        with self._lock:
            return self._now_s

    def advance(self, by_s: float) -> None:
        """Moves time forward by `by_s` >= 0 seconds."""
        with self._lock:
            self._now_s += by_s

    def sleep_until(self, deadline_s: float) -> None:
        with self._lock:
            self.sleeps_s.append(max(0.0, deadline_s - self._now_s))
            self._now_s = max(self._now_s, deadline_s)
