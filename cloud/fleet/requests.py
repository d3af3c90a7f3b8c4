"""Requests: who asked the fleet for what, and who waits in which order.

A request waits while its run repeats it. The order is that of the first asking and is not durable: after a restart it
is that of the first repetition. What a run asked for last is remembered for as long as it holds anything, because it
says whether others may have it back.
"""

from collections.abc import Container
from dataclasses import dataclass

from hal.placement import Request
from user_rl.ask import Ask


@dataclass(frozen=True)
class _Entry:
    ask: Ask
    asked_s: float


class Requests:
    """Requests by run."""

    def __init__(self, *, ttl_s: float) -> None:
        self._ttl_s = ttl_s
        self._waiting: dict[str, _Entry] = {}
        self._asks: dict[str, Ask] = {}

    def ask(self, run: str, ask: Ask, now_s: float) -> None:
        """The run asks, for the first time or again; a run that waits keeps its place."""
        self._waiting[run] = _Entry(ask, now_s)
        self._asks[run] = ask

    def satisfied(self, run: str) -> None:
        """The run no longer waits."""
        self._waiting.pop(run, None)

    def forget(self, now_s: float, holders: Container[str]) -> None:
        """Drops requests that were not repeated in time, and what is known of runs that hold nothing and wait not."""
        self._waiting = {r: e for r, e in self._waiting.items() if now_s - e.asked_s <= self._ttl_s}
        self._asks = {r: a for r, a in self._asks.items() if r in holders or r in self._waiting}

    def waiting(self) -> list[Request]:
        """First to last."""
        return [Request(run=run, ask=entry.ask) for run, entry in self._waiting.items()]

    def asks(self) -> dict[str, Ask]:
        """What each run asked for last."""
        return dict(self._asks)

    def waits(self, run: str) -> bool:
        """Whether it waits."""
        return run in self._waiting
