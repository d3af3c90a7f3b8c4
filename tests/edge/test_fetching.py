"""Weights come at the pace of the way down, which counts what is asked for and what comes."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from edge.config import LinkConfig
from edge.connection import Connection
from edge.fetching import fetch
from edge.pace import Pace, PaceConfig
from tests.user_rl.test_downlink import Store, downlink
from user_rl.channels import ServerChannel
from user_rl.clock import SystemClock
from user_rl.downlink import Downlink
from user_rl.trust import Bundle, new_curve_keys
from user_rl.wire import decode, encode

SERVER, CLIENT = new_curve_keys(), new_curve_keys()
CLOCK = SystemClock()
PATIENCE_S = 20.0
BUNDLE = Bundle(
    name="arm", kind="edge", curve=CLIENT, server_curve_public=SERVER.public, fleet_address="nowhere:0",
    server_name="fleet", ca_pem="", cert_pem="", key_pem="",
)  # fmt: skip


@pytest.fixture
def server() -> Iterator[ServerChannel]:
    made = ServerChannel("tcp://127.0.0.1:0", SERVER, lambda: {CLIENT.public: "edge:arm"})
    yield made
    made.close()


def turn(machine: Downlink, wire: Connection, down: Pace, server: ServerChannel, store: Store | None) -> None:
    """One turn of the edge, and of a server that answers from `store`, or not at all."""
    fetch(machine, wire, down, LinkConfig(part_bytes=4096), CLOCK.now_s())
    if (got := server.receive(0.001)) is not None and store is not None:
        message, payload = store.answer(decode(got.frames)[0])
        server.send(got.peer, encode(message) if payload is None else encode(message, bytes(payload)))


def test_what_is_asked_for_is_in_flight_until_it_has_come(tmp_path: Path, server: ServerChannel) -> None:
    store, machine, down = Store(), downlink(tmp_path), Pace(PaceConfig(first_bytes_s=4e6), CLOCK.now_s())
    store.publish(1, bytes(100_000))
    wire = Connection(BUNDLE)
    wire.connect(server.address, machine.reconnected)
    until_s, most = CLOCK.now_s() + PATIENCE_S, 0
    while machine.newest is None and CLOCK.now_s() < until_s:
        turn(machine, wire, down, server, store)
        most = max(most, down.in_flight)
        assert down.in_flight >= machine.awaited_bytes or down.in_flight == 0
    assert machine.newest is not None
    assert machine.came_bytes == 100_000
    assert 0 < most <= down.window_bytes + 8192
    assert down.in_flight == 0
    assert down.total >= 100_000
    wire.close()


def test_what_will_never_come_is_forgotten(tmp_path: Path, server: ServerChannel) -> None:
    store, machine, down = Store(), downlink(tmp_path), Pace(PaceConfig(), CLOCK.now_s())
    store.publish(1, bytes(100_000))
    wire = Connection(BUNDLE)
    wire.connect(server.address, machine.reconnected)
    until_s = CLOCK.now_s() + PATIENCE_S
    while not machine.fetching and CLOCK.now_s() < until_s:
        turn(machine, wire, down, server, store)
    while not down.in_flight and CLOCK.now_s() < until_s:
        turn(machine, wire, down, server, None)
    assert down.in_flight > 0
    machine.reconnected()
    machine._config = LinkConfig(weights_every_s=1e9)
    machine._not_before_s = 1e12  # nothing is asked anew
    turn(machine, wire, down, server, None)
    assert down.in_flight == 0
    wire.close()
