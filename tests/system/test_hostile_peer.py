"""An enrolled peer that says whatever it likes, over real sockets: an honest one goes on, and nothing grows."""

import os
import random
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import pytest
from google.protobuf.descriptor import FieldDescriptor, MethodDescriptor
from google.protobuf.message import Message
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from cloud.authority import Authority
from cloud.fleet import FleetServer, ServeConfig
from cloud.gateway import Gateway, GatewayConfig
from cloud.testing import episode_rows, state_schema
from tests.cloud.fleet.test_service import channel
from tests.cloud.test_gateway import PATIENCE_S, hear, say
from user_rl import control_pb2 as pb
from user_rl.channels import ClientChannel
from user_rl.clock import SystemClock
from user_rl.fleet import FleetClient
from user_rl.log import Log
from user_rl.trust import Bundle, CurveKeys, new_curve_keys
from user_rl.wire import Ack, Hello, Rows, digest, encode

pytestmark = pytest.mark.slow

SERVER, GOOD, EVIL = new_curve_keys(), new_curve_keys(), new_curve_keys()
ALLOWED = {GOOD.public: "edge:good", EVIL.public: "edge:evil"}
SCHEMA = state_schema()
GROWTH = 64 * 2**20
PLAIN = {grpc.StatusCode.OK, grpc.StatusCode.PERMISSION_DENIED, grpc.StatusCode.INVALID_ARGUMENT,
         grpc.StatusCode.INTERNAL, grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.FAILED_PRECONDITION,
         grpc.StatusCode.RESOURCE_EXHAUSTED, grpc.StatusCode.UNIMPLEMENTED}  # fmt: skip


class Served:
    """A gateway in a thread, and who talks to it."""

    def __init__(self, path: Path) -> None:
        self.log = Log(path / "run/log")
        self.gateway = Gateway(
            "run", self.log, path / "run/weights", GatewayConfig(), keys=SERVER, allowed=lambda: ALLOWED,
            tokens=lambda _: 1, demonstrations=0, clock=SystemClock(),
        )  # fmt: skip
        self._thread = threading.Thread(target=self.gateway.run)
        self._thread.start()

    def connect(self, door: str, keys: CurveKeys) -> ClientChannel:
        return ClientChannel(getattr(self.gateway, f"{door}_address"), keys, SERVER.public)

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


def rss_bytes() -> int:
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def noise(rng: random.Random) -> list[bytes]:
    """Random frames, or a true message with a few bytes changed."""
    if rng.random() < 0.5:
        return [rng.randbytes(rng.choice([0, 1, 20, 500, 50_000])) for _ in range(rng.randint(1, 4))]
    payload = rng.randbytes(215)
    frames = encode(Rows("evil/b1/run", rng.randrange(9), 1, digest(payload)), payload)
    header = bytearray(frames[0])
    header[rng.randrange(len(header))] = rng.randrange(256)
    return [bytes(header), payload]


def test_whatever_an_enrolled_peer_sends_an_honest_ones_rows_arrive_and_memory_stays(served: Served) -> None:
    rng = random.Random(7)
    evil = {door: served.connect(door, EVIL) for door in ("experience", "weights", "labels")}
    good = served.connect("experience", GOOD)
    stream, before = "good/b1/run", 0
    try:
        say(good, Hello(stream, SCHEMA.encoded, "l" * 32, epoch=1, first_kept=0, last=999, token=1))
        for number in range(30):
            for _ in range(60):
                for channel_ in evil.values():
                    channel_.send(noise(rng))
                    while channel_.receive(0.0) is not None:
                        pass
            rows = episode_rows(SCHEMA, np.random.default_rng(number), length=9, first_step=10 * number, number=number)
            say(good, Rows(stream, 10 * number, 10, digest(rows.tobytes())), rows.tobytes())
            while hear(good) != Ack(stream, 10 * number + 9):
                pass
            before = rss_bytes() if number == 4 else before  # what is made once is there by now
        assert rss_bytes() - before < GROWTH
        status = served.gateway.status()
        assert status["rows"] == 300
        assert status["refused"] > 1000
        assert served.log.streams().keys() == {stream}
    finally:
        for channel_ in (good, *evil.values()):
            channel_.close()


