"""Mailbox: the newest message of one writer in shared memory, never a queue. No lock: anybody may die at any time."""

import struct
from typing import Generic, TypeVar

import msgspec
from xxhash import xxh3_64_intdigest

from user_rl.errors import StorageError

M = TypeVar("M")


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

    @property
    def number(self) -> int:
        """The number of the message that was posted last; 0: none was."""
        return self._sequence[0]

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
