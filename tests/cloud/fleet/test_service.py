"""The fleet over real gRPC and TLS: who may say what, and what becomes of what nobody may say."""

import math
import re
import time
from collections.abc import Callable
from dataclasses import replace

import grpc
import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from cloud.authority import Authority
from cloud.fleet import FleetServer
from user_rl import control_pb2 as pb
from user_rl.ask import AcceleratorsAsk, Ask, RobotsAsk
from user_rl.clock import FakeClock
from user_rl.errors import LeaseLost, Unauthorized, Unreachable, UserRlError, WireError
from user_rl.fleet import (
    AcceleratorCard,
    Card,
    Doors,
    FleetClient,
    Held,
    InferencePlace,
    LeaseReply,
    RunDoors,
    Status,
)
from user_rl.trust import Bundle, Kind

Enrol = Callable[[str, Kind], FleetClient]
BOOT = "0123456789abcdef" * 2
IDLE = Status(state="idle")
CARD = Card(
    cell="arm-1", boot=BOOT, model="panda", rate_hz=10.0, schema_digest="d" * 32, action_dim=4,
    cameras=("wrist", "side"), on_silence="stops",
)  # fmt: skip
DOORS = RunDoors(
    doors=Doors(experience="tcp://1", weights="tcp://2", live="tcp://3"),
    inference=(InferencePlace(name="cloud", address="tcp://4"),),
)
DEVICE = AcceleratorCard(id="gpu:n:0", node="n", model="h100", memory_bytes=80 * 10**9, utilisation=0.25)


def test_a_cell_is_registered_leased_and_given_back(enrol: Enrol, clock: FakeClock) -> None:
    arm, run = enrol("arm-1", "edge"), enrol("demo", "run")
    before_s = time.time()
    registered = arm.register(CARD)
    assert registered.sequence == 1
    assert before_s <= registered.clock_s <= time.time()
    assert not arm.heartbeat("arm-1", BOOT, IDLE).assignment.wanted
    run.open_run("demo", DOORS)
    assert run.request_lease("demo", Ask(robots=RobotsAsk(model="panda", cells=("arm-1",)))) == LeaseReply(
        granted={"arm-1": 1}
    )
    told = arm.heartbeat("arm-1", BOOT, IDLE).assignment
    assert (told.run, told.token, told.wanted) == ("demo", 1, True)
    assert (told.experience_address, told.weights_address) == ("tcp://1", "tcp://2")
    assert (told.live_address, told.inference) == ("tcp://3", DOORS.inference)
    assert (told.command_ttl_s, told.autonomy_s) == (5.0, 900.0)
    assert run.renew("demo").cells == {"arm-1": 1}
    run.release("demo", ["arm-1"])
    assert run.renew("demo").cells == {}
    arm.heartbeat("arm-1", BOOT, Status(state="stopped", reason="why", episode=1, version=2, rows=3, spool_bytes=4,
                                        token=1, released=1, disk_free_bytes=0))  # fmt: skip
    clock.advance(1.5)
    [seen] = run.list()
    assert seen.card == CARD
    assert (seen.sequence, seen.lease, seen.run, seen.token) == (1, "free", "demo", 1)
    assert (seen.alive, seen.silent_s) == (True, 1.5)
    assert (seen.status.state, seen.status.reason) == ("stopped", "why")
    assert (seen.status.episode, seen.status.version, seen.status.rows, seen.status.spool_bytes) == (1, 2, 3, 4)
    assert seen.status.disk_free_bytes == 0


def test_who_waits_learns_its_position_and_why(enrol: Enrol) -> None:
    run = enrol("demo", "run")
    reply = run.request_lease("demo", Ask(robots=RobotsAsk(cells=("arm-9",))))
    reason = "0 of 1 cell is free: arm-9 is not registered"
    assert reply == LeaseReply(granted={}, position=1, reason=reason)


def test_a_lease_that_is_not_renewed_ends(enrol: Enrol, clock: FakeClock) -> None:
    arm, run = enrol("arm-1", "edge"), enrol("demo", "run")
    arm.register(CARD)
    arm.heartbeat("arm-1", BOOT, IDLE)
    run.request_lease("demo", Ask())
    clock.advance(61.0)
    assert run.renew("demo").cells == {}
    assert not arm.heartbeat("arm-1", BOOT, IDLE).assignment.wanted


