"""Sessions: the streams that said Hello, by name and by the peer that said it, for many answers go to one peer."""

from collections.abc import Iterable
from dataclasses import dataclass

from user_rl.rows import Schema
from user_rl.wire import Permit


@dataclass
class Session:
    """A stream that said Hello, until its peer is lost."""

    stream: str
    peer: bytes
    cell: str
    schema: Schema
    log_id: str
    epoch: int
    token: int
    behind: bool = False  # rows were turned away since its Hello: it must say Hello again
    permit: Permit | None = None  # the last one sent
    lost_s: float | None = None  # since when its peer cannot be reached


class Sessions:
    """One owner, and readers of `all` in other threads."""

    def __init__(self) -> None:
        self._by_stream: dict[str, Session] = {}
        self._by_peer: dict[bytes, dict[str, Session]] = {}

    def get(self, stream: str) -> Session | None:
        """The session of a stream."""
        return self._by_stream.get(stream)

    def all(self) -> list[Session]:
        """Every session, as they are now."""
        return list(self._by_stream.values())

    def of(self, streams: Iterable[str]) -> list[Session]:
        """The sessions of those of `streams` that have one."""
        return [session for stream in streams if (session := self._by_stream.get(stream))]

    def of_peer(self, peer: bytes) -> list[Session]:
        """The sessions of one connection."""
        return list(self._by_peer.get(peer, {}).values())

    def put(self, session: Session) -> None:
        """Takes a session in, in place of the one that the stream had."""
        self.drop(session.stream)
        self._by_stream[session.stream] = session
        self._by_peer.setdefault(session.peer, {})[session.stream] = session

    def drop(self, stream: str) -> None:
        """Forgets a stream's session, if it has one."""
        session = self._by_stream.pop(stream, None)
        if session is None:
            return
        mine = self._by_peer[session.peer]
        del mine[stream]
        if not mine:
            del self._by_peer[session.peer]
