"""Real sockets: who is proven gets through, nobody else does, and every queue ends."""

import logging
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack

import pytest
import zmq

from user_rl.channels import ChannelConfig, ClientChannel, Received, ServerChannel
from user_rl.errors import ConfigError, StorageError
from user_rl.trust import CurveKeys, new_curve_keys

LONG_S = 10.0  # of waiting for what must come
SHORT_S = 0.2  # of waiting for what must not
CLOUD, ARM, STRANGER = new_curve_keys(), new_curve_keys(), new_curve_keys()
ANY = "tcp://127.0.0.1:0"


class Bench:
    """A server with a live allow set, and clients, all closed at the end."""

    def __init__(self, stack: ExitStack) -> None:
        self._stack = stack
        self.allowed = {ARM.public: "edge:arm-1"}

    def server(self, address: str = ANY, **config: float) -> ServerChannel:
        settings = ChannelConfig(**config)  # type: ignore[arg-type]
        channel = ServerChannel(address, CLOUD, lambda: self.allowed, config=settings)
        self._stack.callback(channel.close)
        return channel

    def client(self, server: ServerChannel, keys: CurveKeys = ARM, **config: float) -> ClientChannel:
        channel = ClientChannel(server.address, keys, CLOUD.public, config=ChannelConfig(**config))  # type: ignore[arg-type]
        self._stack.callback(channel.close)
        return channel

    def raw(self, kind: int) -> "zmq.Socket[bytes]":
        context = self._stack.enter_context(zmq.Context())
        made = self._stack.enter_context(context.socket(kind))
        made.linger = 0
        return made


@pytest.fixture
def bench() -> Iterator[Bench]:
    with ExitStack() as stack:
        yield Bench(stack)


def connected(client: ClientChannel) -> ClientChannel:
    assert client.socket.poll(round(LONG_S * 1e3), zmq.POLLOUT)
    return client


def received(server: ServerChannel) -> Received:
    got = server.receive(LONG_S)
    assert got is not None
    return got


def until(true: Callable[[], bool]) -> None:
    for _ in range(round(LONG_S / 0.02)):
        if true():
            return
        time.sleep(0.02)
    raise AssertionError("it never came true")


def test_a_message_arrives_under_its_enrolled_name_and_is_answered(bench: Bench) -> None:
    server = bench.server()
    client = connected(bench.client(server))
    assert client.send([b"hello", memoryview(b"rows" * 100_000)])
    got = received(server)
    assert got.user == "edge:arm-1"
    assert [bytes(f) for f in got.frames] == [b"hello", b"rows" * 100_000]
    assert server.send(got.peer, [b"welcome"])
    assert [bytes(f) for f in client.receive(LONG_S) or []] == [b"welcome"]
    assert server.refused == 0


def test_silence_is_none_on_both_sides(bench: Bench) -> None:
    server = bench.server()
    client = connected(bench.client(server))
    assert server.receive(0.0) is None
    assert client.receive(0.0) is None


def test_port_zero_picks_one_and_names_it(bench: Bench) -> None:
    assert re.fullmatch(r"tcp://127\.0\.0\.1:[1-9]\d*", bench.server().address)


def test_a_port_in_use_is_one_clear_line_and_is_free_after_close(bench: Bench) -> None:
    first = bench.server()
    message = f"cannot listen on {first.address}: Address already in use; free the port or give another"
    with pytest.raises(ConfigError, match=re.escape(message)):
        bench.server(first.address)
    first.close()
    assert bench.server(first.address).address == first.address


@pytest.mark.parametrize("address", ["tcp://", "nonsense", "tcp://127.0.0.1:port", "tcp://127.0.0.1:99999"])
def test_a_malformed_address_is_refused(bench: Bench, address: str) -> None:
    with pytest.raises(ConfigError, match=re.escape(f"cannot listen on {address}: ")):
        bench.server(address)
    with pytest.raises(ConfigError, match=re.escape(f"cannot connect to {address}: ")):
        ClientChannel(address, ARM, CLOUD.public)


@pytest.mark.slow
def test_an_unknown_key_gets_nothing_through_and_one_log_line(bench: Bench, caplog: pytest.LogCaptureFixture) -> None:
    server = bench.server()
    with caplog.at_level(logging.WARNING, "user_rl.channels"):
        strangers = [bench.client(server, STRANGER), bench.client(server, STRANGER)]
        until(lambda: server.refused == 2)
    assert not any(client.send([b"let me in"]) for client in strangers)
    assert server.receive(SHORT_S) is None
    line = f"unknown key {STRANGER.public[:8]}… from 127.0.0.1; enrol it with user-rl enroll NAME"
    assert [r.getMessage() for r in caplog.records] == [line]