class Asked:
    """A fleet and who calls it."""

    def __init__(self, path: Path) -> None:
        self.server = FleetServer(ServeConfig(home=path), clock=SystemClock())
        authority = Authority(path / "authority")
        address = self.server.address
        kinds = ("edge", "run", "admin")
        self.bundles: list[Bundle] = [authority.mint("arm", kind=k, fleet_address=address) for k in kinds]  # type: ignore[arg-type]
        self.bundles.append(authority.invite("other", kind="edge", addresses=[address]))
        self.channels = [channel(bundle) for bundle in self.bundles]

    def close(self) -> None:
        for each in self.channels:
            each.close()
        self.server.close()


@pytest.fixture(scope="module")
def asked(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Asked]:
    made = Asked(tmp_path_factory.mktemp("home"))
    yield made
    made.close()


METHODS = [m for m in pb.DESCRIPTOR.services_by_name["Fleet"].methods if not m.server_streaming]
TEXTS = st.one_of(st.sampled_from(["arm", "a" * 32, "demo", "gpu:n:0", ""]), st.text(max_size=40))
SCALARS: dict[int, Any] = {
    FieldDescriptor.CPPTYPE_STRING: TEXTS, FieldDescriptor.CPPTYPE_BOOL: st.booleans(),
    FieldDescriptor.CPPTYPE_UINT32: st.integers(0, 2**32 - 1),
    FieldDescriptor.CPPTYPE_UINT64: st.integers(0, 2**64 - 1),
    FieldDescriptor.CPPTYPE_INT32: st.integers(-(2**31), 2**31 - 1), FieldDescriptor.CPPTYPE_DOUBLE: st.floats(),
}  # fmt: skip


def filled(draw: Any, message: Message) -> Message:  # noqa: ANN401  # Hypothesis' own
    """`message` with random values in random ones of its fields, and in theirs."""
    for field in message.DESCRIPTOR.fields:
        if field.message_type is not None and field.message_type.GetOptions().map_entry:
            getattr(message, field.name)[draw(TEXTS)].experience = draw(TEXTS)
        elif not draw(st.booleans()):
            continue
        elif field.message_type is not None:
            inside = getattr(message, field.name)
            filled(draw, inside.add() if field.is_repeated else inside)
        elif field.cpp_type == FieldDescriptor.CPPTYPE_STRING and field.type == FieldDescriptor.TYPE_BYTES:
            setattr(message, field.name, draw(st.binary(max_size=80)))
        elif field.is_repeated:
            getattr(message, field.name).extend(draw(st.lists(SCALARS[field.cpp_type], max_size=3)))
        else:
            setattr(message, field.name, draw(SCALARS[field.cpp_type]))
    return message


@settings(max_examples=120, deadline=None, derandomize=True,
          suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])  # fmt: skip
@given(data=st.data(), who=st.integers(0, 3), method=st.sampled_from(METHODS), plain=st.booleans())
def test_any_fields_and_any_bytes_get_a_reply_or_a_plain_refusal(
    asked: Asked, data: st.DataObject, who: int, method: MethodDescriptor, plain: bool
) -> None:
    request = getattr(pb, method.input_type.name)()
    raw = data.draw(st.binary(max_size=300)) if plain else filled(data.draw, request).SerializeToString()
    call: grpc.UnaryUnaryMultiCallable[bytes, bytes] = asked.channels[who].unary_unary(f"/user_rl.Fleet/{method.name}")
    code = grpc.StatusCode.OK
    try:
        call(raw, timeout=30.0)
    except grpc.RpcError as error:
        code = error.code()
    assert code in PLAIN
    with FleetClient(asked.bundles[2], deadline_s=30.0) as admin:
        admin.list()
