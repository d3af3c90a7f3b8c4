"""Pacer: absolute deadlines at `start + k * period`, so that lateness never adds up.

A step that is late by less than half a period begins at once. A later one waits for the next deadline and the missed
periods are left out: commands never come in a bunch, closer than half a period.
"""

import math

from user_rl.clock import Clock

LATE_AT_ONCE = 0.5  # periods; hal.guard allows a command to come as much too early


class Pacer:
    """Waits for the ends of periods on `clock`."""

    def __init__(self, clock: Clock, rate_hz: float) -> None:
        self.clock, self.period_s = clock, 1.0 / rate_hz
        self.late = self.skipped = 0
        self._start_s, self._count = clock.now_s(), 0
        self.due_s = self._start_s  # when the step that runs now should have begun

    def restart(self) -> None:
        """The present is the start: an episode begins, or a wait has ended."""
        self._start_s, self._count = self.clock.now_s(), 0
        self.due_s = self._start_s

    def wait(self) -> None:
        """Returns at the end of the current period."""
        self._count += 1
        self.due_s = self._start_s + self._count * self.period_s
        late_s = self.clock.now_s() - self.due_s
        if late_s > 0:
            self.late += 1
            missed = math.ceil(late_s / self.period_s - LATE_AT_ONCE)
            self.skipped += max(0, missed)
            self._count += max(0, missed)
        self.clock.sleep_until(self._start_s + self._count * self.period_s)
