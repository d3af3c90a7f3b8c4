"""Paths: where to connect to, here, for an address on the other side: link's half of its talk with the tunnel process.

Link says twice a second all that it wants to reach; the tunnel process answers with all addresses that stand for it.
Both are whole datagrams on a socket pair that the daemon made, so that either process may be killed at any instant: its
successor finds the socket, the next answer replaces what was known, and while there is none nothing changes.
"""

import socket
import threading
from typing import Protocol

import msgspec

from user_rl.tunnels.tunnel import Traffic

ASK_S = 0.5  # between two questions
FORGET_S = 60.0  # what nobody asked for so long is not wanted any more
SILENT_S = 3.0  # without an answer for so long: the tunnel process is not there
DATAGRAM_BYTES = 2**16
TCP = "tcp://"


class Wanted(msgspec.Struct, array_like=True, frozen=True):
    """link -> tunnel: all that it wants to reach, as (traffic, HOST:PORT)."""

    ways: tuple[tuple[Traffic, str], ...]


class Found(msgspec.Struct, array_like=True, frozen=True):
    """tunnel -> link: (traffic, HOST:PORT, where to connect to here), and how each class's way is."""

    ways: tuple[tuple[Traffic, str, str], ...]
    states: dict[Traffic, str]


class Paths(Protocol):
    """What link and its threads ask."""

    def local(self, traffic: Traffic, address: str) -> str:
        """What to connect to for `address` (HOST:PORT or tcp://HOST:PORT, and so the answer); empty: not known yet."""

    def turn(self, now_s: float) -> None:
        """Says and hears what there is; never blocks. Called by one thread."""

    def states(self) -> dict[str, str]:
        """How each class's way is, in words; empty: there is no tunnel."""


class Straight:
    """See Paths: no tunnel, every address is itself."""

    def local(self, traffic: Traffic, address: str) -> str:
        return address

    def turn(self, now_s: float) -> None:
        return None

    def states(self) -> dict[str, str]:
        return {}


class Tunnelled:
    """See Paths. `fd`: link's end of the socket pair."""

    def __init__(self, fd: int) -> None:
        self._socket = socket.socket(fileno=fd)
        self._socket.setblocking(False)
        self._lock = threading.Lock()  # the fleet's thread asks too
        self._wanted: dict[tuple[Traffic, str], float] = {}  # when it was last asked for
        self._known: dict[tuple[Traffic, str], str] = {}
        self._states: dict[Traffic, str] = {}
        self._now_s = self._asked_s = self._heard_s = float("-inf")

    def local(self, traffic: Traffic, address: str) -> str:
        scheme = TCP if address.startswith(TCP) else ""
        way = traffic, address.removeprefix(TCP)
        if not way[1]:
            return ""
        with self._lock:
            if way not in self._wanted:
                self._asked_s = float("-inf")
            self._wanted[way] = self._now_s
            here = self._known.get(way, "")
        return f"{scheme}{here}" if here else ""

    def turn(self, now_s: float) -> None:
        self._hear(now_s)
        with self._lock:
            self._now_s = now_s
            if now_s - self._asked_s < ASK_S:
                return
            self._asked_s = now_s
            self._wanted = {w: max(s, now_s - FORGET_S) for w, s in self._wanted.items() if now_s - s <= FORGET_S}
            question = Wanted(tuple(self._wanted))
        self._say(question)

    def states(self) -> dict[str, str]:
        if self._now_s - self._heard_s > SILENT_S:
            return dict.fromkeys((str(traffic) for traffic, _ in self._wanted), "the tunnel process does not answer")
        return {str(traffic): state for traffic, state in self._states.items()}

    def close(self) -> None:
        """Closes this end; safe to call twice."""
        self._socket.close()

    def _say(self, question: Wanted) -> None:
        try:
            self._socket.send(msgspec.msgpack.encode(question))
        except (BlockingIOError, ConnectionError):  # it is not there, and what it has not read is enough
            return

    def _hear(self, now_s: float) -> None:
        while True:
            try:
                data = self._socket.recv(DATAGRAM_BYTES)
            except (BlockingIOError, ConnectionError):
                return
            found = msgspec.msgpack.decode(data, type=Found)
            with self._lock:
                self._known = {(traffic, remote): here for traffic, remote, here in found.ways}
                self._states, self._heard_s = found.states, now_s
