"""The memory that joins the edge's three processes: one memfd, made by `halt`, mapped by control and link. It names a
second one, the window of remote inference, and the eventfd that rings when there is something to see in it.

Fixed part: the daemon's boot, the pulse, the ring's counters, the stop, four mailboxes and the steps' timings. The ring
follows it; control makes it when it knows how large a row is. Nothing here has a lock or a pointer, so any process may
be killed at any instant and its successor goes on with what it finds.
"""

import mmap
import os
import struct

from edge.mailbox import Mailbox
from edge.orders import Card, Orders, Report, StopOrder
from edge.ring import Ring, bytes_needed, capacity_of
from edge.stop import Stop
from edge.timings import BYTES, Timings
from user_rl.errors import ConfigError, StorageError
from user_rl.rows import Schema, schema_from_bytes

_MAGIC = b"user-rl1"
_BOOT, _CAPACITY, _WINDOW, _PULSE, _COUNTERS = 8, 24, 32, 64, 128  # bytes
_STOP, _CONTROL_PID, _STOP_ORDER = 256, 320, 512
_CARD, _REPORT, _ORDERS, _TIMINGS, _RING = 4096, 4096 + 2**18, 4096 + 2**18 + 2**14, 2**19, 2**21
_FIXED = _RING


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
        self._control_pid = self._memory[_CONTROL_PID : _CONTROL_PID + 8].cast("Q")
        self.pulse = Pulse(self._memory[_PULSE : _PULSE + 8])
        self.card = Mailbox(self._memory[_CARD:_REPORT], Card)
        self.stop = Stop(
            self._memory[_STOP : _STOP + 32].cast("Q"), Mailbox(self._memory[_STOP_ORDER:_CARD], StopOrder)
        )
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

    @property
    def control_pid(self) -> int:
        """The process id of the newest control; 0: there was none."""
        return self._control_pid[0]

    @control_pid.setter
    def control_pid(self, pid: int) -> None:
        self._control_pid[0] = pid

    def run(self) -> str:
        """The run that the cell works for now; empty: none."""
        orders = Mailbox(self._memory[_ORDERS:_TIMINGS], Orders).read()  # its own: other threads log, too
        return orders.run if orders else ""

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
