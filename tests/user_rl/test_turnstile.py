"""What one peer may take, with real sockets: floods are dropped, connections are counted and closed, memory ends."""

import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
import zmq

from tests.user_rl.test_channels import ANY, ARM, CLOUD, LONG_S, STRANGER, connected, received, until
from user_rl.channels import ChannelConfig, ClientChannel, ServerChannel
from user_rl.clock import FakeClock
from user_rl.errors import ConfigError, StorageError
from user_rl.limits import MOST_KEYS, Buckets
from user_rl.turnstile import PeerLimits

COMPLAINT = [b"slow down"]


class Bench:
    """A server with limits and a live allow set, and clients, all closed at the end."""

    def __init__(self, stack: ExitStack) -> None:
        self._stack = stack
        self.allowed = {ARM.public: "edge:arm", STRANGER.public: "edge:other"}
        self.broken = False

    def _allowed(self) -> dict[str, str]:
        if self.broken:
            raise StorageError("the disk is away")
        return self.allowed

    def server(self, max_frame_bytes: int = 2**20, **limits: float) -> ServerChannel:
        bounds = PeerLimits(**limits)  # type: ignore[arg-type]
        config = ChannelConfig(max_frame_bytes=max_frame_bytes, limits=bounds, handshake_s=60.0)  # no help from libzmq
        server = ServerChannel(ANY, CLOUD, self._allowed, config=config, complaint=COMPLAINT)
        self._stack.callback(server.close)
        return server

    def client(self, server: ServerChannel, keys: object = ARM) -> ClientChannel:
        client = ClientChannel(server.address, keys, CLOUD.public)  # type: ignore[arg-type]
        self._stack.callback(client.close)
        return connected(client)

    def raw(self, server: ServerChannel) -> socket.socket:
        host, port = server.address.removeprefix("tcp://").split(":")
        return self._stack.enter_context(socket.create_connection((host, int(port)), LONG_S))


@pytest.fixture
def bench() -> Iterator[Bench]:
    with ExitStack() as stack:
        yield Bench(stack)


def say(client: ClientChannel, *frames: bytes) -> None:
    until(lambda: client.send(list(frames)))


def drained(server: ServerChannel) -> list[tuple[str, bytes]]:
    """What is there, until nothing came for a while."""
    found, empty = [], 0
    while empty < 3:
        got = server.receive(0.05)
        if got is not None:
            found.append((got.user, bytes(got.frames[0])))
        empty = 0 if got is not None or server.socket.poll(0) else empty + 1
    return found


def test_messages_over_the_limit_are_dropped_counted_and_answered_once(bench: Bench) -> None:
    server = bench.server(small_hz=1.0, burst_s=10.0)
    client = bench.client(server)
    for _ in range(30):
        say(client, b"x")
    assert len(drained(server)) in (10, 11)
    assert server.limited >= 19
    assert [bytes(frame) for frame in client.receive(LONG_S) or []] == COMPLAINT
    assert client.receive(0.0) is None


def test_large_messages_have_limits_of_their_own(bench: Bench) -> None:
    server = bench.server(small_hz=1.0, burst_s=2.0, bytes_hz=50_000.0)
    client = bench.client(server)
    for _ in range(30):
        say(client, bytes(10_000))
    assert len(drained(server)) in (10, 11)


def test_all_messages_together_have_a_limit(bench: Bench) -> None:
    server = bench.server(messages_hz=5.0, burst_s=1.0, small_hz=1000.0)
    client = bench.client(server)
    for _ in range(30):
        say(client, b"x" if server.limited % 2 else bytes(10_000))
    assert 5 <= len(drained(server)) <= 8


def test_one_peers_flood_leaves_anothers_messages_alone(bench: Bench) -> None:
    server = bench.server(small_hz=10.0, burst_s=1.0)
    flood, honest = bench.client(server), bench.client(server, STRANGER)
    heard = []
    for number in range(8):
        for _ in range(50):
            flood.send([b"noise"])
        say(honest, b"row %d" % number)
        heard += drained(server)
    assert [text for user, text in heard if user == "edge:other"] == [b"row %d" % n for n in range(8)]
    assert server.limited > 100


def test_of_one_keys_connections_the_oldest_goes(bench: Bench) -> None:
    server = bench.server(per_key=2)
    clients = [bench.client(server) for _ in range(3)]
    peers = []
    for number, client in enumerate(clients):
        say(client, b"%d" % number)
        peers.append(received(server).peer)

    def came_anew() -> bool:
        clients[0].send([b"again"])
        again = server.receive(0.2)
        return again is not None and again.peer != peers[0]

    until(came_anew)
    assert server.send(peers[2], [b"still here"])
    other = bench.client(server, STRANGER)
    say(other, b"hello")
    assert received(server).user == "edge:other"


