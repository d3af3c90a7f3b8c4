"""Window: the memory through which control shows what it sees and takes the chunks that come back. No lock, no call.

A memfd of its own: two mailboxes (the newest chunk, who was chosen to act), then two slots for the newest glance, in
turn, each with the digest of what it holds; one word says which. Either process may be killed at any instant.
A step's number is that of its glance, counted from 0 for the daemon's life: a restarted control goes on with it.
"""

import mmap
import os
import struct
from collections.abc import Iterator
from contextlib import suppress

import msgspec
import numpy as np
from xxhash import xxh3_64_intdigest

from edge.inference.config import MOST_STEPS
from edge.mailbox import Mailbox
from edge.shared import Shared
from hal.cell import Observation
from user_rl.rows import Schema
from user_rl.specs import Array

_CHUNK, _PLACED, _SLOTS = 4096, 2**18, 2**18 + 2**14  # bytes
_HEADER = struct.Struct("<QQQIIdd")  # digest; step, first, planned, explore, taken_s, acted_s
_TRIES = 1000  # of a slot that is being written; it takes microseconds


class Posted(msgspec.Struct, frozen=True, array_like=True, kw_only=True, gc=False):
    """A chunk that link has checked: float32 [horizon, A] for step `first` and what follows."""

    first: int
    horizon: int
    actions: bytes
    version: int
    version_hash: bytes
    frozen: int  # its first steps, which the policy was told


class Placed(msgspec.Struct, frozen=True, array_like=True, kw_only=True):
    """Who was chosen to act: `edge`, a server's name, or nobody."""

    name: str = ""
    reason: str = ""


class Glance(msgspec.Struct, frozen=True, kw_only=True):
    """What control saw at a step, and what it has planned from there on."""

    step: int
    first: int  # the step with which its episode began
    explore: bool
    taken_s: float  # when control had it, on the machine's clock
    acted_s: float  # how long the policy beside the robot took for its last action; 0: it did not act
    values: dict[str, Array]
    plan: Array  # [planned, A]: the actions of `step` and what follows


class Window:
    """One process's map. Control calls `show`, link `look`."""

    def __init__(self, shared: Shared, schema: Schema) -> None:
        _, self._fd, self.bell = shared.fds
        fields = [f for f in schema.fields if f.name in schema.observation]
        self._record = np.dtype([(f.name, f.dtype, f.shape) for f in fields])
        self._width = schema.action.shape[0]
        size = _HEADER.size + self._record.itemsize + MOST_STEPS * self._width * 4
        size = -(-size // 64) * 64
        os.posix_fallocate(self._fd, 0, _SLOTS + 2 * size)  # both sides: whoever comes first
        memory = memoryview(mmap.mmap(self._fd, _SLOTS + 2 * size))
        self._sequence = memory[:8].cast("Q")
        self.chunk = Mailbox(memory[_CHUNK:_PLACED], Posted)
        self.placed = Mailbox(memory[_PLACED:_SLOTS], Placed)
        self._slots = [memory[_SLOTS + i * size : _SLOTS + (i + 1) * size] for i in range(2)]
        self._records: list[Array] = [np.frombuffer(slot, self._record, 1, _HEADER.size) for slot in self._slots]
        self._plans: list[Array] = [
            np.frombuffer(slot, "<f4", MOST_STEPS * self._width, _HEADER.size + self._record.itemsize)
            for slot in self._slots
        ]

    @property
    def step(self) -> int:
        """The step whose glance comes next."""
        return self._sequence[0]

    def show(
        self, seen: Observation, plan: Array, *, first: int, explore: bool, taken_s: float, acted_s: float
    ) -> None:
        """Control's side: the glance of this step, and the bell. Copies, never waits."""
        step = self._sequence[0]
        slot, record = self._slots[step % 2], self._records[step % 2]
        for name in self._record.names or ():
            record[name][0] = seen.values[name]
        self._plans[step % 2][: plan.size] = plan.reshape(-1)
        _HEADER.pack_into(slot, 0, 0, step, first, len(plan), explore, taken_s, acted_s)
        struct.pack_into("<Q", slot, 0, xxh3_64_intdigest(slot[8 : self._used(len(plan))]))
        self._sequence[0] = step + 1
        os.eventfd_write(self.bell, 1)

    def look(self) -> Glance | None:
        """Link's side: the newest whole glance, None before the first; its arrays are the caller's."""
        for newest, slot in self._newest():
            data = bytes(slot[: self._used(min(_HEADER.unpack_from(slot)[3], MOST_STEPS))])
            digest, step, first, planned, explore, taken_s, acted_s = _HEADER.unpack_from(data)
            if xxh3_64_intdigest(memoryview(data)[8:]) != digest or step != newest:
                continue  # it is being written, or was, and is not counted yet
            record = np.frombuffer(data, self._record, 1, _HEADER.size)
            plan: Array = np.frombuffer(data, "<f4", planned * self._width, _HEADER.size + self._record.itemsize)
            return Glance(
                step=step, first=first, explore=bool(explore), taken_s=taken_s, acted_s=acted_s,
                values={name: record[name][0] for name in self._record.names or ()},
                plan=plan.reshape(planned, self._width),
            )  # fmt: skip
        return None

    def heed(self) -> None:
        """Link's side: the bell is silent until the next glance."""
        with suppress(BlockingIOError):
            os.eventfd_read(self.bell)

    def ring(self) -> None:
        """Wakes whoever waits for the bell, though there is nothing new."""
        os.eventfd_write(self.bell, 1)

    def _newest(self) -> Iterator[tuple[int, memoryview]]:
        for _ in range(_TRIES):
            count = self._sequence[0]
            if not count:
                return
            yield count - 1, self._slots[(count - 1) % 2]

    def _used(self, planned: int) -> int:
        return _HEADER.size + self._record.itemsize + planned * self._width * 4
