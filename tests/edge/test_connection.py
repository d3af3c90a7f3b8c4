"""A connection that broke is made again, and the state machine above it asks at once where to go on."""

import pytest

from edge.connection import Connection
from edge.pace import Pace, PaceConfig
from user_rl.channels import ServerChannel
from user_rl.clock import SystemClock
from user_rl.trust import Bundle, new_curve_keys
from user_rl.wire import Message, Ping, decode

SERVER, CLIENT = new_curve_keys(), new_curve_keys()
CLOCK = SystemClock()
PATIENCE_S = 20.0
KINDS = pytest.mark.parametrize("paced", [False, True])


class Asker:
    """Says one thing on each connection, and then waits for an answer for ever."""

    def __init__(self) -> None:
        self.asked, self.connections = False, 0

    def reconnected(self) -> None:
        self.asked, self.connections = False, self.connections + 1

    def next(self, now_s: float) -> tuple[Message, bytes | None] | None:
        return None if self.asked else (Ping(float(self.connections), b"where to go on"), None)

    def sent(self, now_s: float) -> None:
        self.asked = True

    def receive(self, message: Message, payload: memoryview | None, now_s: float) -> None:
        raise AssertionError("nobody answers")


def serve(address: str = "tcp://127.0.0.1:0") -> ServerChannel:
    return ServerChannel(address, SERVER, lambda: {CLIENT.public: "edge:arm"})


@pytest.fixture
def bundle() -> Bundle:
    return Bundle(
        name="arm", kind="edge", curve=CLIENT, server_curve_public=SERVER.public, fleet_address="nowhere:0",
        server_name="fleet", ca_pem="", cert_pem="", key_pem="",
    )  # fmt: skip


def heard(server: ServerChannel, connection: Connection, asker: Asker) -> Message:
    """The next message at the server, while the client is pumped."""
    until_s = CLOCK.now_s() + PATIENCE_S
    while CLOCK.now_s() < until_s:
        connection.pump(asker, CLOCK.now_s())
        got = server.receive(0.01)
        if got is not None:
            return decode(got.frames)[0]
    raise AssertionError(f"nothing came within {PATIENCE_S:.0f} s")


@KINDS
def test_who_waits_for_an_answer_of_a_dead_gateway_asks_the_next_one_at_once(bundle: Bundle, paced: bool) -> None:
    server, asker = serve(), Asker()
    connection = Connection(bundle, Pace(PaceConfig(), CLOCK.now_s()) if paced else None)
    connection.connect(server.address, asker.reconnected)
    assert isinstance(heard(server, connection, asker), Ping)
    before = asker.connections
    server.close()
    successor = serve(server.address)
    try:
        assert isinstance(heard(successor, connection, asker), Ping)
        assert asker.connections > before
    finally:
        connection.close()
        successor.close()
