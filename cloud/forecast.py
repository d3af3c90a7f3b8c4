"""When a disk will be full: arithmetic over samples of what the run uses and what the disk has left.

The rate is the median of the slopes between all pairs of samples in a sliding window (Theil 1950, Sen 1968): a segment
that is dropped, a checkpoint that replaces another or a neighbour's temporary file hardly moves it. The run's growth
and the disk's loss are both estimated, and the faster one counts: whoever else writes there fills the disk too.
"""

from collections import deque
from dataclasses import dataclass

import numpy as np

from user_rl.specs import Array

HOUR_S = 3600.0
WINDOW_S = 900.0
LEAST_SPAN_S, LEAST_SAMPLES = 120.0, 6  # less says nothing: a run begins with files that it writes only once


@dataclass(frozen=True, kw_only=True)
class Forecast:
    """How a disk stands. None: too little is known; `full_in_h` also when nothing grows."""

    free_bytes: int
    bytes_per_hour: float | None = None

    @property
    def full_in_h(self) -> float | None:
        """Hours until nothing is left at this rate."""
        if self.bytes_per_hour is None or self.bytes_per_hour <= 0:
            return None
        return self.free_bytes / self.bytes_per_hour


class DiskForecast:
    """Samples of the last `window_s` seconds, and what follows from them."""

    def __init__(self, window_s: float = WINDOW_S) -> None:
        self._window_s = window_s
        self._samples: deque[tuple[float, int, int]] = deque()

    def add(self, time_s: float, used_bytes: int, free_bytes: int) -> Forecast:
        """Takes one sample, on a clock that only goes forward, and says how the disk stands."""
        self._samples.append((time_s, used_bytes, free_bytes))
        while self._samples[0][0] < time_s - self._window_s:
            self._samples.popleft()
        return Forecast(free_bytes=free_bytes, bytes_per_hour=self._bytes_per_hour())

    def _bytes_per_hour(self) -> float | None:
        times_s, used, free = (np.asarray(column, np.float64) for column in zip(*self._samples, strict=True))
        if len(times_s) < LEAST_SAMPLES or times_s[-1] - times_s[0] < LEAST_SPAN_S:
            return None
        return HOUR_S * max(_slope(times_s, used), _slope(times_s, -free))


class Alarm:
    """When a person should hear of a forecast: once when it is near, and again whenever what is left has halved."""

    def __init__(self, within_h: float) -> None:
        self._within_h = within_h
        self._told_h: float | None = None

    def is_near(self, full_in_h: float | None, run_ends_in_h: float | None) -> bool:
        """Whether the disk is full soon, or before the run's planned end (None: it has none)."""
        return full_in_h is not None and full_in_h < max(self._within_h, run_ends_in_h or 0.0)

    def rings(self, full_in_h: float | None, run_ends_in_h: float | None) -> bool:
        """Whether to warn now; asking counts as telling."""
        if full_in_h is None or not self.is_near(full_in_h, run_ends_in_h):
            return False
        if self._told_h is not None and full_in_h > self._told_h / 2:
            return False
        self._told_h = full_in_h
        return True


def planned_end_h(finished_share: float, wall_s: float) -> float | None:
    """Hours until a run that has used `finished_share` of its limit in `wall_s` seconds ends; None: it has no limit."""
    return wall_s * (1.0 - finished_share) / finished_share / HOUR_S if finished_share > 0 else None


def _slope(x: Array, y: Array) -> float:
    """The median slope over all pairs."""
    i, j = np.triu_indices(len(x), k=1)
    apart = x[j] - x[i]
    return float(np.median((y[j] - y[i])[apart > 0] / apart[apart > 0]))
