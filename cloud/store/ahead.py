"""Ahead: batches in the making. The next `depth` are drawn; the first of them are read while the learner computes.

The draws are made in the order of their numbers by the caller, so what is drawn depends on no thread. A batch is read
once those after it are drawn, so that the cache knows what comes. What `take` returned holds until the next call.
"""

from collections import deque
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Generic, TypeVar

from user_rl.errors import NothingToDraw

D = TypeVar("D")
B = TypeVar("B")

MAKING = 2  # batches that are read at a time, one after the other; each has a buffer of its own
BUFFERS = MAKING + 2  # and the one that the caller has, and the one that it gives back


class Ahead(Generic[D, B]):
    """`draw(n)` says what batch n is; `make(n, drawn, later)` reads it, in a thread of its own unless `depth` is 0."""

    def __init__(self, draw: Callable[[int], D], make: Callable[[int, D, list[D]], B], depth: int) -> None:
        self._draw, self._make, self.depth = draw, make, depth
        self._drawn: deque[tuple[int, D]] = deque()  # not taken yet
        self._made: deque[Future[B]] = deque()
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="ahead")

    def take(self, number: int) -> B:
        """Batch `number`; the numbers after it are expected next, another one starts afresh."""
        if not self._drawn or self._drawn[0][0] != number:
            self.forget()
            self._drawn.append((number, self._draw(number)))
        if not self.depth:
            return self._make(number, self._drawn.popleft()[1], [])
        while self._drawn[-1][0] < number + self.depth:
            following = self._drawn[-1][0] + 1
            try:
                self._drawn.append((following, self._draw(following)))
            except NothingToDraw:  # yet: it is drawn when it is its turn
                break
        self._start()
        self._drawn.popleft()
        return self._made.popleft().result()

    def forget(self) -> None:
        """Drops what was drawn ahead; waits for the thread."""
        for future in self._made:
            future.cancel()
        for future in self._made:
            if not future.cancelled():
                future.exception()
        self._made.clear()
        self._drawn.clear()

    def close(self) -> None:
        """Ends the thread."""
        self.forget()
        self._thread.shutdown()

    def _start(self) -> None:
        """Hands the first drawn batches to the thread, all but those that it has."""
        drawn = list(self._drawn)
        for i in range(len(self._made), min(len(drawn), 1 + MAKING)):
            number, what = drawn[i]
            later = [other for _, other in drawn[i + 1 :]]
            self._made.append(self._thread.submit(self._make, number, what, later))
