"""Ring: packed rows from control to link through shared memory, without a lock and without a system call.

One producer (control), one consumer (link). `head` and `tail` only grow; slot = position % capacity. A row becomes
visible when `head` passes it and free when `tail` does, which link moves after the row is on disk: a killed link loses
nothing. Every slot has a digest of its row, so no memory order of the processor has to be assumed: a row whose bytes
have not all arrived does not match and is read again. A producer that was killed finds its counters in its last row.
"""

from dataclasses import dataclass

import numpy as np
from xxhash import xxh3_64_intdigest

from user_rl.errors import StorageCorrupt
from user_rl.rows import Schema
from user_rl.specs import Array

HEAD, TAIL = 0, 8  # word offsets in the counters: each has a cache line of its own
SLOT_WORDS = 2  # digest, generation
_PATIENCE = 100_000  # re-reads of a row that does not match; its bytes arrive within microseconds


@dataclass(frozen=True, kw_only=True)
class Batch:
    """Rows of one stream that follow each other in the ring, copied out of it."""

    generation: int
    rows: Array
    end: int  # the position after the last one


class Ring:
    """`capacity` rows of `schema` over `counters` (u64 words) and `memory` (see `bytes_needed`)."""

    def __init__(self, counters: memoryview, memory: memoryview, schema: Schema, capacity: int) -> None:
        self.capacity, self.schema, self._row_bytes = capacity, schema, schema.row_bytes
        self._counters = counters
        self._slots = memory[: capacity * SLOT_WORDS * 8].cast("Q")
        self.bytes = memory[capacity * SLOT_WORDS * 8 : bytes_needed(schema.row_bytes, capacity)]
        self.rows: Array = np.frombuffer(self.bytes, schema.dtype)

    @property
    def head(self) -> int:
        """Rows published since the daemon began."""
        return self._counters[HEAD]

    @property
    def tail(self) -> int:
        """Rows released since the daemon began."""
        return self._counters[TAIL]

    def free(self) -> int:
        """Rows that can be published before the ring is full."""
        return self.capacity - (self._counters[HEAD] - self._counters[TAIL])

    def slot(self) -> int:
        """Where the producer writes its next row; it is free when `free()` is positive."""
        return self._counters[HEAD] % self.capacity

    def publish(self, generation: int) -> None:
        """Shows the row in `slot()` to the consumer."""
        head = self._counters[HEAD]
        assert head - self._counters[TAIL] < self.capacity, "the producer must look at free() first"
        slot = head % self.capacity
        start = slot * self._row_bytes
        self._slots[SLOT_WORDS * slot] = xxh3_64_intdigest(self.bytes[start : start + self._row_bytes])
        self._slots[SLOT_WORDS * slot + 1] = generation
        self._counters[HEAD] = head + 1

    def last(self) -> Batch | None:
        """The newest row ever published, whether released or not: how a restarted producer goes on."""
        head = self.head
        if head == 0:
            return None
        slot = (head - 1) % self.capacity
        rows = self.rows[slot : slot + 1].copy()
        return Batch(generation=self._slots[SLOT_WORDS * slot + 1], rows=rows, end=head)

    def read(self, position: int, max_rows: int) -> Batch | None:
        """Published rows of one stream from `position` on, at most `max_rows` and none over the wrap; None: no row."""
        slot = position % self.capacity
        count = min(self.head - position, self.capacity - slot, max_rows)
        if count <= 0:
            return None
        generation = self._slots[SLOT_WORDS * slot + 1]
        same = next((i for i in range(count) if self._slots[SLOT_WORDS * (slot + i) + 1] != generation), count)
        data = b"".join([self._row(slot + i) for i in range(same)])
        return Batch(generation=generation, rows=self.schema.view(data), end=position + same)

    def release(self, position: int) -> None:
        """Frees every row before `position`."""
        assert self.tail <= position <= self.head, "the consumer releases what it has read"
        self._counters[TAIL] = position

    def _row(self, slot: int) -> bytes:
        start = slot * self._row_bytes
        for _ in range(_PATIENCE):
            data = bytes(self.bytes[start : start + self._row_bytes])
            if xxh3_64_intdigest(data) == self._slots[SLOT_WORDS * slot]:
                return data
        raise StorageCorrupt(f"ring slot {slot} does not match its digest; the memory is damaged, restart the daemon")


def bytes_needed(row_bytes: int, capacity: int) -> int:
    """The size of the memory under `capacity` rows."""
    return capacity * (SLOT_WORDS * 8 + row_bytes)


def capacity_of(ring_bytes: int, row_bytes: int) -> int:
    """How many rows a ring of about `ring_bytes` holds; at least 256, however large they are."""
    return max(256, ring_bytes // (SLOT_WORDS * 8 + row_bytes))
