"""What a fuzzer calls: bytes in, and nothing but an answer or one of our refusals may come out.

    codec    a message of the data plane      rows     schemas and coded rows
    gateway  an ingest and its log            labels   late values
    proto    the fleet's calls, every one

Each target is made once and then called with ever other bytes; it raises for what must never happen.
"""

import struct
import tempfile
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any, NoReturn

import grpc
import msgspec
import numpy as np
from google.protobuf.message import DecodeError

from cloud.authority import Authority
from cloud.fleet.leases import FleetConfig, Leases
from cloud.fleet.service import FleetService
from cloud.fleet.store import Store
from cloud.ingest import GatewayConfig, Ingest
from cloud.testing import episode_rows
from tests.fuzz.bytes_in import Choices
from user_rl import control_pb2 as pb
from user_rl.channels import Received
from user_rl.clock import FakeClock
from user_rl.columns import Column
from user_rl.columns.entry import unpack
from user_rl.errors import ConfigError, SpecError, StorageCorrupt, WireError
from user_rl.joining import make_request, new_tls_key
from user_rl.log import Log
from user_rl.log.coded import Coded, packed
from user_rl.rows import make_schema, schema_from_bytes
from user_rl.specs import Array, Image, box
from user_rl.trust import Bundle, Kind, new_curve_keys
from user_rl.wire import Ack, Hello, Permit, Refused, Rows, Welcome, decode, digest, encode

Target = Callable[[bytes], None]
DAMAGE = (msgspec.MsgspecError, ValueError, struct.error, IndexError)  # of bytes that a log's hashes would not let by
STATE = box("observation.state", [("s0", "", -np.inf, np.inf)])
PICTURE = Image(name="observation.images.wrist", height=32, width=32)
SEEING = make_schema({STATE.name: STATE, PICTURE.name: PICTURE}, box("action", [("a0", "", -1.0, 1.0)]))
STREAM = "cell/b1/run"
HELLO = Hello(STREAM, SEEING.encoded, "l" * 32, epoch=1, first_kept=0, last=9, token=1)
ANSWERS = (Welcome, Ack, Permit, Refused)
LARGEST_LOG_ROWS = 2000
COUNT = 8  # rows in a payload


def _records() -> Array:
    records = episode_rows(SEEING, np.random.default_rng(0), length=COUNT - 1)
    records[PICTURE.name] = 7  # can be coded
    return records


def _stored() -> list[bytes]:
    """The records in every coding, each shorter than they are."""
    found = [packed(_records(), {PICTURE.name: name}) for name in ("lz4", "zstd", "jpeg", "png")]
    return [chunk for chunk in found if chunk is not None]


def codec() -> Target:
    """What is decoded can be encoded, and is then the same."""

    def target(data: bytes) -> None:
        choices = Choices(data)
        frames = [choices.changed(bytes(frame)) for frame in encode(HELLO)] if choices.number() % 2 else []
        frames += [choices.piece() for _ in range(choices.number() % 4)]
        with suppress(WireError):
            message, payloads = decode(frames)
            again, same = decode([bytes(frame) for frame in encode(message, *payloads)])
            assert (again, [bytes(p) for p in same]) == (message, [bytes(p) for p in payloads])

    return target


def rows() -> Target:
    """Schemas from a wire, and chunks of coded rows as they would lie in a log."""
    records, stored = _records(), _stored()

    def target(data: bytes) -> None:
        choices = Choices(data)
        if choices.number() % 2:
            with suppress(WireError, SpecError, ValueError):
                schema_from_bytes(choices.changed(SEEING.encoded)).row_bytes  # noqa: B018  # it may refuse
            return
        chunk = choices.changed(choices.one_of(stored))
        with suppress(StorageCorrupt, ConfigError, SpecError, WireError, *DAMAGE):
            out = SEEING.new(len(records))
            Coded(memoryview(chunk), len(records), SEEING.dtype).fetch(slice(None), out)

    return target


def gateway() -> Target:
    """An ingest with a real log: whatever comes is answered or dropped, and an honest cell goes on."""
    folder, clock = Path(tempfile.mkdtemp(prefix="user-rl-fuzz-")), FakeClock(0.0)
    payloads = [_records().tobytes(), *(_stored() if "coded" in Rows.__struct_fields__ else [])]
    made: list[tuple[Log, Ingest]] = []

    def fresh() -> Ingest:
        log_ = Log(Path(tempfile.mkdtemp(dir=folder)))
        ingest = Ingest("run", log_, GatewayConfig(), tokens=lambda _: 1, demonstrations=0, clock=clock)
        made.append((log_, ingest))
        return ingest

    def said(ingest: Ingest, user: str, frames: list[bytes]) -> list[Any]:
        answers = ingest.receive(Received(user.encode(), user, [memoryview(frame) for frame in frames]))
        assert all(isinstance(answer, ANSWERS) for _, answer in answers)
        return [answer for _, answer in answers]

    def target(data: bytes) -> None:
        ingest = made[-1][1] if made and made[-1][1].rows < LARGEST_LOG_ROWS else fresh()
        if len(made) > 1:
            made.pop(0)[0].close()
        choices = Choices(data)
        while choices:
            said(ingest, "edge:cell", _frames(choices, payloads))
            clock.advance(1.0)
        ingest.commit(at_once=True)
        mine = msgspec.structs.replace(HELLO, stream="good/b1/run")
        good = said(ingest, "edge:good", [bytes(frame) for frame in encode(mine)])
        assert any(isinstance(answer, Welcome | Refused) for answer in good)

    return target


