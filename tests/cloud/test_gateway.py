import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import msgspec
import numpy as np
import pytest

from cloud.gateway import Gateway, GatewayConfig
from cloud.testing import episode_rows, state_schema
from cloud.weights import WeightStore
from user_rl.channels import ClientChannel
from user_rl.clock import SystemClock
from user_rl.errors import ConfigError
from user_rl.log import Log
from user_rl.specs import Array, box
from user_rl.trust import new_curve_keys
from user_rl.versions import PolicySpec, Version
from user_rl.wire import (
    UNLIMITED,
    Ack,
    Hello,
    Message,
    Permit,
    Refused,
    Rows,
    WeightsOffer,
    WeightsPart,
    WeightsQuery,
    WeightsRange,
    Welcome,
    decode,
    digest,
    encode,
)

SCHEMA = state_schema()
STREAM = "cell-0/b1/run"
SERVER, CLIENT, STRANGER = new_curve_keys(), new_curve_keys(), new_curve_keys()
ALLOWED = {CLIENT.public: "edge:cell-0"}
PATIENCE_S = 20.0


class Served:
    """A gateway that runs, and its log and weights."""

    def __init__(self, path: Path, config: GatewayConfig | None = None) -> None:
        self.log, self.store = Log(path / "log"), WeightStore(path / "weights")
        self.gateway = Gateway(
            "run", self.log, path / "weights", config or GatewayConfig(), keys=SERVER, allowed=lambda: ALLOWED,
            tokens={"cell-0": 1}.get, demonstrations=0, clock=SystemClock(),
        )  # fmt: skip
        self._thread = threading.Thread(target=self.gateway.run)
        self._thread.start()

    def stop(self) -> None:
        self.gateway.stop()
        self._thread.join(PATIENCE_S)
        assert not self._thread.is_alive()
        self.log.close()


@pytest.fixture
def served(tmp_path: Path) -> Iterator[Served]:
    found = Served(tmp_path)
    yield found
    found.stop()


@contextmanager
def connected(address: str, keys: object = CLIENT) -> Iterator[ClientChannel]:
    channel = ClientChannel(address, keys, SERVER.public)  # type: ignore[arg-type]
    try:
        yield channel
    finally:
        channel.close()


def say(channel: ClientChannel, message: Message, *payloads: bytes) -> None:
    clock = SystemClock()
    deadline_s = clock.now_s() + PATIENCE_S
    while not channel.send(encode(message, *payloads)):
        assert clock.now_s() < deadline_s
        clock.sleep_until(clock.now_s() + 0.01)


def hear(channel: ClientChannel) -> Message:
    frames = channel.receive(PATIENCE_S)
    assert frames is not None
    return decode(frames)[0]


def hear_until(channel: ClientChannel, wanted: Message) -> list[Message]:
    heard = [hear(channel)]
    while heard[-1] != wanted:
        heard.append(hear(channel))
    return heard


def send_rows(channel: ClientChannel, rows: Array) -> None:
    payload = rows.tobytes()
    say(channel, Rows(STREAM, int(rows["step"][0]), len(rows), digest(payload)), payload)


def hello() -> Hello:
    return Hello(STREAM, SCHEMA.encoded, "l" * 32, epoch=1, first_kept=0, last=99, token=1)


def publish(store: WeightStore) -> Version:
    policy = PolicySpec(kind="mlp", action=box("action", [("dx", "m", -1.0, 1.0)]), settings={})
    tensors = {"weight": np.arange(50_000, dtype=np.float32)}
    return store.publish(tensors, policy, schema=SCHEMA.digest, updates=0, incarnation="one")


def test_rows_cross_the_wire_and_are_durable_when_acknowledged(served: Served) -> None:
    rng = np.random.default_rng(0)
    episodes = [episode_rows(SCHEMA, rng, length=9, first_step=10 * n, number=n) for n in range(20)]
    with connected(served.gateway.experience_address) as edge:
        say(edge, hello())
        assert [hear(edge), hear(edge)] == [Welcome(STREAM, -1), Permit(STREAM, UNLIMITED, 0)]
        for rows in episodes:
            send_rows(edge, rows)
        heard = hear_until(edge, Ack(STREAM, 199))
    assert [m.cursor for m in heard if isinstance(m, Ack)] == sorted(m.cursor for m in heard if isinstance(m, Ack))
    status = served.gateway.status()
    assert (status["rows"], status["online_rows"], status["cells"]) == (200, 180, ["cell-0"])
    served.gateway.stop()
    served._thread.join(PATIENCE_S)
    found = b"".join(chunk.data for chunk in served.log.read(STREAM, 0, 2**30))
    assert found == b"".join(rows.tobytes() for rows in episodes)


def test_what_was_received_before_a_stop_is_kept_and_the_next_life_goes_on(tmp_path: Path) -> None:
    rows = episode_rows(SCHEMA, np.random.default_rng(0), length=9)
    first = Served(tmp_path)
    with connected(first.gateway.experience_address) as edge:
        say(edge, hello())
        hear(edge)
        send_rows(edge, rows[:5])
        hear_until(edge, Ack(STREAM, 4))
    first.stop()
    second = Served(tmp_path)
    with connected(second.gateway.experience_address) as edge:
        send_rows(edge, rows[5:])
        refused = hear(edge)
        assert isinstance(refused, Refused)
        assert refused.code == "hello"
        say(edge, hello())
        assert hear(edge) == Welcome(STREAM, 4)
        send_rows(edge, rows[5:])
        hear_until(edge, Ack(STREAM, 9))
    second.stop()


