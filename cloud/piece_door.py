"""PieceDoor: a server channel whose messages may come in pieces. Whoever reads from it sees whole messages only.

Every fourth piece and the last are answered by Arrived, long before what they bring is durable: that tells the sender
how fast the link is. A piece that does not fit is answered by Arrived(number, 0).
"""

from collections.abc import Sequence

from user_rl.channels import Received, ServerChannel
from user_rl.clock import Clock
from user_rl.errors import WireError
from user_rl.pieces import Assembler
from user_rl.wire import Arrived, Piece, decode, encode

TELL_EVERY = 4  # pieces
BURST = 64  # pieces taken before others have their turn
ROWS = b"\xa4Rows"  # how the header of every Rows goes on behind the format and the count of fields
LOOK_S = 10.0  # between two looks for what was left


class PieceDoor:
    """See user_rl.channels.ServerChannel."""

    def __init__(self, channel: ServerChannel, clock: Clock, assembler: Assembler | None = None) -> None:
        self._channel, self._clock, self._assembler = channel, clock, assembler or Assembler()
        self._looked_s = clock.now_s()
        self._bad = 0

    @property
    def address(self) -> str:
        return self._channel.address

    @property
    def refused(self) -> int:
        return self._channel.refused + self._bad

    @property
    def limited(self) -> int:
        return self._channel.limited

    def receive(self, timeout_s: float) -> Received | None:
        """The next whole message; None when there is none yet."""
        self._look()
        received = self._channel.receive(timeout_s)
        for _ in range(BURST):
            if received is None:
                return None
            piece = _piece_in(received)
            if piece is None:
                return received
            whole = self._take(received, *piece)
            if whole is not None:
                return whole
            received = self._channel.receive(0.0)
        return None

    def send(self, peer: bytes, frames: Sequence[bytes | memoryview]) -> bool:
        return self._channel.send(peer, frames)

    def close(self) -> None:
        self._channel.close()

    def _take(self, received: Received, piece: Piece, payload: memoryview) -> Received | None:
        try:
            taken = self._assembler.take(received.user, received.peer, piece, payload, self._clock.now_s())
        except WireError:
            self._bad += 1
            self._channel.send(received.peer, encode(Arrived(piece.number, 0)))
            return None
        if taken.pieces % TELL_EVERY == 0 or taken.size == piece.total:
            self._channel.send(received.peer, encode(Arrived(piece.number, taken.size)))
        return None if taken.frames is None else Received(received.peer, received.user, taken.frames)

    def _look(self) -> None:
        now_s = self._clock.now_s()
        if now_s - self._looked_s >= LOOK_S:
            self._looked_s = now_s
            self._assembler.forget(now_s)


def _piece_in(received: Received) -> tuple[Piece, memoryview] | None:
    """The piece in a message; None for another message, and for what is none: whoever reads refuses that."""
    if bytes(received.frames[0][2:7] if received.frames else b"") == ROWS:  # each is decoded once, by who takes it
        return None
    try:
        message, payloads = decode(received.frames)
    except WireError:
        return None
    return (message, payloads[0]) if isinstance(message, Piece) else None