@pytest.mark.parametrize(
    ("kind", "call", "wanted"),
    [
        ("edge", lambda c: c.register(replace(CARD, cell="arm-2")), "edge:arm-2"),
        ("edge", lambda c: c.heartbeat("arm-2", BOOT, IDLE), "edge:arm-2"),
        ("edge", lambda c: c.request_lease("arm-1", Ask()), "run:arm-1"),
        ("run", lambda c: c.register(CARD), "edge:arm-1"),
        ("run", lambda c: c.heartbeat("arm-1", BOOT, IDLE), "edge:arm-1"),
        ("run", lambda c: c.open_run("other", RunDoors()), "run:other"),
        ("run", lambda c: c.request_lease("other", Ask()), "run:other"),
        ("run", lambda c: c.renew("other"), "run:other"),
        ("run", lambda c: c.release("other"), "run:other"),
        ("admin", lambda c: c.register(CARD), "edge:arm-1"),
        ("server", lambda c: c.renew("arm-1"), None),
    ],
)
def test_nobody_speaks_for_another(
    enrol: Enrol, kind: Kind, call: Callable[[FleetClient], object], wanted: str | None
) -> None:
    client = enrol("arm-1", kind)
    caller = f"{kind}:arm-1"
    message = f"{caller} may not speak for {wanted or 'run:arm-1'}, allowed {caller}; use that name's bundle"
    with pytest.raises(Unauthorized, match=re.escape(message)):
        call(client)


@pytest.mark.parametrize(
    ("kind", "call", "allowed"),
    [
        ("edge", lambda c: c.report_accelerators([DEVICE]), "run and admin"),
        ("labeller", lambda c: c.report_accelerators([DEVICE]), "run and admin"),
        ("edge", lambda c: c.quarantine("arm-1", "x"), "admin"),
        ("run", lambda c: c.quarantine("arm-1", "x"), "admin"),
        ("run", lambda c: c.admit("arm-1"), "admin"),
        ("edge", lambda c: c.admit("arm-1"), "admin"),
    ],
)
def test_a_quarantine_is_a_persons_and_accelerators_are_a_runs_to_report(
    enrol: Enrol, kind: Kind, call: Callable[[FleetClient], object], allowed: str
) -> None:
    message = f"{kind}:arm-1 may not do that, allowed {allowed}; use such a bundle"
    with pytest.raises(Unauthorized, match=re.escape(message)):
        call(enrol("arm-1", kind))


def test_robots_and_accelerators_are_leased_together_listed_and_given_back(enrol: Enrol) -> None:
    arm, run = enrol("arm-1", "edge"), enrol("demo", "run")
    arm.register(CARD)
    arm.heartbeat("arm-1", BOOT, IDLE)
    assert run.report_accelerators([DEVICE, replace(DEVICE, id="GPU-1234")]) == 30.0
    reply = run.request_lease("demo", Ask(learner=AcceleratorsAsk(gpus=1)))
    assert reply == LeaseReply(granted={"arm-1": 1}, accelerators={"learner": ("GPU-1234",)})
    assert run.renew("demo") == Held(cells={"arm-1": 1}, accelerators={"learner": ("GPU-1234",)})
    listed = run.list()
    assert [(r.id, r.kind, r.state, r.run) for r in listed] == [
        ("arm-1", "cell", "leased", "demo"), ("GPU-1234", "accelerator", "leased", "demo"),
        ("gpu:n:0", "accelerator", "free", ""),
    ]  # fmt: skip
    assert listed[2].accelerator == DEVICE
    run.release("demo", ["GPU-1234"])
    assert run.renew("demo") == Held(cells={"arm-1": 1})


def test_a_preempted_cell_and_its_run_are_told(enrol: Enrol) -> None:
    arm, admin = enrol("arm-1", "edge"), enrol("me", "admin")
    arm.register(CARD)
    arm.heartbeat("arm-1", BOOT, IDLE)
    admin.request_lease("low", Ask(priority=-1, preemptible=True))
    admin.request_lease("high", Ask(priority=1))
    told = arm.heartbeat("arm-1", BOOT, IDLE).assignment
    assert (told.run, told.wanted, told.finish_episode) == ("low", True, True)
    assert admin.renew("low").wanted_back == ("arm-1",)


def test_a_person_takes_a_cell_out_of_use_and_brings_it_back(enrol: Enrol) -> None:
    arm, admin = enrol("arm-1", "edge"), enrol("me", "admin")
    arm.register(CARD)
    arm.heartbeat("arm-1", BOOT, IDLE)
    admin.quarantine("arm-1", "the gripper is loose")
    [seen] = admin.list()
    assert (seen.state, seen.reason) == ("quarantined", "taken out of use by admin:me: the gripper is loose")
    admin.admit("arm-1")
    assert [r.state for r in admin.list()] == ["free"]
    with pytest.raises(WireError, match="no resource has the id 'arm-2', known are arm-1; give one of these"):
        admin.quarantine("arm-2", "")


