"""Line: who is answered next. The earliest deadline goes first; who is past its own is turned away. Pure, no clock."""

from bisect import insort
from collections.abc import Callable
from dataclasses import dataclass

from user_rl.wire import DeclinedCode, Infer


@dataclass(frozen=True)
class Request:
    """An observation that waits. Times are of the server's clock."""

    peer: bytes
    message: Infer
    payload: memoryview
    received_s: float

    @property
    def deadline_s(self) -> float:
        """When its answer is of no use any more."""
        return self.received_s + self.message.within_s


Away = tuple[Request, DeclinedCode, str]  # turned away, and why
_deadline: Callable[[Request], float] = lambda request: request.deadline_s  # noqa: E731


class Line:
    """At most `bound` requests, at most `each` of one cell. One thread."""

    def __init__(self, bound: int, each: int) -> None:
        self._bound, self._each = bound, each
        self._waiting: list[Request] = []  # the earliest deadline first

    def __len__(self) -> int:
        return len(self._waiting)

    def put(self, request: Request) -> list[Away]:
        """Takes it in; returns who is turned away for it, which may be itself."""
        away: list[Away] = []
        own = [r for r in self._waiting if r.message.cell == request.message.cell]
        if len(own) >= self._each:
            oldest = min(own, key=lambda r: r.message.step)
            self._waiting.remove(oldest)
            away.append((oldest, "late", f"{self._each} newer observations of {oldest.message.cell} wait"))
        insort(self._waiting, request, key=_deadline)
        if len(self._waiting) > self._bound:
            last = self._waiting.pop()
            away.append((last, "busy", f"{self._bound} requests wait, all of them with an earlier deadline"))
        return away

    def take(self, now_s: float) -> tuple[Request | None, list[Away]]:
        """The next to answer, None if there is none; and those whose deadline has passed."""
        away: list[Away] = []
        while self._waiting:
            request = self._waiting.pop(0)
            if request.deadline_s > now_s:
                return request, away
            late_s = now_s - request.deadline_s
            away.append((request, "late", f"{late_s:.3f} s past its deadline of {request.message.within_s:.3f} s"))
        return None, away
