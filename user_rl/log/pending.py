"""Rows that were appended and are not yet committed, by stream, in the order they came.

Appending one row costs a copy and a few comparisons; joining them into chunks is left to the commit.
"""

from collections import deque
from dataclasses import dataclass

from user_rl.rows import Klass


@dataclass(slots=True)
class Rows:
    """Consecutive rows of one class; the bytes lie in `parts` until `joined` is asked for."""

    ticket: int
    klass: Klass
    first: int
    count: int
    parts: list[bytes | memoryview]

    @property
    def last(self) -> int:
        return self.first + self.count - 1

    def joined(self) -> memoryview:
        """All the bytes in one piece."""
        if len(self.parts) != 1:
            self.parts = [b"".join(self.parts)]
        return memoryview(self.parts[0])


@dataclass(slots=True)
class Missing:
    """A gap that waits for its commit."""

    ticket: int
    first: int
    last: int


class Queue:
    """What one stream has pending."""

    def __init__(self, row_bytes: int) -> None:
        self.row_bytes = row_bytes
        self.items: deque[Rows | Missing] = deque()

    def add_rows(self, ticket: int, klass: Klass, first: int, count: int, data: bytes | memoryview) -> None:
        """Adds rows behind the last; the caller has checked that they follow."""
        last = self.items[-1] if self.items else None
        if isinstance(last, Rows) and last.klass == klass:
            last.parts.append(data)
            last.count += count
        else:
            self.items.append(Rows(ticket, klass, first, count, [data]))

    def add_gap(self, ticket: int, first: int, last: int) -> None:
        """Adds a gap behind the last."""
        self.items.append(Missing(ticket, first, last))

    def drop_through(self, step: int) -> None:
        """Forgets everything up to and including `step`."""
        while self.items and self.items[0].last <= step:
            self.items.popleft()
        head = self.items[0] if self.items else None
        if isinstance(head, Rows) and head.first <= step:
            skip = step + 1 - head.first
            head.parts = [head.joined()[skip * self.row_bytes :]]
            head.first, head.count = step + 1, head.count - skip

    def pending_bytes(self) -> int:
        """Bytes of rows that wait."""
        return sum(item.count * self.row_bytes for item in self.items if isinstance(item, Rows))
