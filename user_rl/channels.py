"""Channels: ZeroMQ sockets under CURVE, both sides proven by their keys, every queue and size bounded.

A channel has its own context, so its own I/O thread and its own ZAP handler: bulk on one never delays another. The
handshake asks the ZAP handler, which asks `allowed()`; each message's User-Id (the client's public key, set by the
handshake) is held against `allowed()` again, and so is each answer's receiver. Routing ids are the server's. What one
peer may take is bounded by `user_rl.turnstile`, which also closes the connections of who is not allowed any more.

A channel belongs to one thread; `allowed` is also called from the ZAP handler's thread. Bounds: `queue` messages per
peer and direction, then a client's send says False and a server's receiver is held back by TCP; a frame over
`max_frame_bytes` ends the connection that sent it. What is in flight when a connection breaks is lost: the protocol
above asks again.
"""

import logging
import sys
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import zmq
from zmq.utils import z85

from user_rl.errors import ConfigError, UserRlError
from user_rl.trust import CurveKeys
from user_rl.turnstile import PeerLimits, Turnstile

log = logging.getLogger(__name__)

Allowed = Callable[[], Mapping[str, str]]  # client public key (z85) → identity; asked live
TELL_S = 1.0  # between two complaints about too many messages
KEYS_LOGGED = 1000  # different unknown keys that get a line each
ZAP_ENDPOINT = "inproc://zeromq.zap.01"
CURVE_OVERHEAD_BYTES = 64  # command name, nonce, flags and MAC around a frame (33 in libzmq 4.3)


@dataclass(frozen=True, kw_only=True)
class ChannelConfig:
    """Bounds and heartbeats of a channel; both sides should have the same."""

    heartbeat_s: float = 1.0
    silent_after_s: float = 5.0  # a peer that says nothing for so long is gone
    handshake_s: float = 5.0  # also the pause after which a refused client tries again
    connect_s: float = 2.0  # then it is tried anew: the kernel's own tries are up to a minute apart after a cut
    queue: int = 64  # messages
    max_frame_bytes: int = 2**24
    limits: PeerLimits = field(default_factory=PeerLimits)  # of a server


@dataclass(frozen=True)
class Received:
    """A message: who to answer, who sent it (as enrolled), and its frames, which are views without a copy."""

    peer: bytes
    user: str
    frames: list[memoryview]


