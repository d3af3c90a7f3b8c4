"""Turnstile: what one peer may take of a server's channel, and the connections that are closed for it.

libzmq neither counts connections nor lets go of one. Its monitor names the file descriptor of each that it accepts or
loses, and a message that of the one it came by: so a key's connections are counted, and one is shut down below libzmq,
which then sees that it has ended. Bounds, the oldest going first because a robot that changed its address leaves dead
ones behind:

* connections that have not said anything, so those before their handshake too: `silent` of them;
* connections of one key: `per_key`;
* messages a second, small messages a second and bytes a second of one key: more are dropped.

The monitor has a thread of its own, which also hangs up on keys that are not allowed any more, until the context ends.
"""

import logging
import os
import socket
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import zmq
from zmq.utils.monitor import recv_monitor_message

from user_rl.clock import SystemClock
from user_rl.errors import ConfigError, UserRlError
from user_rl.limits import Buckets

log = logging.getLogger(__name__)

LOOK_S = 0.5  # between two looks at who is still allowed
EVENTS = zmq.Event.ACCEPTED | zmq.Event.DISCONNECTED | zmq.Event.CLOSED | zmq.Event.MONITOR_STOPPED


@dataclass(frozen=True, kw_only=True)
class PeerLimits:
    """What a key may take. The defaults are far above what an edge does: 10 Hz of rows, or a catch-up of 100 MB/s."""

    messages_hz: float = 20_000.0
    small_hz: float = 4_000.0  # of messages under `small_bytes`, which cost more than they carry
    small_bytes: int = 4096
    bytes_hz: float = 1e9
    burst_s: float = 2.0  # of each rate, at once
    per_key: int = 8  # connections
    silent: int = 512  # connections that have not said anything, of all keys and of none
    peer_bytes: int = 2**28  # of one connection, waiting to be read

    def __post_init__(self) -> None:
        low = [name for name, value in vars(self).items() if not value > 0]
        if low:
            raise ConfigError(f"{low[0]} = {getattr(self, low[0])}, allowed more than 0; leave it out")


@dataclass
class _Connection:
    address: object  # of the far end, to be sure that a descriptor is still this connection's
    key: str = ""  # said its first message under this one
    peer: bytes = b""  # its routing id


class Turnstile:
    """The connections of one bound socket. `admits` from its thread, the rest from any."""

    def __init__(
        self, bound: "zmq.Socket[bytes]", limits: PeerLimits, allowed: Callable[[], Mapping[str, str]]
    ) -> None:
        """`allowed`: whose key is whose, live."""
        clock = self._clock = SystemClock()
        self._limits, self._allowed, burst_s = limits, allowed, limits.burst_s
        self._messages = Buckets(limits.messages_hz, limits.messages_hz * burst_s, clock)
        self._small = Buckets(limits.small_hz, limits.small_hz * burst_s, clock)
        self._bytes = Buckets(limits.bytes_hz, limits.bytes_hz * burst_s, clock)
        self._lock = threading.Lock()
        self._open: dict[int, _Connection] = {}  # by descriptor, the oldest first
        self._keys: dict[bytes, str] = {}  # by routing id
        self.hung_up = 0
        self._monitor = bound.get_monitor_socket(EVENTS)
        self._thread = threading.Thread(target=self._run, name="turnstile", daemon=True)
        self._thread.start()

    def admits(self, key: str, peer: bytes, fd: int, size: int) -> bool:
        """Whether a message of `size` bytes may pass; notes by which connection it came."""
        with self._lock:
            self._note(key, peer, fd)
        small = size < self._limits.small_bytes
        within = self._messages.take(key) and (not small or self._small.take(key))
        return within and self._bytes.take(key, size)

    def allows(self, peer: bytes) -> bool:
        """Whether `peer` may be answered: its key is still somebody's. Of a peer that has left it cannot be said."""
        with self._lock:
            key = self._keys.get(peer)
        try:
            return key is None or key in self._allowed()
        except (UserRlError, OSError):
            return False  # the next message says why

    @property
    def connections(self) -> int:
        """How many there are now."""
        return len(self._open)

    def join(self) -> None:
        """Waits for the end of its thread, which is the context's."""
        self._thread.join()

    def _note(self, key: str, peer: bytes, fd: int) -> None:
        found = self._open.get(fd)
        if found is None or found.peer == peer:
            return  # the monitor is behind, or knows it
        self._keys.pop(found.peer, None)
        found.key, found.peer = key, peer
        self._keys[peer] = key
        same = [f for f, c in self._open.items() if c.key == key]
        for old in same[: max(0, len(same) - self._limits.per_key)]:
            log.warning("key %s… has more than %d connections, the oldest is closed", key[:8], self._limits.per_key)
            self._hang_up(old)

    def _run(self) -> None:
        look_s = 0.0
        with self._monitor:
            while True:
                try:
                    if self._monitor.poll(round(LOOK_S * 1e3)) and not self._hear():
                        return
                except zmq.ContextTerminated:
                    return
                if self._clock.now_s() >= look_s:
                    self._look()
                    look_s = self._clock.now_s() + LOOK_S

    def _hear(self) -> bool:
        """Takes in what the monitor says; False at its end."""
        event = recv_monitor_message(self._monitor)
        fd = int(event["value"])
        if event["event"] == zmq.Event.MONITOR_STOPPED:
            return False
        with self._lock:
            if event["event"] == zmq.Event.ACCEPTED:
                self._accepted(fd)
            else:
                lost = self._open.pop(fd, None)
                self._keys.pop(lost.peer if lost else b"", None)
        return True

    def _accepted(self, fd: int) -> None:
        self._open.pop(fd, None)
        self._open[fd] = _Connection(_far_end(fd))
        silent = [f for f, c in self._open.items() if not c.key]
        for old in silent[: max(0, len(silent) - self._limits.silent)]:
            self._hang_up(old)

    def _look(self) -> None:
        try:
            allowed = self._allowed()
        except (UserRlError, OSError):
            return  # nobody gets in or is heard; who is there may stay until it can be read
        with self._lock:
            for fd in [fd for fd, c in self._open.items() if c.key and c.key not in allowed]:
                self._hang_up(fd)

    def _hang_up(self, fd: int) -> None:
        """Shuts a connection down, if the descriptor is still its own; libzmq then lets go of it."""
        gone = self._open.pop(fd)
        self._keys.pop(gone.peer, None)
        self.hung_up += 1
        try:
            with socket.socket(fileno=os.dup(fd)) as own:
                if own.getpeername() == gone.address:
                    own.shutdown(socket.SHUT_RDWR)
        except OSError:
            pass  # it has ended by itself


def _far_end(fd: int) -> object:
    try:
        with socket.socket(fileno=os.dup(fd)) as own:
            return own.getpeername()
    except OSError:
        return None  # ended already; the monitor will say so