@pytest.mark.slow
def test_a_key_that_is_enrolled_later_gets_in_by_itself(bench: Bench) -> None:
    server = bench.server()
    client = bench.client(server, STRANGER, handshake_s=0.3)
    until(lambda: server.refused > 0)
    bench.allowed[STRANGER.public] = "edge:new"
    assert connected(client).send([b"hello"])
    assert received(server).user == "edge:new"


@pytest.mark.slow
def test_a_revoked_key_is_dropped_at_its_next_message_and_counted(
    bench: Bench, caplog: pytest.LogCaptureFixture
) -> None:
    server = bench.server()
    client = connected(bench.client(server))
    client.send([b"before"])
    received(server)
    bench.allowed.clear()
    with caplog.at_level(logging.WARNING, "user_rl.channels"):
        assert client.send([b"after"])
        assert client.send([b"after"])
        for _ in range(20):
            assert server.receive(SHORT_S) is None
            if server.refused == 2:
                break
    assert server.refused == 2
    line = f"unknown key {ARM.public[:8]}… from 127.0.0.1; enrol it with user-rl enroll NAME"
    assert [r.getMessage() for r in caplog.records] == [line]


def test_messages_of_a_revoked_key_do_not_hide_those_of_others(bench: Bench) -> None:
    server = bench.server()
    bench.allowed[STRANGER.public] = "edge:other"
    revoked = connected(bench.client(server, STRANGER))
    for _ in range(10):
        assert revoked.send([b"spam"])
    assert connected(bench.client(server)).send([b"hello"])
    del bench.allowed[STRANGER.public]
    got = None
    while got is None:
        got = server.receive(LONG_S)
    assert (got.user, bytes(got.frames[0])) == ("edge:arm-1", b"hello")


@pytest.mark.slow
def test_a_client_refuses_a_server_that_is_not_the_one_it_knows(bench: Bench) -> None:
    server = bench.server()
    client = ClientChannel(server.address, ARM, STRANGER.public)
    try:
        assert not client.socket.poll(round(SHORT_S * 1e3), zmq.POLLOUT)
        assert not client.send([b"secret"])
        assert server.receive(SHORT_S) is None
    finally:
        client.close()


@pytest.mark.slow
def test_a_client_without_curve_gets_nothing_through(bench: Bench) -> None:
    server = bench.server()
    plain = bench.raw(zmq.DEALER)
    plain.connect(server.address)
    plain.send(b"let me in", zmq.NOBLOCK)
    assert server.receive(2 * SHORT_S) is None


@pytest.mark.slow
def test_bytes_that_are_no_zeromq_do_not_disturb_the_others(bench: Bench) -> None:
    server = bench.server()
    host, port = server.address.removeprefix("tcp://").split(":")
    with socket.create_connection((host, int(port)), LONG_S) as noise:
        noise.sendall(b"GET / HTTP/1.1\r\n\r\n" + bytes(range(256)) * 100)
        assert connected(bench.client(server)).send([b"hello"])
        assert received(server).user == "edge:arm-1"


def test_nothing_is_queued_for_a_server_that_is_not_there(bench: Bench) -> None:
    server = bench.server()
    server.close()
    assert not bench.client(server).send([b"hello"])


@pytest.mark.slow
def test_a_client_may_not_choose_its_routing_id(bench: Bench) -> None:
    server = bench.server()
    evil = bench.raw(zmq.DEALER)
    evil.curve_publickey, evil.curve_secretkey = ARM.public.encode(), ARM.secret.encode()
    evil.curve_serverkey, evil.routing_id = CLOUD.public.encode(), b"another's"
    evil.connect(server.address)
    evil.send(b"as another")
    assert server.receive(LONG_S) is None
    assert server.refused == 1


def test_an_answer_to_nobody_is_false(bench: Bench) -> None:
    assert not bench.server().send(b"\0gone", [b"answer"])


@pytest.mark.slow
def test_an_answer_to_a_client_that_has_gone_is_false(bench: Bench) -> None:
    server = bench.server()
    client = connected(bench.client(server))
    client.send([b"hello"])
    peer = received(server).peer
    client.close()
    until(lambda: not server.send(peer, [b"answer"]))


@pytest.mark.slow
@pytest.mark.parametrize("frame", [b"x" * 2**16, b"x"], ids=["large", "small"])
def test_a_queue_that_nobody_empties_ends_on_both_sides(bench: Bench, frame: bytes) -> None:
    server = bench.server(queue=8)
    client = connected(bench.client(server, queue=8))
    client.send([b"hello"])
    peer = received(server).peer
    most = 100_000
    assert next(n for n in range(most) if not server.send(peer, [frame])) >= 4
    assert next(n for n in range(most) if not client.send([frame])) >= 4