class ServerChannel:
    """The cloud's end: many clients, each proven."""

    def __init__(
        self, address: str, keys: CurveKeys, allowed: Allowed, *, config: ChannelConfig | None = None,
        complaint: Sequence[bytes | memoryview] = (),
    ) -> None:  # fmt: skip
        """`complaint`: what a peer hears, once a second at most, whose messages are dropped for being too many."""
        config = config or ChannelConfig()
        self._context = zmq.Context()
        self._doorkeeper = _Doorkeeper(self._context, allowed)
        self._socket = _socket(self._context, zmq.ROUTER, keys, config)
        self._socket.curve_server = True
        self._socket.router_mandatory = True
        self._socket.rcvhwm = min(config.queue, max(4, config.limits.peer_bytes // config.max_frame_bytes))
        self._complaint = list(complaint)
        self._turnstile = Turnstile(self._socket, config.limits, allowed)
        self._told_s: dict[str, float] = {}  # by user: when it was told that it sends too much
        self.limited = 0  # messages over a peer's limits, dropped
        try:
            _check_port(address)
            self._socket.bind(address)
        except zmq.ZMQError as error:
            self.close()
            raise ConfigError(
                f"cannot listen on {address}: {zmq.strerror(error.errno or 0)}; free the port or give another"
            ) from error
        self.address = bytes(self._socket.get(zmq.LAST_ENDPOINT)).rstrip(b"\0").decode()

    @property
    def refused(self) -> int:
        """Handshakes and messages that were turned away."""
        return self._doorkeeper.refused

    @property
    def connections(self) -> int:
        """How many there are now, proven or not."""
        return self._turnstile.connections

    @property
    def socket(self) -> "zmq.Socket[bytes]":
        """For a poller only."""
        return self._socket

    def receive(self, timeout_s: float) -> Received | None:
        """The next message, as soon as there is one.

        None when there is none, when its sender is not allowed now, or sends more than its share.
        """
        message = self._next() or (self._next() if self._socket.poll(round(timeout_s * 1e3)) else None)
        if message is None:
            return None
        peer, *frames = message
        user = self._doorkeeper.user_of(peer, frames)
        if user is None:
            return None
        last, size = (frames or [peer])[-1], sum(map(len, frames))
        if not self._turnstile.admits(str(last.get("User-Id")), peer.bytes, int(last.get(zmq.SRCFD)), size):
            self._over_limit(peer.bytes, user)
            return None
        return Received(peer.bytes, user, [frame.buffer for frame in frames])

    def send(self, peer: bytes, frames: Sequence[bytes | memoryview]) -> bool:
        """Queues an answer; False when the peer is gone or not allowed now, or its queue is full. Never blocks."""
        return self._turnstile.allows(peer) and _send(self._socket, [peer, *frames])

    def _next(self) -> list[zmq.Frame] | None:
        """What is there already: in a burst no message costs a poll."""
        try:
            return self._socket.recv_multipart(zmq.NOBLOCK, copy=False)
        except zmq.Again:
            return None

    def _over_limit(self, peer: bytes, user: str) -> None:
        self.limited += 1
        now_s = time.monotonic()
        if now_s - self._told_s.get(user, float("-inf")) >= TELL_S:
            self._told_s[user] = now_s
            log.warning("%s sends more than its share; %d messages are dropped by now", user, self.limited)
            if self._complaint:
                _send(self._socket, [peer, *self._complaint])

    def close(self) -> None:
        """Ends every connection at once; safe to call twice."""
        self._socket.close(linger=0)
        self._context.term()
        self._doorkeeper.join()
        self._turnstile.join()


class ClientChannel:
    """The edge's end: connects outwards, again and again until closed."""

    def __init__(
        self, address: str, keys: CurveKeys, server_public: str, *, config: ChannelConfig | None = None
    ) -> None:
        self._context = zmq.Context()
        self.socket = _socket(self._context, zmq.DEALER, keys, config or ChannelConfig())
        self.socket.curve_serverkey = server_public.encode()
        self.socket.immediate = True  # nothing is queued for a server that is not there and proven
        self.socket.connect_timeout = round((config or ChannelConfig()).connect_s * 1e3)
        self.socket.reconnect_ivl = 100  # ms
        self.socket.reconnect_ivl_max = 300
        self._monitor: zmq.Socket[bytes] | None = None
        self._broken = False
        try:
            _check_port(address)
            self.socket.connect(address)
        except zmq.ZMQError as error:
            self.close()
            raise ConfigError(
                f"cannot connect to {address}: {zmq.strerror(error.errno or 0)}; give tcp://HOST:PORT"
            ) from error

    def ready(self, timeout_s: float) -> bool:
        """Whether a message can be sent now, waiting up to `timeout_s` for it."""
        return bool(self.socket.poll(round(timeout_s * 1e3), zmq.POLLOUT))

    def send(self, frames: Sequence[bytes | memoryview]) -> bool:
        """Queues a message; False when not connected or when the queue is full. Never blocks."""
        return _send(self.socket, frames)

    def receive(self, timeout_s: float) -> list[memoryview] | None:
        """The next message's frames; None when there is none."""
        if not self.socket.poll(round(timeout_s * 1e3)):
            return None
        return [frame.buffer for frame in self.socket.recv_multipart(copy=False)]

    def watch(self) -> None:
        """From now on `renewed` is to be called often: who watches and does not look would stop the I/O thread."""
        self._monitor = self.socket.get_monitor_socket(zmq.EVENT_DISCONNECTED | zmq.EVENT_HANDSHAKE_SUCCEEDED)

    def renewed(self) -> bool:
        """Whether another connection was made, since the last call, in place of one that had broken."""
        renewed = False
        while self._monitor is not None and self._monitor.poll(0):
            event = int.from_bytes(self._monitor.recv_multipart()[0][:2], sys.byteorder)
            renewed |= self._broken and event == zmq.EVENT_HANDSHAKE_SUCCEEDED
            self._broken = event == zmq.EVENT_DISCONNECTED
        return renewed

    def close(self) -> None:
        """Ends the connection at once; safe to call twice."""
        if self._monitor is not None:
            self.socket.disable_monitor()
            self._monitor.close(linger=0)
            self._monitor = None
        self.socket.close(linger=0)
        self._context.term()


class _Doorkeeper:
    """The ZAP handler (RFC 27) of one context, in its own thread until the context ends, and the live allow set."""

    def __init__(self, context: "zmq.Context[zmq.Socket[bytes]]", allowed: Allowed) -> None:
        self._allowed = allowed
        self._logged: set[str] = set()
        self._at_door = self._inside = 0  # one counter per thread
        self._zap = context.socket(zmq.REP)
        self._zap.linger = 0
        self._zap.bind(ZAP_ENDPOINT)
        self._thread = threading.Thread(target=self._run, name="zap", daemon=True)
        self._thread.start()

    @property
    def refused(self) -> int:
        return self._at_door + self._inside

    def user_of(self, peer: zmq.Frame, frames: Sequence[zmq.Frame]) -> str | None:
        """Who sent this message, None (and counted) when its key is not allowed any more."""
        key = str((frames or [peer])[-1].get("User-Id"))
        user = self._look_up(key)
        if user is not None and peer.bytes.startswith(b"\0"):  # libzmq's own ids do; a client may not choose one
            return user
        self._inside += 1
        if user is None:
            self._tell(key, str(peer.get("Peer-Address")))
        return None

    def join(self) -> None:
        self._thread.join()

    def _run(self) -> None:
        with self._zap:
            while True:
                try:
                    request = self._zap.recv_multipart()
                    self._zap.send_multipart(self._answer(request))
                except zmq.ContextTerminated:
                    return

    def _answer(self, request: list[bytes]) -> list[bytes]:
        version, request_id, _domain, address, _routing_id, mechanism, *credentials = request
        key = z85.encode(credentials[0]).decode() if mechanism == b"CURVE" else ""
        if self._look_up(key) is not None:
            return [version, request_id, b"200", b"OK", key.encode(), b""]
        self._at_door += 1
        self._tell(key, address.decode(errors="replace"))
        # 300, not 400: after a 400 a client never tries again, so one that is enrolled later would stay out
        return [version, request_id, b"300", b"unknown key", b"", b""]

    def _look_up(self, key: str) -> str | None:
        """Whose key this is now; None: nobody's."""
        try:
            return self._allowed().get(key)
        except (UserRlError, OSError) as error:
            log.error("the allow set cannot be read, so nobody is let in: %s", error)
            return None

    def _tell(self, key: str, address: str) -> None:
        if key not in self._logged and len(self._logged) < KEYS_LOGGED:
            self._logged.add(key)
            log.warning("unknown key %s… from %s; enrol it with user-rl enroll NAME", key[:8], address)


def _socket(
    context: "zmq.Context[zmq.Socket[bytes]]", kind: int, keys: CurveKeys, config: ChannelConfig
) -> "zmq.Socket[bytes]":
    socket = context.socket(kind)
    socket.linger = 0
    socket.curve_publickey, socket.curve_secretkey = keys.public.encode(), keys.secret.encode()
    socket.heartbeat_ivl = round(config.heartbeat_s * 1e3)
    socket.heartbeat_timeout = socket.heartbeat_ttl = round(config.silent_after_s * 1e3)
    socket.handshake_ivl = round(config.handshake_s * 1e3)
    socket.sndhwm = socket.rcvhwm = config.queue
    socket.maxmsgsize = config.max_frame_bytes + CURVE_OVERHEAD_BYTES
    return socket


def _check_port(address: str) -> None:
    _, _, port = address.rpartition(":")
    if port.isdecimal() and int(port) > 65535:  # libzmq would take it modulo 65536
        raise zmq.ZMQError(zmq.EINVAL)


def _send(socket: "zmq.Socket[bytes]", frames: Sequence[bytes | memoryview]) -> bool:
    try:
        socket.send_multipart(frames, zmq.NOBLOCK, copy=False)
    except (zmq.Again, zmq.ZMQError) as error:
        if error.errno in (zmq.EAGAIN, zmq.EHOSTUNREACH):
            return False
        raise
    return True
