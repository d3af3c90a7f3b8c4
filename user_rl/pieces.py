"""Pieces: a bulk message in small parts, so that what must not wait finds the link free between two of them.

A message is packed (number of frames, their lengths, their bytes) and cut; whoever receives puts the parts together, in
order, one message for each user at a time, and never holds more than its bounds. What does not fit is refused and
forgotten: the sender begins again under a new number. A new connection of a user takes the place of its old one.
"""

import struct
from collections.abc import Sequence
from dataclasses import dataclass, field

from user_rl.codec import Buffer
from user_rl.errors import WireError
from user_rl.wire import Limits, Piece, encode

FORGET_S = 60.0  # without a further part
_COUNT, _LENGTH = struct.Struct("<B"), struct.Struct("<I")


def pack(frames: Sequence[bytes | memoryview]) -> bytes:
    """The frames of one message as one row of bytes."""
    lengths = [_LENGTH.pack(len(frame)) for frame in frames]
    return b"".join([_COUNT.pack(len(frames)), *lengths, *frames])


def unpack(body: Buffer) -> list[memoryview]:
    """What `pack` packed, without a copy; raises WireError for anything else."""
    view = memoryview(body)
    try:
        (count,) = _COUNT.unpack_from(view)
        lengths = [_LENGTH.unpack_from(view, 1 + _LENGTH.size * i)[0] for i in range(count)]
    except struct.error as error:
        raise WireError(f"a packed message of {len(view)} bytes has no whole head; drop it") from error
    at = 1 + _LENGTH.size * count
    if not count or at + sum(lengths) != len(view):
        raise WireError(f"{count} frames of {sum(lengths)} bytes in {len(view) - at}, allowed as many; drop them")
    frames = []
    for length in lengths:
        frames.append(view[at : at + length])
        at += length
    return frames


def cut(number: int, body: bytes, offset: int, size: int) -> list[bytes | memoryview]:
    """The wire message with up to `size` bytes of `body` from `offset`."""
    return encode(Piece(number, offset, len(body)), memoryview(body)[offset : offset + size])


def split(number: int, frames: Sequence[bytes | memoryview], piece_bytes: int) -> list[list[bytes | memoryview]]:
    """All of a message's pieces."""
    body = pack(frames)
    return [cut(number, body, at, piece_bytes) for at in range(0, len(body), piece_bytes)]


@dataclass
class _Part:
    """What has arrived of one message."""

    peer: bytes
    number: int
    total: int
    heard_s: float
    body: bytearray = field(default_factory=bytearray)
    pieces: int = 0


class Assembler:
    """Puts pieces together. `max_bytes` of one message, `held_bytes` of all users together. One thread."""

    def __init__(self, *, max_bytes: int = Limits().payload_bytes + 2**20, held_bytes: int = 256 * 2**20) -> None:
        self._max_bytes, self._held_bytes = max_bytes, held_bytes
        self._parts: dict[str, _Part] = {}
        self.held = 0  # bytes

    def take(self, user: str, peer: bytes, piece: Piece, payload: memoryview, now_s: float) -> "Taken":
        """One more piece; raises WireError, and then nothing of its message is kept."""
        part = self._parts.get(user)
        if piece.offset == 0:
            part = self._begin(user, peer, piece, now_s)
        if part is None or (part.peer, part.number) != (peer, piece.number):
            raise WireError(f"a piece of message {piece.number}, whose beginning is not here; send it anew")
        if piece.total != part.total or piece.offset != len(part.body) or not payload:
            self._drop(user)
            text = f"{len(payload)} of {piece.total} bytes from {piece.offset}"
            raise WireError(f"{text}, allowed from {len(part.body)} of {part.total}; send it anew")
        return self._add(user, part, payload, now_s)

    def forget(self, now_s: float) -> None:
        """Drops what has had no piece for a minute."""
        for user in [user for user, part in self._parts.items() if now_s - part.heard_s >= FORGET_S]:
            self._drop(user)

    def _begin(self, user: str, peer: bytes, piece: Piece, now_s: float) -> _Part:
        self._drop(user)
        if piece.total > self._max_bytes:
            raise WireError(f"a message of {piece.total} bytes in pieces, allowed {self._max_bytes}; send less at once")
        part = self._parts[user] = _Part(peer, piece.number, piece.total, now_s)
        return part

    def _add(self, user: str, part: _Part, payload: memoryview, now_s: float) -> "Taken":
        size = len(part.body) + len(payload)
        if size > part.total or self.held + len(payload) > self._held_bytes:
            self._drop(user)
            text = f"{size} bytes of {part.total}, {self.held} held of {self._held_bytes}"
            raise WireError(f"{text}; send it anew, later")
        part.body += payload
        part.heard_s, part.pieces = now_s, part.pieces + 1
        self.held += len(payload)
        if size < part.total:
            return Taken(size, part.pieces, None)
        self._drop(user)
        return Taken(size, part.pieces, unpack(part.body))

    def _drop(self, user: str) -> None:
        part = self._parts.pop(user, None)
        if part is not None:
            self.held -= len(part.body)


@dataclass(frozen=True)
class Taken:
    """How much of the message is there, in how many pieces, and its frames when it is whole."""

    size: int
    pieces: int
    frames: list[memoryview] | None
