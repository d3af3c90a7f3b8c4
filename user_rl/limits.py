"""Limits: token buckets by key, so that no one caller takes what belongs to all."""

from collections import OrderedDict

from user_rl.clock import Clock

MOST_KEYS = 10_000  # that are told apart; the least recently seen is forgotten, and would begin anew


class Buckets:
    """At most `rate_hz` of something a second for each key, and `burst` at once. One thread, or a lock around it."""

    def __init__(self, rate_hz: float, burst: float, clock: Clock) -> None:
        self._rate_hz, self._burst, self._clock = rate_hz, burst, clock
        self._left: OrderedDict[str, tuple[float, float]] = OrderedDict()  # tokens, when

    def take(self, key: str, cost: float = 1.0) -> bool:
        """Whether `key` may do this now; what it may not do costs nothing."""
        now_s = self._clock.now_s()
        left, then_s = self._left.pop(key, (self._burst, now_s))
        left = min(self._burst, left + (now_s - then_s) * self._rate_hz)
        granted = left >= cost
        self._left[key] = (left - cost if granted else left, now_s)
        if len(self._left) > MOST_KEYS:
            self._left.popitem(last=False)
        return granted