@pytest.mark.slow
def test_an_oversized_frame_ends_its_connection_only(bench: Bench) -> None:
    server = bench.server(max_frame_bytes=1000)
    other = connected(bench.client(server))
    client = connected(bench.client(server, max_frame_bytes=10_000))
    assert client.send([b"header", b"x" * 1000])
    assert len(received(server).frames[1]) == 1000
    assert client.send([b"header", b"x" * 1100])
    assert server.receive(SHORT_S) is None
    assert other.send([b"still here"])
    assert bytes(received(server).frames[0]) == b"still here"
    connected(client)  # again


@pytest.mark.slow
def test_a_client_finds_its_server_again_at_the_same_address(bench: Bench) -> None:
    first = bench.server()
    client = connected(bench.client(first))
    first.close()
    until(lambda: not client.send([b"lost"]))
    second = bench.server(first.address)
    connected(client).send([b"hello again"])
    assert bytes(received(second).frames[0]) == b"hello again"


@pytest.mark.slow
def test_a_client_that_falls_silent_is_gone_after_the_heartbeats(bench: Bench) -> None:
    server = bench.server(heartbeat_s=0.2, silent_after_s=1.0)
    code = (
        "import sys; from user_rl.channels import ClientChannel; from user_rl.trust import CurveKeys\n"
        "c = ClientChannel(sys.argv[1], CurveKeys(*sys.argv[2:4]), sys.argv[4])\n"
        "c.socket.poll(10_000, 2); c.send([b'hello']); c.receive(60)"
    )
    argv = [sys.executable, "-c", code, server.address, ARM.public, ARM.secret, CLOUD.public]
    with subprocess.Popen(argv) as process:
        try:
            peer = received(server).peer
            process.send_signal(signal.SIGSTOP)  # its kernel goes on acknowledging TCP
            until(lambda: not server.send(peer, [b"are you there"]))
        finally:
            process.kill()


@pytest.mark.slow
def test_an_allow_set_that_cannot_be_read_lets_nobody_in_until_it_can() -> None:
    broken = True

    def allowed() -> dict[str, str]:
        if broken:
            raise StorageError("the disk is away")
        return {ARM.public: "edge:arm-1"}

    server = ServerChannel(ANY, CLOUD, allowed)
    client = ClientChannel(server.address, ARM, CLOUD.public, config=ChannelConfig(handshake_s=0.3))
    try:
        until(lambda: server.refused > 0)
        broken = False
        connected(client).send([b"hello"])
        assert received(server).user == "edge:arm-1"
        broken = True
        client.send([b"hello"])
        assert server.receive(LONG_S) is None
    finally:
        client.close()
        server.close()


def test_each_channel_asks_its_own_allow_set(bench: Bench) -> None:
    weights = ServerChannel(ANY, CLOUD, lambda: {ARM.public: "another name"})
    try:
        experience = bench.server()
        for server, name in ((weights, "another name"), (experience, "edge:arm-1")):
            connected(bench.client(server)).send([b"hello"])
            assert received(server).user == name
    finally:
        weights.close()


def test_closing_twice_is_safe_and_ends_the_threads(bench: Bench) -> None:
    server = bench.server()
    client = connected(bench.client(server))
    for channel in (server, client, server, client):
        channel.close()


def test_a_client_that_watches_is_told_once_of_each_connection_in_place_of_a_broken_one(bench: Bench) -> None:
    server = bench.server()
    client = bench.client(server)
    client.watch()
    assert not connected(client).renewed()
    server.close()
    until(lambda: not client.ready(0.0))
    assert not client.renewed()
    again = bench.server(server.address)
    until(client.renewed)
    assert not client.renewed()
    assert client.send([b"hello"])
    assert [bytes(frame) for frame in received(again).frames] == [b"hello"]


def test_a_client_is_back_within_a_second_of_a_server_that_was_long_away(bench: Bench) -> None:
    server = bench.server()
    client = connected(bench.client(server))
    assert (client.socket.reconnect_ivl, client.socket.reconnect_ivl_max) == (100, 300)
    server.close()
    until(lambda: not client.ready(0.0))
    bench.server(server.address)
    assert client.ready(LONG_S)


def test_a_connection_that_nobody_answers_is_tried_anew_within_seconds() -> None:
    """The kernel's own tries are 1, 2, 4, 8, 16 s apart: after a cut a robot would come back as late."""
    client = ClientChannel("tcp://127.0.0.1:9", ARM, CLOUD.public, config=ChannelConfig(connect_s=1.5))
    assert client.socket.connect_timeout == 1500
    client.close()
