"""Back-off: how long to wait before the next attempt."""

import random
from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class BackoffConfig:
    """Pauses between attempts to open again."""

    first_s: float = 0.2
    longest_s: float = 30.0
    steady_s: float = 5.0  # what stayed open for so long begins with the first pause again

    def __post_init__(self) -> None:
        if not 0 < self.first_s <= self.longest_s:
            raise ValueError(
                f"first_s = {self.first_s}, longest_s = {self.longest_s}, allowed 0 < first_s <= longest_s; change them"
            )


class Backoff:
    """Pauses that double, each shortened by chance by up to a half, so that many robots do not come at one instant."""

    def __init__(self, config: BackoffConfig, chance: random.Random) -> None:
        self._config, self._chance, self._next_s = config, chance, config.first_s

    def pause_s(self, was_open_s: float = 0.0) -> float:
        """How long to wait now, after what was open for `was_open_s` (0: it did not open)."""
        if was_open_s >= self._config.steady_s:
            self._next_s = self._config.first_s
        pause_s, self._next_s = self._next_s, min(2 * self._next_s, self._config.longest_s)
        return pause_s * self._chance.uniform(0.5, 1.0)
