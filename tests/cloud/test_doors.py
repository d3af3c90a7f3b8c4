"""Who may say what at each of a gateway's sockets: every door by every kind of caller, with real sockets."""

import threading
from collections.abc import Iterator
from pathlib import Path

import msgspec
import numpy as np
import pytest

from cloud.authority import Authority
from cloud.gateway import Gateway, GatewayConfig
from cloud.testing import episode_rows, state_schema
from cloud.weights import WeightStore
from tests.cloud.test_gateway import PATIENCE_S, hear, publish, say
from user_rl.channels import ClientChannel
from user_rl.clock import SystemClock
from user_rl.columns import Column
from user_rl.columns.entry import pack
from user_rl.log import Log
from user_rl.trust import Bundle, Kind
from user_rl.wire import (
    Ack,
    Hello,
    Label,
    Labelled,
    Message,
    Refused,
    Rows,
    WeightsOffer,
    WeightsQuery,
    Welcome,
    digest,
    encode,
)

SCHEMA = state_schema()
COLUMN = Column(name="reward", writer="cell", version=1)
WHO: dict[str, tuple[str, Kind]] = {
    "the leased cell": ("cell", "edge"), "another run's cell": ("other", "edge"), "the run": ("run", "run"),
    "another run": ("elsewhere", "run"), "an admin": ("me", "admin"), "the column's labeller": ("cell", "labeller"),
    "another labeller": ("other", "labeller"), "an inference server": ("site", "inference"),
}  # fmt: skip
MAY: dict[str, set[str]] = {
    "experience": {"the leased cell"},
    "weights": {"the leased cell", "the run", "an admin", "an inference server"},
    "labels": {"the run", "an admin", "the column's labeller"},
}


class Served:
    """A gateway that runs, its authority, and what the run has leased."""

    def __init__(self, path: Path) -> None:
        self.authority, self.tokens = Authority(path / "authority"), {"cell": 1}
        self.log, store = Log(path / "run/log"), WeightStore(path / "run/weights")
        publish(store)
        self.gateway = Gateway(
            "run", self.log, store.root, GatewayConfig(), keys=self.authority.server_bundle.curve,
            allowed=self.authority.allowed, tokens=self.tokens.get, demonstrations=0, clock=SystemClock(),
        )  # fmt: skip
        self._thread = threading.Thread(target=self.gateway.run)
        self._thread.start()

    def enrolled(self, who: str) -> Bundle:
        name, kind = WHO[who]
        return self.authority.mint(name, kind=kind, fleet_address="")

    def channel(self, door: str, bundle: Bundle) -> ClientChannel:
        address = getattr(self.gateway, f"{door}_address")
        return ClientChannel(address, bundle.curve, bundle.server_curve_public)

    def stop(self) -> None:
        self.gateway.stop()
        self._thread.join(PATIENCE_S)
        self.log.close()


@pytest.fixture
def served(tmp_path: Path) -> Iterator[Served]:
    found = Served(tmp_path)
    yield found
    found.stop()


def question(door: str, cell: str = "cell") -> tuple[Message, tuple[bytes, ...]]:
    if door == "experience":
        stream = f"{cell}/b1/run"
        return Hello(stream, SCHEMA.encoded, "l" * 32, epoch=1, first_kept=0, last=9, token=1), ()
    if door == "weights":
        return WeightsQuery("run", 0), ()
    payload = pack(COLUMN, 0, np.zeros(1, np.int64), np.zeros(1, np.float32))
    return Label("run", msgspec.json.encode(COLUMN), "cell/b1/run", digest(payload)), (payload,)


@pytest.mark.parametrize("door", MAY)
def test_each_door_answers_those_it_is_for(served: Served, door: str) -> None:
    answers = {who: asked(served, door, who) for who in WHO}
    let_in = {who for who, answer in answers.items() if isinstance(answer, Welcome | WeightsOffer | Labelled)}
    assert let_in == MAY[door]
    codes = {answer.code for answer in answers.values() if isinstance(answer, Refused)}
    assert codes == {"identity"}


def asked(served: Served, door: str, who: str) -> Message:
    channel = served.channel(door, served.enrolled(who))
    try:
        message, payloads = question(door)
        say(channel, message, *payloads)
        return hear(channel)
    finally:
        channel.close()


def test_a_cell_that_is_not_leased_any_more_reads_no_weights(served: Served) -> None:
    channel = served.channel("weights", served.enrolled("the leased cell"))
    try:
        say(channel, WeightsQuery("run", 0))
        assert isinstance(hear(channel), WeightsOffer)
        served.tokens.clear()
        say(channel, WeightsQuery("run", 0))
        refused = hear(channel)
    finally:
        channel.close()
    assert isinstance(refused, Refused)
    assert refused.text == "weights for edge:cell, allowed the cells that run has leased, itself and admins; lease it"


@pytest.mark.parametrize("door", MAY)
def test_a_revoked_name_is_heard_at_no_door_on_its_open_connection(served: Served, door: str) -> None:
    who = sorted(MAY[door])[-1]
    bundle = served.enrolled(who)
    channel = served.channel(door, bundle)
    try:
        message, payloads = question(door)
        say(channel, message, *payloads)
        hear(channel)
        while channel.receive(0.05) is not None:  # a permit
            pass
        served.authority.revoke(bundle.name, kind=bundle.kind)
        channel.send([b"\x01", b""])
        if door == "experience":
            served.gateway.set_permit(5)  # would be told to every session
        assert channel.receive(0.6) is None
    finally:
        channel.close()


def test_rows_of_a_revoked_cell_are_not_taken(served: Served) -> None:
    bundle = served.enrolled("the leased cell")
    channel = served.channel("experience", bundle)
    rows = episode_rows(SCHEMA, np.random.default_rng(0), length=9).tobytes()
    half = len(rows) // 10 * 5
    try:
        say(channel, question("experience")[0])
        say(channel, Rows("cell/b1/run", 0, 5, digest(rows[:half])), rows[:half])
        while not isinstance(hear(channel), Ack):
            pass
        served.authority.revoke("cell", kind="edge")
        channel.send([b"\x01"])
        say_once = Rows("cell/b1/run", 5, 5, digest(rows[half:]))
        channel.send(encode(say_once, rows[half:]))
        assert channel.receive(0.5) is None
    finally:
        channel.close()
    assert served.gateway.status()["rows"] == 5