def test_no_message_of_a_long_burst_is_lost(tmp_path: Path) -> None:
    patient = GatewayConfig(group_s=1.0, crowd_s=1.0, crowd=2)  # so that bursts end by their length, not by a commit
    served, count = Served(tmp_path, patient), 500
    streams = [f"cell-0/b{n}/run" for n in range(2)]
    rows = episode_rows(SCHEMA, np.random.default_rng(0), length=count)
    try:
        with connected(served.gateway.experience_address) as edge:
            for stream in streams:
                say(edge, msgspec.structs.replace(hello(), stream=stream))
                hear_until(edge, Permit(stream, UNLIMITED, 0))
            for n in range(count):
                payload = rows[n : n + 1].tobytes()
                for stream in streams:
                    say(edge, Rows(stream, n, 1, digest(payload)), payload)
            for stream in streams:
                while served.log.synced(stream) < count - 1:
                    assert not isinstance(hear(edge), Refused)
    finally:
        served.stop()


def test_a_permit_reaches_an_edge_that_says_nothing(served: Served) -> None:
    with connected(served.gateway.experience_address) as edge:
        say(edge, hello())
        hear(edge)
        hear(edge)
        served.gateway.set_permit(7)
        assert hear(edge) == Permit(STREAM, 6, 0)
        served.gateway.set_permit(None)
        assert hear(edge) == Permit(STREAM, UNLIMITED, 0)


def test_malformed_bytes_keep_the_connection(served: Served) -> None:
    with connected(served.gateway.experience_address) as edge:
        say(edge, hello())
        hear(edge)
        hear(edge)
        assert edge.send([b"\x01garbage", b"more"])
        refused = hear(edge)
        assert isinstance(refused, Refused)
        assert refused.code == "malformed"
        send_rows(edge, episode_rows(SCHEMA, np.random.default_rng(0), length=2))
        hear_until(edge, Ack(STREAM, 2))
    assert served.gateway.status()["refused"] == 1


def test_a_stranger_is_never_heard(served: Served) -> None:
    with connected(served.gateway.experience_address, STRANGER) as edge:
        assert edge.receive(0.2) is None
        assert not edge.send(encode(hello()))
    assert served.gateway.status()["rows"] == 0


def test_weights_are_offered_and_read_in_parts(served: Served) -> None:
    with connected(served.gateway.weights_address) as edge:
        say(edge, WeightsQuery("run", 0))
        assert hear(edge) == WeightsOffer(b"")
        version = publish(served.store)
        say(edge, WeightsQuery("run", 0))
        offer = hear(edge)
        assert isinstance(offer, WeightsOffer)
        assert msgspec.json.decode(offer.manifest, type=Version) == version
        data = b""
        while len(data) < version.size:
            say(edge, WeightsRange("run", 1, len(data), 60_000))
            frames = edge.receive(PATIENCE_S)
            assert frames is not None
            part, payloads = decode(frames)
            assert part == WeightsPart(1, len(data), version.size)
            data += bytes(payloads[0])
        assert data == (served.store.root / "00000001" / "weights.safetensors").read_bytes()
        say(edge, WeightsQuery("run", 1))
        assert hear(edge) == WeightsOffer(b"")
    assert served.gateway.status()["weights_bytes"] == version.size


@pytest.mark.parametrize(
    ("message", "code", "text"),
    [
        (WeightsQuery("other", 0), "run", "weights of run other, allowed run; ask its own gateway"),
        (WeightsRange("run", 9, 0, 10), "order", "version 9 is not in "),
        (WeightsRange("run", 1, 10**6, 10), "order", "version 1: 10 bytes at 1000000, allowed within its "),
        (hello(), "malformed", "Hello at the weights socket, allowed WeightsQuery and WeightsRange"),
    ],
    ids=["run", "version", "offset", "message"],
)
def test_a_wrong_question_about_weights_is_refused(served: Served, message: Message, code: str, text: str) -> None:
    publish(served.store)
    with connected(served.gateway.weights_address) as edge:
        say(edge, message)
        answer = hear(edge)
    assert isinstance(answer, Refused)
    assert (answer.code, answer.text[: len(text)]) == (code, text)


def test_a_part_is_never_longer_than_its_bound(tmp_path: Path) -> None:
    served = Served(tmp_path, GatewayConfig(part_bytes=1000))
    publish(served.store)
    with connected(served.gateway.weights_address) as edge:
        say(edge, WeightsRange("run", 1, 0, 10**6))
        frames = edge.receive(PATIENCE_S)
        assert frames is not None
        assert len(frames[1]) == 1000
    served.stop()


@pytest.mark.parametrize("which", ["port", "weights_port"])
def test_a_port_in_use_is_told_at_the_start(tmp_path: Path, served: Served, which: str) -> None:
    address = served.gateway.experience_address if which == "port" else served.gateway.weights_address
    port = int(address.rpartition(":")[2])
    config = GatewayConfig(port=port) if which == "port" else GatewayConfig(weights_port=port)
    with (
        Log(tmp_path / "other") as log,
        pytest.raises(ConfigError, match=f"^{re.escape(f'cannot listen on tcp://127.0.0.1:{port}')}"),
    ):
        Gateway(
            "run", log, tmp_path / "w", config, keys=SERVER, allowed=lambda: ALLOWED, tokens=lambda _: None,
            demonstrations=0, clock=SystemClock(),
        )  # fmt: skip
