"""Measure: how often, how regularly and how late a device says something new."""

from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np

from user_rl.clock import Clock
from user_rl.errors import SensorStale
from user_rl.specs import Array

_MISSED = 1.5  # median intervals: a longer one means that something was left out


@dataclass
class Series:
    """Readings of one device: when measured, when read, how long the call took."""

    stamps_s: list[float] = field(default_factory=list)
    ages_s: list[float] = field(default_factory=list)  # when the call returned
    took_s: list[float] = field(default_factory=list)
    stale: int = 0  # calls that said SensorStale

    @property
    def reads(self) -> int:
        return len(self.stamps_s)

    @property
    def news(self) -> int:
        """How many readings were not the one before."""
        return len(set(self.stamps_s))

    @property
    def goes_back(self) -> bool:
        """Whether a reading was stamped earlier than the one before."""
        return self.stamps_s != sorted(self.stamps_s)

    @property
    def rate_hz(self) -> float:
        """Of new readings."""
        gaps_s = self._gaps_s()
        return len(gaps_s) / float(gaps_s.sum()) if len(gaps_s) else 0.0

    @property
    def gap_s(self) -> tuple[float, float]:
        """From one new reading to the next: median and 99th percentile."""
        return _median_and_p99(self._gaps_s())

    @property
    def age_s(self) -> tuple[float, float]:
        """The median and the worst by amount; negative: stamped in the future."""
        ages_s = np.asarray(self.ages_s)
        return float(np.median(ages_s)), float(ages_s[np.abs(ages_s).argmax()])

    @property
    def call_s(self) -> tuple[float, float]:
        """How long a call takes: median and 99th percentile."""
        return _median_and_p99(np.asarray(self.took_s))

    @property
    def dropped(self) -> int:
        """New readings that should have come between two others and did not."""
        gaps_s = self._gaps_s()
        if not len(gaps_s):
            return 0
        usual_s = float(np.median(gaps_s))
        return int(sum(round(float(gap_s) / usual_s) - 1 for gap_s in gaps_s if gap_s > _MISSED * usual_s))

    def _gaps_s(self) -> Array:
        return np.diff(np.unique(np.asarray(self.stamps_s)))


def watch(read: Callable[[], float], clock: Clock, *, for_s: float, every_s: float) -> Series:
    """Calls `read`, which returns a stamp, every `every_s` for `for_s`; only SensorStale does not end it."""
    series, start_s = Series(), clock.now_s()
    due_s = start_s
    while due_s < start_s + for_s - every_s / 2:  # sums of periods are not exact
        began_s = clock.now_s()
        try:
            stamp_s = read()
        except SensorStale:
            series.stale += 1
        else:
            ended_s = clock.now_s()
            series.stamps_s.append(stamp_s)
            series.ages_s.append(ended_s - stamp_s)
            series.took_s.append(ended_s - began_s)
        due_s = max(due_s + every_s, clock.now_s())
        clock.sleep_until(due_s)
    return series


def _median_and_p99(values: Array) -> tuple[float, float]:
    if not len(values):
        return 0.0, 0.0
    return float(np.median(values)), float(np.percentile(values, 99))
