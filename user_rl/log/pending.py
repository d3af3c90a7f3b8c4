"""Rows that were appended and are not yet committed, by stream, in the order they came.

Rows are copied once, into the buffer of the chunk that they will be; behind them is room for the chunk's trailer, so
that the commit hands the buffer to LMDB as it is. A buffer that became free serves the next rows.
"""

from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from user_rl.log.chunk import CODED, RAW, TRAILER, digest_of, most_rows, trailed
from user_rl.log.coded import Coded, cut_stored
from user_rl.rows import Klass, Schema
from user_rl.specs import Array


@dataclass(slots=True)
class Rows:
    """Consecutive rows of one class, one chunk at most, at the start of `buffer`."""

    ticket: int
    klass: Klass
    first: int
    count: int
    row_bytes: int
    buffer: Array  # uint8

    @property
    def last(self) -> int:
        return self.first + self.count - 1

    @property
    def nbytes(self) -> int:
        return self.count * self.row_bytes

    def records(self, count: int) -> memoryview:
        """The bytes of the first `count` rows."""
        return self.buffer.data[: count * self.row_bytes]

    def head(self, schema: Schema, count: int) -> Array:
        """The first `count` rows; at least their headers are there."""
        return schema.view(self.records(count))

    def value(self, count: int) -> bytes | memoryview:
        """The raw chunk of the first `count` rows, without a copy if these are all; valid until rows are added."""
        records = self.records(count)
        if count < self.count:
            return trailed(records, count)
        TRAILER.pack_into(self.buffer.data, len(records), count, RAW, digest_of(records))
        return self.buffer.data[: len(records) + TRAILER.size]


@dataclass(slots=True)
class CodedRows:
    """Consecutive rows of one class that came coded and stay so, one chunk."""

    ticket: int
    klass: Klass
    first: int
    part: Coded

    @property
    def count(self) -> int:
        return len(self.part.plain)

    @property
    def last(self) -> int:
        return self.first + self.count - 1

    @property
    def nbytes(self) -> int:
        return len(self.part.stored)

    @property
    def row_bytes(self) -> int:
        """Of a row on average, rounded up."""
        return -(-self.nbytes // self.count)

    def head(self, schema: Schema, count: int) -> Array:
        """See Rows; `schema` is known already."""
        return self.part.plain[:count]

    def value(self, count: int) -> bytes:
        """The coded chunk of the first `count` rows."""
        stored = self.part.stored if count == self.count else cut_stored(self.part, 0, count)
        return b"".join((stored, TRAILER.pack(count, CODED, digest_of(stored))))

    def without(self, count: int) -> "CodedRows":
        """What is left without the first `count` rows."""
        return CodedRows(self.ticket, self.klass, self.first + count, self.part.between(count, self.count))


Waiting = Rows | CodedRows


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
        self.chunk_rows = most_rows(row_bytes)
        self.items: deque[Waiting | Missing] = deque()
        self._spare = np.empty(0, np.uint8)

    def add_rows(self, ticket: int, klass: Klass, first: int, data: Array) -> None:
        """Adds rows (uint8, whole rows) behind the last; the caller has checked that they follow."""
        at, count = 0, len(data) // self.row_bytes
        while at < count:
            item = self._last(ticket, klass, first + at)
            taken = min(count - at, self.chunk_rows - item.count)
            self._reserve(item, item.count + taken)
            start = item.count * self.row_bytes
            part = data[at * self.row_bytes : (at + taken) * self.row_bytes]
            item.buffer[start : start + len(part)] = part
            item.count += taken
            at += taken

    def add_coded(self, ticket: int, klass: Klass, first: int, part: Coded) -> None:
        """Adds coded rows behind the last; the caller has checked that they follow."""
        for start, end in _parts(len(part.plain), self.chunk_rows):
            self.items.append(CodedRows(ticket, klass, first + start, part.between(start, end)))

    def add_gap(self, ticket: int, first: int, last: int) -> None:
        """Adds a gap behind the last."""
        self.items.append(Missing(ticket, first, last))

    def drop_through(self, step: int) -> None:
        """Forgets everything up to and including `step`."""
        while self.items and self.items[0].last <= step:
            item = self.items.popleft()
            if isinstance(item, Rows) and len(item.buffer) > len(self._spare):
                self._spare = item.buffer
        head = self.items[0] if self.items else None
        if isinstance(head, CodedRows) and head.first <= step:
            self.items[0] = head.without(step + 1 - head.first)
        elif isinstance(head, Rows) and head.first <= step:
            skip = step + 1 - head.first
            head.first, head.count = step + 1, head.count - skip
            end = (skip + head.count) * self.row_bytes
            head.buffer[: head.count * self.row_bytes] = head.buffer[skip * self.row_bytes : end].copy()

    def give_back(self) -> None:
        """Frees the buffer that would serve the next rows."""
        self._spare = np.empty(0, np.uint8)

    def pending_bytes(self) -> int:
        """Bytes of rows that wait."""
        return sum(item.nbytes for item in self.items if not isinstance(item, Missing))

    def _last(self, ticket: int, klass: Klass, first: int) -> Rows:
        """The item that the row `first` goes to."""
        last = self.items[-1] if self.items else None
        if not isinstance(last, Rows) or last.klass != klass or last.count >= self.chunk_rows:
            last = Rows(ticket, klass, first, 0, self.row_bytes, self._spare)
            self._spare = np.empty(0, np.uint8)
            self.items.append(last)
        return last

    def _reserve(self, item: Rows, count: int) -> None:
        """Room for `count` rows and a trailer; buffers double, so that single rows are copied twice at most."""
        if count * self.row_bytes + TRAILER.size > len(item.buffer):
            rows = min(max(count, 2 * item.count), self.chunk_rows)
            larger = np.empty(rows * self.row_bytes + TRAILER.size, np.uint8)
            used = item.count * self.row_bytes
            larger[:used] = item.buffer[:used]
            item.buffer = larger


def _parts(count: int, most: int) -> Iterator[tuple[int, int]]:
    """(from, to) of parts of at most `most`."""
    for start in range(0, count, most):
        yield start, min(start + most, count)
