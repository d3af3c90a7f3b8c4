"""Choices made by bytes that a fuzzer varies; when they are used up, every choice is the first one."""

from collections.abc import Sequence
from typing import TypeVar

T = TypeVar("T")


class Choices:
    """Takes numbers, pieces and elements from the front of `data`."""

    def __init__(self, data: bytes) -> None:
        self._left = data

    def __bool__(self) -> bool:
        """Whether any is left."""
        return bool(self._left)

    def number(self, size: int = 1) -> int:
        """From `size` bytes."""
        taken, self._left = self._left[:size], self._left[size:]
        return int.from_bytes(taken, "little")

    def one_of(self, options: Sequence[T]) -> T:
        return options[self.number() % len(options)]

    def piece(self) -> bytes:
        """Up to 65,535 bytes."""
        size = self.number(2)
        taken, self._left = self._left[:size], self._left[size:]
        return taken

    def rest(self) -> bytes:
        taken, self._left = self._left, b""
        return taken

    def changed(self, data: bytes) -> bytes:
        """`data` with a few bytes changed, cut off or put in."""
        found = bytearray(data)
        for _ in range(self.number() % 4):
            at, value = self.number(2) % max(1, len(found)), self.number()
            match self.number() % 3:
                case 0 if found:
                    found[at] = value
                case 1:
                    del found[at : at + value]
                case _:
                    found[at:at] = bytes((value,)) * (1 + self.number() % 8)
        return bytes(found)
