"""What a pace measures by: the lowest delay of a while, and bytes per second while there was something to send."""

from collections import deque
from typing import Final

KEPT_S: Final = 2.0  # of marks
MARK_S: Final = 0.0005  # between two marks


class Lowest:
    """The lowest value of the last while; a value is forgotten after half of `within_s` to all of it."""

    def __init__(self, within_s: float) -> None:
        self._half_s = within_s / 2
        self._old = self._new = float("inf")
        self._turned_s = float("-inf")

    @property
    def value(self) -> float:
        """0 before the first."""
        lowest = min(self._old, self._new)
        return 0.0 if lowest == float("inf") else lowest

    def begin(self, value: float, now_s: float) -> None:
        """Forgets what was lower than `value`."""
        self._old, self._new, self._turned_s = float("inf"), value, now_s

    def add(self, value: float, now_s: float) -> float:
        """Takes one more in and returns the lowest."""
        if now_s - self._turned_s >= self._half_s:
            self._old, self._new, self._turned_s = self._new, float("inf"), now_s
        self._new = min(self._new, value)
        return self.value


class Meter:
    """Bytes per second: of what was added since `begin`."""

    def __init__(self) -> None:
        self._marks: deque[tuple[float, int]] = deque()
        self.total = 0

    def begin(self, now_s: float) -> None:
        """What is added from now on belongs together, with no pause for want of something to send."""
        self._marks.clear()
        self._marks.append((now_s, self.total))

    def add(self, size: int, now_s: float) -> None:
        """`size` bytes more."""
        self.total += size
        if not self._marks or now_s - self._marks[-1][0] >= MARK_S:
            self._marks.append((now_s, self.total))
            while now_s - self._marks[0][0] > KEPT_S:
                self._marks.popleft()
        else:
            self._marks[-1] = (self._marks[-1][0], self.total)

    def rate(self, within_s: float, now_s: float) -> float | None:
        """Over the last `within_s`; None when it began later."""
        start = next((m for m in reversed(self._marks) if now_s - m[0] >= within_s), None)
        return None if start is None else (self.total - start[1]) / (now_s - start[0])

    def best(self, span_s: float, since_s: float) -> float | None:
        """The highest rate over any `span_s` from `since_s` on; None when there is no such span."""
        marks = [mark for mark in self._marks if mark[0] >= since_s]
        best, first = 0.0, 0
        for when_s, total in marks:
            while first + 1 < len(marks) and when_s - marks[first + 1][0] >= span_s:
                first += 1
            if when_s - marks[first][0] >= span_s:
                best = max(best, (total - marks[first][1]) / (when_s - marks[first][0]))
        return best or None
