"""Spent: how long the newest answers took on this machine, from arrival to answer."""

from collections import deque

NEWEST = 64
P = 0.95


class Spent:
    """The newest answers; one thread adds, any reads."""

    def __init__(self) -> None:
        self._newest: deque[float] = deque(maxlen=NEWEST)
        self._p95_s = 0.0

    def add(self, took_s: float) -> None:
        """One more."""
        self._newest.append(took_s)
        ordered = sorted(self._newest)
        self._p95_s = ordered[int(P * (len(ordered) - 1))]

    def p95_s(self) -> float:
        """Their 95th percentile, the lower of two between which it lies; 0 before the first."""
        return self._p95_s
