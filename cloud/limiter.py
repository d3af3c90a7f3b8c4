"""The update-to-data limiter: one inequality that holds the learner and the robots together, in both directions.

    |updates - base_updates - ratio * (rows - base_rows)| <= tolerance

Its upper side holds the learner back (`may_update`), its lower side the robots (`permit`). `rows` are the online
transitions in the run's log; demonstrations are free. Warm-up is decided by the rows that are present, never by a
counter. A fresh run starts at base_rows = warmup_rows, base_updates = 0; a resume moves the base to where it is.
"""

import math

import msgspec

from user_rl.errors import ConfigError


class LimiterState(msgspec.Struct, frozen=True):
    """What the run manifest keeps of a limiter."""

    base_rows: float
    base_updates: float


class RateLimiter:
    """Decides who may go on: the learner, or the robots. Plain arithmetic, no thread of its own."""

    def __init__(self, ratio: float, warmup_rows: int, tolerance: float, *, pace_robots: bool = True) -> None:
        if not 0 < ratio < math.inf:
            raise ConfigError(f"update_ratio = {ratio:g}, allowed more than 0; say how many updates one step is worth")
        if warmup_rows < 0:
            raise ConfigError(f"warmup_rows = {warmup_rows}, allowed 0 or more; 0 starts at the first row")
        if not math.isfinite(tolerance):
            raise ConfigError(f"tolerance = {tolerance:g}, allowed a number; a large one lets either side run ahead")
        if tolerance < 1 + ratio:  # below half of this neither side could move; twice that leaves room for rounding
            raise ConfigError(f"tolerance = {tolerance:g}, allowed at least 1 + update_ratio = {1 + ratio:g}; raise it")
        self.ratio, self.warmup_rows, self.tolerance = ratio, warmup_rows, tolerance
        self._pace_robots = pace_robots
        self.state = LimiterState(base_rows=float(warmup_rows), base_updates=0.0)

    def may_update(self, online_rows: int, updates: int) -> bool:
        """Whether update number `updates` + 1 may happen now."""
        return online_rows >= self.warmup_rows and updates + 1 <= self._due(online_rows) + self.tolerance

    def permit(self, updates: int) -> int | None:
        """How many online rows the run may hold now; None: no limit, the robots keep their own pace."""
        if not self._pace_robots:
            return None
        ahead = (updates - self.state.base_updates + self.tolerance) / self.ratio
        return math.floor(self.state.base_rows + ahead)

    def resumed(self, online_rows: int, updates: int, state: LimiterState) -> None:
        """Moves the base of a restored `state` to the rows and updates that there are.

        What the learner had done ahead stays a debt (at most `tolerance`); rows that came meanwhile give no credit, so
        that at most `tolerance` updates follow at once. A log that lost rows starves nobody.
        """
        self.state = state
        credit = min(0.0, max(-self.tolerance, self._due(online_rows) - updates))
        if online_rows < self.warmup_rows:
            credit = 0.0
        self.state = LimiterState(base_rows=float(max(online_rows, self.warmup_rows)), base_updates=updates + credit)

    def _due(self, online_rows: int) -> float:
        return self.state.base_updates + self.ratio * (online_rows - self.state.base_rows)
