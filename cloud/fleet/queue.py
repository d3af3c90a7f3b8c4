"""The queue of lease requests: first come, first served, and each request is granted whole or not at all.

A request stands in the queue while its run repeats it. An earlier request keeps later ones from the free cells that it
could use, so a large one is never starved by small ones. The order is not durable: after a restart it is that of the
first repetition. Pure: what is free and held comes in as arguments.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from user_rl.errors import WireError
from user_rl.fleet import Card


@dataclass(frozen=True, kw_only=True)
class Ask:
    """`count` cells in all, of `model` (empty: any), out of `cells` (none named: any)."""

    count: int
    model: str = ""
    cells: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        most = len(set(self.cells)) if self.cells else 2**31
        if not 1 <= self.count <= most:
            raise WireError(f"a request for {self.count} cells, allowed 1 to {most} here; change count or cells")

    def matches(self, card: Card) -> bool:
        """Whether this cell would do."""
        return self.model in ("", card.model) and (not self.cells or card.cell in self.cells)


@dataclass(frozen=True)
class _Entry:
    ask: Ask
    asked_s: float


class Queue:
    """Requests by run, in the order of their first asking."""

    def __init__(self, *, ttl_s: float) -> None:
        self._ttl_s = ttl_s
        self._entries: dict[str, _Entry] = {}

    def runs(self) -> tuple[str, ...]:
        """Who waits, first to last."""
        return tuple(self._entries)

    def forget(self, run: str) -> None:
        """The run no longer waits."""
        self._entries.pop(run, None)

    def ask(
        self, run: str, ask: Ask, *, now_s: float, free: Sequence[Card], held: Mapping[str, Iterable[Card]]
    ) -> tuple[int, list[Card] | None]:
        """(0, the cells to add), and the run leaves the queue; or (its position from 1, None)."""
        self._entries = {r: e for r, e in self._entries.items() if now_s - e.asked_s <= self._ttl_s}
        self._entries[run] = _Entry(ask, now_s)  # a key that is there keeps its place
        waiting = list(self._entries)
        ahead = waiting.index(run)
        for other in waiting[:ahead]:
            missing, usable = self._choose(other, free, held)
            reserved = {card.cell for card in usable[:missing]}
            free = [card for card in free if card.cell not in reserved]
        missing, usable = self._choose(run, free, held)
        if len(usable) < missing:
            return ahead + 1, None
        self.forget(run)
        return 0, usable[:missing]

    def _choose(self, run: str, free: Sequence[Card], held: Mapping[str, Iterable[Card]]) -> tuple[int, list[Card]]:
        ask = self._entries[run].ask
        missing = ask.count - sum(map(ask.matches, held.get(run, ())))
        return max(0, missing), [card for card in free if ask.matches(card)]