def _frames(choices: Choices, payloads: list[bytes]) -> list[bytes]:
    """A message that is right but for a few bytes, or that says the truth about bytes that are wrong."""
    match choices.number() % 4:
        case 0:
            return [choices.changed(bytes(frame)) for frame in encode(HELLO)]
        case 1:
            return [bytes(frame) for frame in encode(HELLO)]
        case 2:
            return [choices.piece() for _ in range(choices.number() % 4)]
        case _:
            which = choices.number() % len(payloads)
            sent = choices.changed(payloads[which])
            count = choices.one_of((COUNT, 1, 2, COUNT + 1))
            coded = {"coded": True} if which else {}  # where rows may travel coded
            message = Rows(STREAM, choices.number(), count, digest(sent), **coded)
            return [bytes(frame) for frame in encode(message, sent)]


def labels() -> Target:
    """Late values from a wire."""
    columns = [
        Column(name="reward", writer="w", version=1), Column(name="note", writer="w", version=1, dtype="text"),
        Column(name="where", writer="w", version=1, shape=(3,)),
    ]  # fmt: skip

    def target(data: bytes) -> None:
        choices = Choices(data)
        column = choices.one_of(columns)
        with suppress(WireError):
            ids, values = unpack(column, memoryview(choices.rest()))
            assert len(ids) == len(values)

    return target


class Aborted(Exception):  # gRPC's own way out of a call
    """What a call was answered with, when not with a reply."""


class Call:
    """As much of a gRPC call's context as the service asks for."""

    def __init__(self, bundle: Bundle) -> None:
        self._auth = {
            "x509_common_name": [bundle.identity.encode()], "x509_pem_cert": [bundle.cert_pem.encode()],
        }  # fmt: skip

    def auth_context(self) -> dict[str, list[bytes]]:
        return self._auth

    def abort(self, code: grpc.StatusCode, details: str) -> NoReturn:
        assert isinstance(details, str)
        raise Aborted(code)

    def is_active(self) -> bool:
        return False

    def add_callback(self, _: Callable[[], None]) -> bool:
        return False


def proto() -> Target:
    """Every call of the fleet, by every kind of caller."""
    home, clock = Path(tempfile.mkdtemp(prefix="user-rl-fuzz-")), FakeClock(0.0)
    authority = Authority(home / "authority")
    service = FleetService(Leases(Store(home / "fleet.sqlite"), clock, FleetConfig()), authority, clock=clock)
    kinds: tuple[Kind, ...] = ("edge", "run", "admin", "labeller")
    callers = [authority.mint("arm", kind=kind, fleet_address="") for kind in kinds]
    callers.append(authority.invite("other", kind="edge", addresses=[""]))
    methods = [method for method in pb.DESCRIPTOR.services_by_name["Fleet"].methods if not method.server_streaming]
    seeds = {name: request.SerializeToString() for name, request in _requests(callers[-1]).items()}

    def target(data: bytes) -> None:
        choices = Choices(data)
        method, caller = choices.one_of(methods), choices.one_of(callers)
        raw = choices.rest() if choices.number() % 2 else choices.changed(seeds.get(method.name, b""))
        try:
            request = getattr(pb, method.input_type.name).FromString(raw)
        except DecodeError:  # gRPC answers it with INTERNAL
            return
        clock.advance(1.0)
        with suppress(Aborted):
            getattr(service, method.name)(request, Call(caller))

    return target


def _requests(invitation: Bundle) -> dict[str, Any]:
    card = pb.Card(cell="arm", boot="a" * 32, model="m", rate_hz=10.0, action_dim=1, dof=7, cameras=["c"])
    device = pb.Accelerator(id="gpu:n:0", node="n", model="h", memory_bytes=1)
    ask = pb.RobotsAsk(count=1, cells=["arm"])
    status = pb.Status(state="idle", token=1, parts=[pb.Part(name="robot", health="ok")])
    return {
        "Register": pb.RegisterRequest(card=card),
        "Heartbeat": pb.HeartbeatRequest(cell="arm", boot="a" * 32, status=status),
        "OpenRun": pb.OpenRunRequest(run="arm", doors=pb.Doors(experience="tcp://x:1")),
        "RequestLease": pb.RequestLeaseRequest(run="arm", robots=ask, learner=pb.AcceleratorsAsk(gpus=1)),
        "ReleaseLease": pb.ReleaseLeaseRequest(run="arm", ids=["arm"]),
        "ReportAccelerators": pb.ReportAcceleratorsRequest(accelerators=[device]),
        "QuarantineResource": pb.QuarantineResourceRequest(id="arm", reason="r"),
        "AdmitResource": pb.AdmitResourceRequest(id="arm"),
        "Join": make_request(invitation.identity, new_tls_key(), new_curve_keys().public),
        "Renew": make_request("edge:arm", new_tls_key(), new_curve_keys().public),
        "Confirm": pb.ConfirmRequest(cell="arm", boot="a" * 32, id=1),
    }


TARGETS: dict[str, Callable[[], Target]] = {
    "codec": codec, "rows": rows, "gateway": gateway, "labels": labels, "proto": proto,
}  # fmt: skip
