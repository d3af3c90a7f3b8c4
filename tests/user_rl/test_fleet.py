"""The fleet's client by itself: what it says when nobody answers. Its calls are tested in tests/cloud/fleet."""

import re
import socket
import time
from dataclasses import asdict, fields

import pytest

from user_rl import control_pb2 as pb
from user_rl.ask import AcceleratorsAsk, Ask, RobotsAsk
from user_rl.errors import Unreachable
from user_rl.fleet import (
    AcceleratorCard,
    Assignment,
    Card,
    FleetClient,
    Kind,
    Part,
    Resource,
    Status,
    ask_from_proto,
    card_from_proto,
    card_to_proto,
    resource_from_proto,
    resource_to_proto,
    status_from_proto,
    status_to_proto,
)
from user_rl.trust import Bundle, new_curve_keys

KEYS = new_curve_keys()
CARD = Card(
    cell="arm-1", boot="a" * 32, model="panda", rate_hz=10.0, schema_digest="d", action_dim=4, cameras=("a", "b"),
    on_silence="stops", site="lab", dof=7, control_modes=("joint", "pose"), teleop="glove",
)  # fmt: skip
STATUS = Status(
    state="idle", token=2, disk_free_bytes=0,
    parts=(Part(name="robot"), Part(name="a", health="degraded", reason="slow"), Part(name="b", health="broken")),
)  # fmt: skip
DEVICE = AcceleratorCard(
    id="gpu:n:0", node="n", site="lab", model="h100", address="0", memory_bytes=80, multiprocessors=132,
    utilisation=0.5, mig_profile="1g", parent="p", slices=("s", "t"), health="degraded", reason="hot",
)  # fmt: skip
ASK = Ask(
    robots=RobotsAsk(
        count=2, min_count=1, model="panda", site="lab", cameras=2, control_mode="pose", cells=("a", "b")
    ),
    learner=AcceleratorsAsk(gpus=1), inference=AcceleratorsAsk(gpus=2, near="robots"), priority=-3, preemptible=True,
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


def test_a_card_of_an_edge_that_does_not_speak_of_its_parts_stays_valid() -> None:
    old = pb.Card(cell="arm-1", boot="a" * 32, model="panda", rate_hz=10.0, on_silence="stops")
    assert card_from_proto(old).dof == 0
    assert card_from_proto(old).control_modes == ()
    assert status_from_proto(pb.Status(state="idle")).parts == ()


def test_a_status_crosses_unchanged_and_a_health_that_nobody_knows_counts_as_broken() -> None:
    message = status_to_proto(STATUS)
    assert status_from_proto(pb.Status.FromString(message.SerializeToString())) == STATUS
    message.parts[0].health = "splendid"
    assert status_from_proto(message).parts[0].health == "broken"


@pytest.mark.parametrize("which", ["cell", "accelerator"])
def test_a_resource_crosses_unchanged(which: Kind) -> None:
    cell = which == "cell"
    resource = Resource(
        id="x", kind=which, model="m", site="lab", state="degraded", since_s=1.5, reason="why", lease="held", run="r",
        role="robots", token=3, alive=True, silent_s=0.5, sequence=2, card=CARD if cell else None,
        status=STATUS if cell else Status(state=""), accelerator=None if cell else DEVICE,
    )  # fmt: skip
    crossed = pb.Resource.FromString(resource_to_proto(resource).SerializeToString())
    assert resource_from_proto(crossed) == resource


def test_a_request_crosses_unchanged() -> None:
    message = pb.RequestLeaseRequest(run="r", **asdict(ASK))
    assert ask_from_proto(pb.RequestLeaseRequest.FromString(message.SerializeToString())) == ASK


@pytest.mark.parametrize(
    ("ours", "theirs"),
    [
        (Card, pb.Card), (Part, pb.Part), (Status, pb.Status), (Assignment, pb.Assignment), (Resource, pb.Resource),
        (AcceleratorCard, pb.Accelerator), (RobotsAsk, pb.RobotsAsk), (AcceleratorsAsk, pb.AcceleratorsAsk),
    ],
)  # fmt: skip
def test_our_classes_have_exactly_the_protocols_fields(ours: type, theirs: type) -> None:
    assert {f.name for f in fields(ours)} == {f.name for f in theirs.DESCRIPTOR.fields}  # type: ignore[attr-defined]