@pytest.mark.parametrize("id", ["", "a b", "x" * 129, "-x"])
def test_an_accelerator_without_a_proper_id_is_refused(enrol: Enrol, id: str) -> None:
    run = enrol("demo", "run")
    with pytest.raises(WireError, match="give it another id"):
        run.report_accelerators([replace(DEVICE, id=id)])
    assert run.list() == []


def test_an_admin_speaks_for_every_run(enrol: Enrol) -> None:
    admin = enrol("me", "admin")
    admin.open_run("demo", DOORS)
    admin.release("demo")
    assert admin.renew("demo").cells == {}
    assert admin.list() == []


def test_a_revoked_name_is_refused_on_its_open_connection(enrol: Enrol, authority: Authority) -> None:
    run = enrol("demo", "run")
    run.list()
    authority.revoke("demo", kind="run")
    message = "run:demo is not enrolled with this certificate; enrol it and use its newest bundle"
    with pytest.raises(Unauthorized, match=message):
        run.list()


def test_an_older_bundle_of_a_name_is_refused(enrol: Enrol) -> None:
    old, new = enrol("arm-1", "edge"), enrol("arm-1", "edge")
    new.register(CARD)
    with pytest.raises(Unauthorized, match="edge:arm-1 is not enrolled with this certificate"):
        old.register(CARD)


def test_an_older_boot_must_stop(enrol: Enrol) -> None:
    arm = enrol("arm-1", "edge")
    arm.register(CARD)
    arm.register(replace(CARD, boot="f" * 32))
    with pytest.raises(LeaseLost, match="boot 01234567 of arm-1 is superseded by boot ffffffff"):
        arm.heartbeat("arm-1", BOOT, IDLE)


def test_a_cell_that_the_fleet_forgot_must_register_again(enrol: Enrol) -> None:
    with pytest.raises(Unreachable, match="the fleet does not know the cell arm-1; register it again"):
        enrol("arm-1", "edge").heartbeat("arm-1", BOOT, IDLE)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"boot": "x"}, "the boot 'x' of arm-1, allowed 32 hex digits; make a new one"),
        ({"boot": BOOT + "\n"}, "allowed 32 hex digits"),
        ({"rate_hz": math.nan}, "arm-1 runs at nan Hz, allowed up to 100000; set its rate_hz"),
        ({"rate_hz": math.inf}, "arm-1 runs at inf Hz"),
        ({"rate_hz": 0.0}, "arm-1 runs at 0.0 Hz"),
    ],
)
def test_a_card_that_makes_no_sense_is_refused(enrol: Enrol, changes: dict[str, object], message: str) -> None:
    arm = enrol("arm-1", "edge")
    with pytest.raises(WireError, match=re.escape(message)):
        arm.register(replace(CARD, **changes))  # type: ignore[arg-type]
    assert arm.list() == []


@pytest.mark.parametrize("run", ["", "a/b", "a" * 49])
def test_a_run_that_could_not_name_rows_is_refused(enrol: Enrol, run: str) -> None:
    with pytest.raises(WireError, match=re.escape(f"the run {run!r}, allowed ^[A-Za-z0-9]")):
        enrol("me", "admin").request_lease(run, Ask())


def test_a_request_for_nothing_is_refused(enrol: Enrol, fleet: FleetServer, authority: Authority) -> None:
    bundle = authority.mint("demo", kind="run", fleet_address=fleet.address)
    with channel(bundle) as raw, pytest.raises(grpc.RpcError) as refused:
        raw_call(raw, "RequestLease", pb.RequestLeaseRequest(run="demo").SerializeToString())
    assert refused.value.code() == grpc.StatusCode.INVALID_ARGUMENT
    assert "a request for 0 cells, allowed 1 to" in str(refused.value.details())


def test_an_oversized_call_is_refused_and_the_next_is_answered(enrol: Enrol) -> None:
    arm = enrol("arm-1", "edge")
    with pytest.raises(UserRlError, match="message larger than max"):
        arm.register(replace(CARD, schema_digest="x" * 2**17))
    assert arm.list() == []


METHODS = ["Register", "Heartbeat", "RequestLease", "ReleaseLease", "QuarantineResource", "AdmitResource"]


