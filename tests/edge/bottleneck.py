"""A link in a model: one queue that any number of edges share, served at a rate, then a delay; jitter, loss and cuts.

Time goes in ticks of a millisecond. Lost packets come a round trip later and hold up what follows them, as TCP does it.
"""

import heapq
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from random import Random

from edge.pace import PIECE_OVERHEAD, Heard, Pace, PaceConfig

TICK_S = 0.001
PING = 200  # bytes


@dataclass(kw_only=True)
class Bottleneck:
    """`rate(now_s)` bytes/s (0: cut), then `way_s` each way and up to `jitter_s`; the way back has no queue."""

    rate: Callable[[float], float]
    way_s: float = 0.04
    jitter_s: float = 0.0
    loss: float = 0.0
    seed: int = 0
    queue_bytes: float = 0.0
    served_bytes: float = 0.0
    queues_s: list[tuple[float, float]] = field(default_factory=list)  # (when, how long a packet would wait)
    _waiting: list[tuple[float, int, Callable[[float], None]]] = field(default_factory=list)
    _events: list[tuple[float, int, Callable[[float], None]]] = field(default_factory=list)
    _in: float = 0.0  # bytes that ever entered
    _count: int = 0

    def __post_init__(self) -> None:
        self.random = Random(self.seed)
        self._last: dict[object, float] = {}
        self._head = 0

    def enter(self, size: int, flow: object, then: Callable[[float], None]) -> None:
        """A packet of a connection; `then` is called with the time of its arrival."""
        self._in += size
        self.queue_bytes += size
        self._waiting.append((self._in, 0, lambda out_s: self._fly(out_s, flow, then)))

    def back(self, now_s: float, flow: object, then: Callable[[float], None]) -> None:
        """A small packet the other way."""
        self._fly(now_s, ("back", flow), then)

    def tick(self, now_s: float) -> None:
        """Serves one millisecond, and lets arrive what has arrived."""
        rate = self.rate(now_s)
        served = min(self.queue_bytes, rate * TICK_S)
        self.queue_bytes -= served
        self.served_bytes += served
        while self._head < len(self._waiting) and self._waiting[self._head][0] <= self.served_bytes + 1e-6:
            self._waiting[self._head][2](now_s)
            self._head += 1
        if self._head > 10_000:
            del self._waiting[: self._head]
            self._head = 0
        self.queues_s.append((now_s, self.queue_bytes / rate if rate else 0.0))
        while self._events and self._events[0][0] <= now_s:
            when_s, _, then = heapq.heappop(self._events)
            then(when_s)

    def _fly(self, out_s: float, flow: object, then: Callable[[float], None]) -> None:
        at_s = out_s + self.way_s + self.random.random() * self.jitter_s
        if self.random.random() < self.loss:
            at_s += 2 * self.way_s + 0.01
        at_s = max(at_s, self._last.get(flow, 0.0))  # in order
        self._last[flow] = at_s
        self._count += 1
        heapq.heappush(self._events, (at_s, self._count, then))

    def worst_queue_s(self, since_s: float, share: float = 0.99, until_s: float = 1e9) -> float:
        """What `share` of the time from `since_s` on the queue was not above."""
        found = sorted(queue_s for when_s, queue_s in self.queues_s if since_s <= when_s < until_s)
        return found[int(share * (len(found) - 1))]


class Edge:
    """One edge with more to send than the link takes, or as much as `wants(now_s)` bytes in all by then."""

    def __init__(
        self, link: Bottleneck, now_s: float, *, wants: Callable[[float], float] | None = None,
        config: PaceConfig | None = None, pings: bool = True,
    ) -> None:  # fmt: skip
        self.link, self.pace, self._wants, self._pings = link, Pace(config or PaceConfig(), now_s), wants, pings
        self.sent = self.arrived = 0.0
        self.round_trips_s: list[tuple[float, float]] = []
        self._ping_s = now_s
        self._now_s = now_s
        self._told = 0

    def tick(self, now_s: float) -> None:
        """Sends what the pace lets it."""
        self._now_s = now_s
        self.pace.turn(now_s)
        if self._pings and now_s >= self._ping_s:
            self._ping_s = now_s + self.pace.ping_every_s(now_s)
            self.link.enter(PING, (self, "ping"), partial(self._answer, now_s))
        most = self.sent + 2**19  # in one tick, where nothing is held back
        while self.sent < (most if self._wants is None else min(most, self._wants(now_s))):
            size = min(self.pace.piece_bytes, 2**16)
            if self.pace.budget(now_s) < size:
                return
            self.pace.sent(size + PIECE_OVERHEAD, now_s)
            self.sent += size
            self.link.enter(size + PIECE_OVERHEAD, self, partial(self._deliver, size))

    def _answer(self, sent_s: float, at_s: float) -> None:
        def pong(back_s: float) -> None:
            self.round_trips_s.append((sent_s, back_s - sent_s))
            self.pace.hear(Heard(sent_s, at_s - sent_s + 1234.5, back_s - sent_s))

        self.link.back(at_s, (self, "ping"), pong)

    def _deliver(self, size: int, at_s: float) -> None:
        self.arrived += size
        self._told += size + PIECE_OVERHEAD
        if self._told >= 4 * size:  # every fourth piece is told of
            told, self._told = self._told, 0
            self.link.back(at_s, self, lambda back_s: self.pace.arrived(told, back_s))


def run(link: Bottleneck, edges: list[Edge], from_s: float, to_s: float) -> None:
    """Lets time pass."""
    for tick in range(round(from_s / TICK_S), round(to_s / TICK_S)):
        now_s = tick * TICK_S
        for edge in edges:
            edge.tick(now_s)
        link.tick(now_s)
