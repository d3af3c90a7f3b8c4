"""Who may make which call: every call of control.proto by every kind of caller, over real TLS."""

from collections.abc import Callable
from typing import Any

import grpc
import pytest

from cloud.authority import Authority
from cloud.fleet import FleetServer
from user_rl import control_pb2 as pb
from user_rl.fleet_connection import OPTIONS
from user_rl.joining import make_request, new_tls_key
from user_rl.trust import Bundle, Kind, new_curve_keys

Make = Callable[[Bundle], Any]
NAME, BOOT = "arm", "a" * 32
KINDS: tuple[Kind, ...] = ("edge", "run", "admin", "labeller", "inference", "join")
ENROLLED = {"edge", "run", "admin", "labeller", "inference"}
CARD = pb.Card(cell=NAME, boot=BOOT, model="m", rate_hz=10.0, schema_digest="d", action_dim=1, on_silence="stops")


def own_keys(bundle: Bundle) -> pb.JoinRequest:
    return make_request(bundle.identity, bundle.key_pem, bundle.curve.public)


def new_keys(bundle: Bundle) -> pb.JoinRequest:
    return make_request(bundle.identity, new_tls_key(), new_curve_keys().public)


ONE = pb.RobotsAsk(count=1)
MESSAGES: dict[str, tuple[Make, set[str]]] = {  # what is asked, and who may
    "Register": (lambda b: pb.RegisterRequest(card=CARD), {"edge"}),
    "Heartbeat": (lambda b: pb.HeartbeatRequest(cell=NAME, boot=BOOT), {"edge"}),
    "OpenRun": (lambda b: pb.OpenRunRequest(run=NAME), {"run", "admin"}),
    "RequestLease": (lambda b: pb.RequestLeaseRequest(run=NAME, robots=ONE), {"run", "admin"}),
    "RenewLease": (lambda b: pb.RenewLeaseRequest(run=NAME), {"run", "admin"}),
    "ReleaseLease": (lambda b: pb.ReleaseLeaseRequest(run=NAME), {"run", "admin"}),
    "ListResources": (lambda b: pb.ListResourcesRequest(), ENROLLED),
    "ReportAccelerators": (lambda b: pb.ReportAcceleratorsRequest(), {"run", "admin"}),
    "QuarantineResource": (lambda b: pb.QuarantineResourceRequest(id=NAME), {"admin"}),
    "AdmitResource": (lambda b: pb.AdmitResourceRequest(id=NAME), {"admin"}),
    "Watch": (lambda b: pb.WatchRequest(cell=NAME, boot=BOOT), {"edge"}),
    "Confirm": (lambda b: pb.ConfirmRequest(cell=NAME, boot=BOOT, id=1), {"edge"}),
    "StopRobots": (lambda b: pb.StopRobotsRequest(reason="test"), {"run", "admin"}),
    "Join": (new_keys, {"join"}),
    "Renew": (own_keys, ENROLLED),
}
SERVICE = pb.DESCRIPTOR.services_by_name["Fleet"]


def test_the_table_has_every_call() -> None:
    assert set(MESSAGES) == {method.name for method in SERVICE.methods}


def bundle_of(authority: Authority, kind: Kind, address: str) -> Bundle:
    if kind == "join":
        return authority.invite(NAME, kind="edge", addresses=[address])
    return authority.mint(NAME, kind=kind, fleet_address=address)


def code_of(bundle: Bundle, name: str, request: Any) -> grpc.StatusCode:  # noqa: ANN401  # any of the messages
    """How the call ended; a stream that has begun to say something counts as well."""
    method = SERVICE.methods_by_name[name]
    credentials = grpc.ssl_channel_credentials(
        bundle.ca_pem.encode(), bundle.key_pem.encode(), bundle.cert_pem.encode()
    )
    options = (*OPTIONS, ("grpc.ssl_target_name_override", bundle.server_name))
    with grpc.secure_channel(bundle.fleet_address, credentials, options=options) as channel:
        try:
            path, data = f"/user_rl.Fleet/{name}", request.SerializeToString()
            if method.server_streaming:
                next(iter(channel.unary_stream(path)(data, timeout=5.0)), None)
            else:
                channel.unary_unary(path)(data, timeout=30.0)
        except grpc.RpcError as error:
            code: grpc.StatusCode = error.code()
            return code
    return grpc.StatusCode.OK


@pytest.mark.parametrize("kind", KINDS)
def test_each_call_is_for_those_kinds_alone(fleet: FleetServer, authority: Authority, kind: Kind) -> None:
    bundle = bundle_of(authority, kind, fleet.address)
    codes = {name: code_of(bundle, name, make(bundle)) for name, (make, _) in MESSAGES.items()}
    built = {name: code for name, code in codes.items() if code is not grpc.StatusCode.UNIMPLEMENTED}
    let_in = {name for name, code in built.items() if code is not grpc.StatusCode.PERMISSION_DENIED}
    assert let_in == {name for name in built if kind in MESSAGES[name][1]}
    plain = {"Register", "Heartbeat", "ListResources", "Join", "Renew"} & let_in  # nothing else is in their way
    assert {codes[name] for name in plain} <= {grpc.StatusCode.OK}


def test_a_revoked_name_may_nothing(fleet: FleetServer, authority: Authority) -> None:
    for name, (make, allowed) in MESSAGES.items():
        kind: Kind = next(kind for kind in KINDS if kind in allowed)
        bundle = bundle_of(authority, kind, fleet.address)
        authority.revoke(NAME, kind="edge" if kind == "join" else kind)
        code = code_of(bundle, name, make(bundle))
        assert code in (grpc.StatusCode.PERMISSION_DENIED, grpc.StatusCode.UNIMPLEMENTED), name
