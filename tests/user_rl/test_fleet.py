"""The fleet's client by itself: what it says when nobody answers. Its calls are tested in tests/cloud/fleet."""

import re
import socket
import time
from dataclasses import fields

import pytest

from user_rl import control_pb2 as pb
from user_rl.errors import Unreachable
from user_rl.fleet import Assignment, Card, FleetClient, Resource, Status, card_from_proto, card_to_proto
from user_rl.trust import Bundle, new_curve_keys

KEYS = new_curve_keys()
CARD = Card(
    cell="arm-1", boot="a" * 32, model="panda", rate_hz=10.0, schema_digest="d", action_dim=4, cameras=("a", "b"),
    on_silence="stops",
)  # fmt: skip


def bundle(address: str) -> Bundle:
    return Bundle(
        kind="run", name="demo", fleet_address=address, server_name="user-rl", ca_pem="", cert_pem="", key_pem="",
        curve=KEYS, server_curve_public=KEYS.public,
    )  # fmt: skip


@pytest.mark.slow
def test_a_fleet_that_is_not_there_is_one_clear_line() -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{free.getsockname()[1]}"
    message = rf"no answer from the fleet at {re.escape(address)}: .*; see that user-rl fleet runs there, then again"
    with FleetClient(bundle(address), deadline_s=5.0) as client, pytest.raises(Unreachable, match=message):
        client.list()


@pytest.mark.slow
def test_a_fleet_that_accepts_and_says_nothing_costs_the_deadline_only() -> None:
    with socket.socket() as mute:
        mute.bind(("127.0.0.1", 0))
        mute.listen()
        address = f"127.0.0.1:{mute.getsockname()[1]}"
        started_s = time.monotonic()
        with FleetClient(bundle(address), deadline_s=0.3) as client, pytest.raises(Unreachable, match=address):
            client.renew("demo")
    assert time.monotonic() - started_s < 5.0  # without the deadline: for ever


def test_closing_twice_is_safe() -> None:
    client = FleetClient(bundle("127.0.0.1:1"))
    client.close()
    client.close()


def test_a_card_crosses_unchanged() -> None:
    assert card_from_proto(pb.Card.FromString(card_to_proto(CARD).SerializeToString())) == CARD


@pytest.mark.parametrize(
    ("ours", "theirs"),
    [(Card, pb.Card), (Status, pb.Status), (Assignment, pb.Assignment), (Resource, pb.Resource)],
)
def test_our_classes_have_exactly_the_protocols_fields(ours: type, theirs: type) -> None:
    assert {f.name for f in fields(ours)} == {f.name for f in theirs.DESCRIPTOR.fields}  # type: ignore[attr-defined]