@pytest.mark.slow
@settings(max_examples=50, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.binary(max_size=300), method=st.sampled_from(METHODS))
def test_random_bytes_get_an_error_or_a_plain_refusal(
    fleet: FleetServer, authority: Authority, data: bytes, method: str
) -> None:
    bundle = authority.mint("demo", kind="run", fleet_address=fleet.address)
    with channel(bundle) as raw, pytest.raises(grpc.RpcError) as refused:
        raw_call(raw, method, data)
    allowed = {grpc.StatusCode.INTERNAL, grpc.StatusCode.INVALID_ARGUMENT, grpc.StatusCode.PERMISSION_DENIED}
    assert refused.value.code() in allowed
    with FleetClient(bundle, deadline_s=30.0) as client:
        assert client.list() == []


def channel(bundle: Bundle, **changes: object) -> grpc.Channel:
    used = msgspec.structs.replace(bundle, **changes)
    mine = [used.key_pem.encode(), used.cert_pem.encode()] if used.key_pem else [None, None]
    credentials = grpc.ssl_channel_credentials(used.ca_pem.encode(), mine[0], mine[1])
    options = [("grpc.ssl_target_name_override", used.server_name), ("grpc.enable_http_proxy", 0)]
    return grpc.secure_channel(used.fleet_address, credentials, options=options)


def raw_call(to: grpc.Channel, method: str, data: bytes) -> None:
    call: grpc.UnaryUnaryMultiCallable[bytes, bytes] = to.unary_unary(f"/user_rl.Fleet/{method}")
    call(data, timeout=30.0)


@pytest.mark.slow
def test_a_client_without_a_certificate_is_not_heard(fleet: FleetServer, authority: Authority) -> None:
    bundle = authority.mint("demo", kind="run", fleet_address=fleet.address)
    with channel(bundle, key_pem="") as raw, pytest.raises(grpc.RpcError) as refused:
        raw_call(raw, "ListResources", b"")
    assert refused.value.code() == grpc.StatusCode.UNAVAILABLE


@pytest.mark.slow
def test_a_client_of_another_authority_is_not_heard_and_hears_nothing(fleet: FleetServer, authority: Authority) -> None:
    ours = authority.mint("demo", kind="run", fleet_address=fleet.address)
    other = Authority(authority.path.parent / "other").mint("demo", kind="run", fleet_address=fleet.address)
    for ca in (ours.ca_pem, other.ca_pem):
        mixed = msgspec.structs.replace(other, ca_pem=ca)
        with FleetClient(mixed) as client, pytest.raises(Unreachable):
            client.list()


@pytest.mark.slow
def test_a_server_that_cannot_prove_its_name_is_not_told_anything(fleet: FleetServer, authority: Authority) -> None:
    bundle = authority.mint("demo", kind="run", fleet_address=fleet.address)
    wrong = msgspec.structs.replace(bundle, server_name="another")
    with FleetClient(wrong) as client, pytest.raises(Unreachable, match=f"no answer from the fleet at {fleet.address}"):
        client.list()
    moved = bundle.at(fleet.address.replace("127.0.0.1", "localhost"))
    with FleetClient(moved, deadline_s=30.0) as client:
        assert client.list() == []


def test_plain_tcp_gets_no_answer(fleet: FleetServer) -> None:
    options = [("grpc.enable_http_proxy", 0)]
    with grpc.insecure_channel(fleet.address, options=options) as plain, pytest.raises(grpc.RpcError) as refused:
        raw_call(plain, "ListResources", b"")
    assert refused.value.code() == grpc.StatusCode.UNAVAILABLE


def test_idleness_counts_from_the_last_call_and_not_while_a_cell_is_held(
    fleet: FleetServer, enrol: Enrol, authority: Authority, clock: FakeClock
) -> None:
    arm, run = enrol("arm-1", "edge"), enrol("demo", "run")
    clock.advance(50.0)
    assert fleet.service.idle_s() == 50.0
    arm.register(CARD)
    assert fleet.service.idle_s() == 0.0
    arm.heartbeat("arm-1", BOOT, IDLE)
    run.request_lease("demo", Ask())
    clock.advance(59.0)
    assert fleet.service.idle_s() == 0.0
    clock.advance(1.0)
    assert fleet.service.idle_s() == 60.0
    authority.revoke("demo", kind="run")
    with pytest.raises(Unauthorized):
        run.list()
    assert fleet.service.idle_s() == 60.0
