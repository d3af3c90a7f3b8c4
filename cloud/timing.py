"""What of the learner's chores is due, by the clock, and how fast things went since the last report."""

import math

from user_rl.clock import Clock


class Timing:
    """One loop's clock. `elapsed_s` once per turn; the others say True once per period."""

    def __init__(self, clock: Clock, *, checkpoint_s: float, metrics_s: float) -> None:
        self._clock, self._checkpoint_s, self._metrics_s = clock, checkpoint_s, metrics_s
        self._turn_s = self._reported_s = clock.now_s()
        self._next_checkpoint_s, self._next_report_s = self._turn_s + checkpoint_s, -math.inf
        self._counted: tuple[int, int] | None = None

    def elapsed_s(self) -> float:
        """Seconds since the last call."""
        before_s, self._turn_s = self._turn_s, self._clock.now_s()
        return self._turn_s - before_s

    def checkpoint_is_due(self) -> bool:
        due = self._turn_s >= self._next_checkpoint_s
        self._next_checkpoint_s = self._turn_s + self._checkpoint_s if due else self._next_checkpoint_s
        return due

    def report_is_due(self) -> bool:
        due = self._turn_s >= self._next_report_s
        self._next_report_s = self._turn_s + self._metrics_s if due else self._next_report_s
        return due

    def rates(self, updates: int, rows: int) -> dict[str, float]:
        """Updates and env steps per second since the last call; 0 at the first."""
        now_s = self._clock.now_s()
        past_s, (old_updates, old_rows) = max(now_s - self._reported_s, 1e-3), self._counted or (updates, rows)
        self._counted, self._reported_s = (updates, rows), now_s
        return {"updates_per_s": (updates - old_updates) / past_s, "env_steps_per_s": (rows - old_rows) / past_s}
