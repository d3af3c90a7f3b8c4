"""Stamps: a device's own times on our clock, from nothing but when its frames arrive.

The offset between the two clocks is the smallest arrival minus device time of the last `window_s`: waiting only ever
adds to it (the minimum filter of one-way clock synchronisation). What remains is the delay of the fastest frame, which
nobody can see from here; where it is known it is given as `latency_s`.
"""

import math

_JUMP_S = 1.0  # an offset that moves by more is another clock: the device was restarted, or its counter wrapped


class StampMapper:
    """One device's clock. Stamps never go backwards and are never later than the arrival."""

    def __init__(self, *, latency_s: float = 0.0, window_s: float = 10.0) -> None:
        self._latency_s, self._half_s = latency_s, window_s / 2
        self._device_s = self._stamp_s = -math.inf  # the last ones
        self._forget()

    def stamp_s(self, device_s: float, arrival_s: float) -> float:
        """When what the device stamped `device_s` happened, on the clock of `arrival_s`."""
        if device_s == self._device_s:  # the same thing again, or a clock that stands: nothing new was seen
            return self._stamp_s
        offset_s = arrival_s - device_s
        if abs(offset_s - self._offset_s) > _JUMP_S:
            self._forget()
        if arrival_s >= self._turn_s:
            self._older_s, self._newer_s = self._newer_s, math.inf
            self._turn_s = arrival_s + self._half_s
        self._newer_s = min(self._newer_s, offset_s)
        self._device_s = device_s
        self._stamp_s = max(self._stamp_s, device_s + self._offset_s - self._latency_s)
        return self._stamp_s

    @property
    def _offset_s(self) -> float:
        return min(self._older_s, self._newer_s)

    def _forget(self) -> None:
        self._older_s = self._newer_s = math.inf  # the smallest offset of the half window before, and of this one
        self._turn_s = -math.inf
