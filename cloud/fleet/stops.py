"""Stops: the fleet's side of the emergency stop. Which edges listen, what they were told, who waits for their answers.

An edge listens on one stream for each cell; a newer one ends the older. A stream is a queue that its call's thread
waits on: `cloud.fleet.server` has a thread for each of `WATCHES`. Nothing here is durable: that a stop was not
confirmed yet is in the cell's quarantine, and is told again to whoever opens a stream for the cell.
"""

import itertools
import queue
import threading
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Final

from user_rl.clock import Clock
from user_rl.emergency import Order, Stopped
from user_rl.errors import Unreachable

WATCHES: Final = 512  # streams at once
WAITERS: Final = 32  # calls that wait for answers at once; others are carried out and not waited for
KEEP_ALIVE_S: Final = 1.0  # between two signs of life on a stream, and two looks whether it may go on
LONGEST_WAIT_S: Final = 60.0
LONGEST_DETAIL: Final = 500  # characters
ALIVE: Final = Order(0, "", "")


class Stream:
    """What one edge is to be told."""

    def __init__(self, cell: str, boot: str) -> None:
        self.cell, self.boot = cell, boot
        self._orders: queue.SimpleQueue[Order | None] = queue.SimpleQueue()

    def put(self, order: Order) -> None:
        self._orders.put(order)

    def end(self) -> None:
        """Whoever waits is told that nothing more comes; from any thread, any number of times."""
        self._orders.put(None)

    def next(self, within_s: float) -> Order | None:
        """The next order, `ALIVE` when there is none in time, None at the end."""
        try:
            return self._orders.get(timeout=within_s)
        except queue.Empty:
            return ALIVE


@dataclass
class Call:
    """One person's stop: of which cells, since when; the answers as they come."""

    began_s: float
    missing: dict[str, str] = field(default_factory=dict)  # by cell: what is to be said if no answer comes
    answers: "queue.SimpleQueue[Stopped]" = field(default_factory=queue.SimpleQueue)


class Stops:
    """Every stream and every call that waits. Thread-safe."""

    def __init__(self, clock: Clock) -> None:
        self._clock, self._lock, self._ids = clock, threading.Lock(), itertools.count(1)
        self._streams: dict[str, Stream] = {}
        self._newest: dict[str, tuple[int, str]] = {}  # by cell: the order that was not confirmed yet
        self._calls: dict[int, Call] = {}  # by order
        self._waiting = 0
        self._ended = False

    def open(self, cell: str, boot: str, unconfirmed: str) -> Stream:
        """A stream of this edge. `unconfirmed`: the reason of a stop that it has not confirmed, or nothing."""
        with self._lock:
            old = self._streams.get(cell)
            if self._ended or (old is None and len(self._streams) >= WATCHES):
                raise Unreachable(f"the fleet tells {len(self._streams)} edges already, allowed {WATCHES}; try again")
            if old is not None:
                old.end()
            stream = self._streams[cell] = Stream(cell, boot)
            if unconfirmed:
                number, text = self._newest.setdefault(cell, (next(self._ids), unconfirmed))
                stream.put(Order(number, "stop", text))
        return stream

    def close(self, stream: Stream) -> None:
        """The stream has ended."""
        with self._lock:
            if self._streams.get(stream.cell) is stream:
                del self._streams[stream.cell]

    def stop(self, cells: Sequence[str], text: str, began_s: float) -> Call:
        """Tells these cells' edges to halt."""
        call = Call(began_s)
        with self._lock:
            for cell in cells:
                number = next(self._ids)
                self._newest[cell], self._calls[number] = (number, text), call
                stream = self._streams.get(cell)
                call.missing[cell] = "told, and no answer came" if stream else "its edge does not listen to the fleet"
                if stream is not None:
                    stream.put(Order(number, "stop", text))
        return call

    def confirm(self, cell: str, number: int, *, done: bool, detail: str, at_s: float) -> bool:
        """An edge's answer; True when the newest order of the cell is done with."""
        with self._lock:
            call = self._calls.pop(number, None)
            newest = self._newest.get(cell, (0, ""))[0] == number
            if newest and done:
                del self._newest[cell]
        if call is not None and cell in call.missing:
            call.answers.put(Stopped(cell, done, at_s - call.began_s, detail[:LONGEST_DETAIL]))
        return newest and done

    def answers(self, call: Call, wait_s: float) -> Iterator[Stopped]:
        """Each answer as it comes, then what is missing."""
        with self._lock:
            waits, self._waiting = self._waiting < WAITERS, self._waiting + 1
        try:
            until_s = call.began_s + (min(wait_s, LONGEST_WAIT_S) if waits else 0.0)
            while call.missing and (left_s := until_s - self._clock.now_s()) > 0:
                try:
                    answer = call.answers.get(timeout=left_s)
                except queue.Empty:
                    break
                del call.missing[answer.cell]
                yield answer
            after_s = self._clock.now_s() - call.began_s
            yield from (Stopped(cell, False, after_s, why) for cell, why in sorted(call.missing.items()))
        finally:
            self._forget(call)

    def end(self) -> None:
        """The fleet ends: so does every stream."""
        with self._lock:
            self._ended = True
            for stream in self._streams.values():
                stream.end()

    def _forget(self, call: Call) -> None:
        with self._lock:
            self._waiting -= 1
            self._calls = {number: other for number, other in self._calls.items() if other is not call}
