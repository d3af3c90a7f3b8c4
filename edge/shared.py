"""The memory that joins the edge's three processes: one memfd, made by `halt`, mapped by control and link. It names a
second one, the window of remote inference, and the eventfd that rings when there is something to see in it.

Fixed part: the daemon's boot, the pulse, the ring's counters, three mailboxes and the steps' timings. The ring follows
it; control makes it when it knows how large a row is. Nothing here has a lock or a pointer, so any process may be
killed at any instant and its successor goes on with what it finds.
"""

import mmap
import os
import struct
from typing import Generic, TypeVar

import msgspec
from xxhash import xxh3_64_intdigest

from edge.orders import Card, Orders, Report
from edge.ring import Ring, bytes_needed, capacity_of
from edge.timings import BYTES, Timings
from user_rl.errors import ConfigError, StorageError
from user_rl.rows import Schema, schema_from_bytes

M = TypeVar("M")

_MAGIC = b"user-rl1"
_BOOT, _CAPACITY, _WINDOW, _PULSE, _COUNTERS = 8, 24, 32, 64, 128  # bytes
_CARD, _REPORT, _ORDERS, _TIMINGS, _RING = 4096, 4096 + 2**18, 4096 + 2**18 + 2**14, 2**19, 2**21
_FIXED = _RING


class Mailbox(Generic[M]):
    """The newest message of one writer: two slots in turn, one word that says which, a digest against tearing."""

    def __init__(self, memory: memoryview, kind: type[M]) -> None:
        self._sequence = memory[:8].cast("Q")
        half = (len(memory) - 64) // 2 // 64 * 64
        self._slots = [memory[64 : 64 + half], memory[64 + half : 64 + 2 * half]]
        self._decoder: msgspec.msgpack.Decoder[M] = msgspec.msgpack.Decoder(kind)
        self._seen, self._message = 0, None  # type: tuple[int, M | None]

    @property
    def seen(self) -> int:
        """The number of the message that `read` returned last; `post` returned it to the writer."""
        return self._seen

    def post(self, message: M) -> int:
        """Replaces the message and returns its number, which only grows. Only one process posts."""
        data = msgspec.msgpack.encode(message)
        number = self._sequence[0] + 1
        slot = self._slots[number % 2]
        if len(data) + 16 > len(slot):
            raise StorageError(f"a {type(message).__name__} of {len(data)} bytes, allowed {len(slot) - 16}; shorten it")
        struct.pack_into("<QQ", slot, 0, xxh3_64_intdigest(data), len(data))
        slot[16 : 16 + len(data)] = data
        self._sequence[0] = number
        return number

    def read(self) -> M | None:
        """The newest whole message, None before the first; an unchanged one costs one look at one word."""
        for _ in range(1000):
            number = self._sequence[0]
            if number == self._seen:
                return self._message
            slot = self._slots[number % 2]
            digest, length = struct.unpack_from("<QQ", slot)
            data = bytes(slot[16 : 16 + min(length, len(slot))])
            if xxh3_64_intdigest(data) == digest:
                self._seen, self._message = number, self._decoder.decode(data)
        return self._message


class Pulse:
    """Control's promise to be back: halt acts when `alive_until_s` (monotonic) has passed. 0: nothing promised."""

    def __init__(self, memory: memoryview) -> None:
        self._word = memory[:8].cast("d")

    @property
    def alive_until_s(self) -> float:
        return self._word[0]

    def promise(self, until_s: float) -> None:
        """Control will call again before `until_s`."""
        self._word[0] = until_s


class Shared:
    """One process's map of the memory. `fd` is inherited by the children."""

    def __init__(self, fd: int) -> None:
        self.fd = fd
        self._memory = memoryview(mmap.mmap(fd, _FIXED))
        if bytes(self._memory[:8]) != _MAGIC:
            raise StorageError(f"file descriptor {fd} is no shared memory of this version; start user-rl-edge run")
        self._capacity = self._memory[_CAPACITY : _CAPACITY + 8].cast("Q")
        self._counters = self._memory[_COUNTERS : _COUNTERS + 128].cast("Q")
        self.pulse = Pulse(self._memory[_PULSE : _PULSE + 8])
        self.card = Mailbox(self._memory[_CARD:_REPORT], Card)
        self.report = Mailbox(self._memory[_REPORT:_ORDERS], Report)
        self.orders = Mailbox(self._memory[_ORDERS:_TIMINGS], Orders)
        self.timings = Timings(self._memory[_TIMINGS : _TIMINGS + BYTES])

    @property
    def fds(self) -> tuple[int, int, int]:
        """What a child inherits: this memory, the window (edge.inference.window) and its bell, by the same numbers."""
        window, bell = struct.unpack_from("<QQ", self._memory, _WINDOW)
        return self.fd, window, bell

    def close(self) -> None:
        """Closes the file descriptors; the maps stay."""
        for fd in self.fds:
            os.close(fd)

    @property
    def boot(self) -> bytes:
        """The 16 random bytes of this daemon's life."""
        return bytes(self._memory[_BOOT : _BOOT + 16])

    def make_ring(self, card: Card, ring_bytes: int) -> Ring:
        """Control's side: makes the ring for `card`, or finds the one that its predecessor made."""
        schema = schema_from_bytes(card.schema)
        known = self.card.read()
        if known is None:
            capacity = capacity_of(ring_bytes, schema.row_bytes)
            os.ftruncate(self.fd, _FIXED + bytes_needed(schema.row_bytes, capacity))
            self._capacity[0] = capacity
        elif known.schema != card.schema:
            raise ConfigError("the cell's rows changed while the daemon ran; stop the daemon and start it again")
        self.card.post(card)
        return self._ring(schema)

    def ring(self) -> Ring | None:
        """Link's side: None until control has made it."""
        card = self.card.read()
        return None if card is None else self._ring(schema_from_bytes(card.schema))

    def _ring(self, schema: Schema) -> Ring:
        capacity = self._capacity[0]
        memory = memoryview(mmap.mmap(self.fd, bytes_needed(schema.row_bytes, capacity), offset=_RING))
        return Ring(self._counters, memory, schema, capacity)


def make_shared(boot: bytes) -> Shared:
    """A new memory, zeroed, that lives as long as a process holds it."""
    fd = os.memfd_create("user-rl-edge", os.MFD_CLOEXEC)
    os.ftruncate(fd, _FIXED)
    os.pwrite(fd, _MAGIC + boot, 0)
    window = os.memfd_create("user-rl-window", os.MFD_CLOEXEC)
    os.pwrite(fd, struct.pack("<QQ", window, os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)), _WINDOW)
    return Shared(fd)