@pytest.mark.slow
def test_connections_that_say_nothing_are_bounded_and_keep_nobody_out(bench: Bench) -> None:
    server = bench.server(silent=20)
    before = len(os.listdir("/proc/self/fd"))
    silent = [bench.raw(server) for _ in range(200)]
    until(lambda: server.connections <= 20 and len(os.listdir("/proc/self/fd")) <= before + 200 + 25)
    honest = bench.client(server)
    say(honest, b"hello")
    assert received(server).user == "edge:arm"
    silent[0].settimeout(LONG_S)
    data = b"x"
    while data:  # the greeting, then the end
        data = silent[0].recv(1000)


def test_who_has_said_something_is_not_closed_for_the_silence_of_others(bench: Bench) -> None:
    server = bench.server(silent=3)
    honest = bench.client(server)
    say(honest, b"hello")
    peer = received(server).peer
    for _ in range(10):
        bench.raw(server)
    until(lambda: server.connections == 4)
    assert server.send(peer, [b"welcome"])
    assert [bytes(frame) for frame in honest.receive(LONG_S) or []] == [b"welcome"]


def test_a_revoked_listener_is_told_nothing_more_and_is_hung_up_on(bench: Bench) -> None:
    server = bench.server()
    client = bench.client(server)
    say(client, b"hello")
    peer = received(server).peer
    assert server.send(peer, [b"permit"])
    assert [bytes(frame) for frame in client.receive(LONG_S) or []] == [b"permit"]
    del bench.allowed[ARM.public]
    assert not server.send(peer, [b"secret"])  # at once
    until(lambda: server.connections == 0 and not client.ready(0.0))  # and is hung up on, although it says nothing
    assert client.receive(0.1) is None


def test_nobody_is_hung_up_on_while_the_allow_set_cannot_be_read(bench: Bench) -> None:
    server = bench.server()
    client = bench.client(server)
    say(client, b"hello")
    peer = received(server).peer
    bench.broken = True
    assert not server.send(peer, [b"?"])
    until_s = time.monotonic() + 1.2  # two looks
    while time.monotonic() < until_s:
        assert server.receive(0.05) is None
    bench.broken = False
    assert server.send(peer, [b"again"])
    assert [bytes(frame) for frame in client.receive(LONG_S) or []] == [b"again"]


FLOOD = """
import sys, time, zmq
from user_rl.channels import ClientChannel
from user_rl.trust import CurveKeys
client = ClientChannel(sys.argv[1], CurveKeys(*sys.argv[2:4]), sys.argv[4])
client.socket.poll(10_000, zmq.POLLOUT)
sent, stuck_s = 0, time.monotonic()
while time.monotonic() - stuck_s < 1.0:
    if client.send([bytes(2**20)]):
        sent, stuck_s = sent + 1, time.monotonic()
print(sent, flush=True)
sys.stdin.read()
"""


def rss_bytes() -> int:
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


@pytest.mark.slow
def test_what_one_peer_leaves_unread_is_bounded_in_bytes(bench: Bench) -> None:
    server = bench.server(peer_bytes=8 * 2**20)
    before = rss_bytes()
    argv = [sys.executable, "-c", FLOOD, server.address, ARM.public, ARM.secret, CLOUD.public]
    with subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as flood:
        assert flood.stdout is not None
        assert int(flood.stdout.readline()) >= 64  # its own queue, at least
        assert rss_bytes() - before < 40 * 2**20
        flood.kill()


def test_a_server_takes_no_more_messages_than_its_bytes_allow(bench: Bench) -> None:
    assert bench.server(max_frame_bytes=2**20, peer_bytes=2**24).socket.get(zmq.RCVHWM) == 16
    assert bench.server(max_frame_bytes=2**24, peer_bytes=2**24).socket.get(zmq.RCVHWM) == 4
    assert bench.server(max_frame_bytes=2**10).socket.get(zmq.RCVHWM) == 64


@pytest.mark.parametrize("name", ["messages_hz", "small_hz", "bytes_hz", "burst_s", "per_key", "silent", "peer_bytes"])
def test_a_limit_that_lets_nothing_pass_is_refused(name: str) -> None:
    with pytest.raises(ConfigError, match=f"{name} = 0, allowed more than 0; leave it out"):
        PeerLimits(**{name: 0})


def test_a_bucket_fills_with_time_up_to_its_burst_for_each_key() -> None:
    clock = FakeClock(0.0)
    buckets = Buckets(2.0, 3.0, clock)
    assert [buckets.take("a") for _ in range(4)] == [True, True, True, False]
    assert buckets.take("b")
    clock.advance(0.5)
    assert [buckets.take("a"), buckets.take("a")] == [True, False]
    clock.advance(100.0)
    assert [buckets.take("a") for _ in range(4)] == [True, True, True, False]
    assert not buckets.take("c", cost=3.5)
    assert buckets.take("c", cost=3.0)  # what was refused has cost nothing


def test_buckets_forget_the_least_recently_seen_key() -> None:
    buckets = Buckets(1.0, 1.0, FakeClock(0.0))
    for number in range(MOST_KEYS + 5):
        buckets.take(str(number))
    assert len(buckets._left) == MOST_KEYS
    assert "0" not in buckets._left
