"""Joining, renewing, expiring and being revoked over real TLS, and what becomes of leases and of floods."""

import time
from collections.abc import Callable
from pathlib import Path

import grpc
import pytest

from cloud.audit import files_of, lines_of
from cloud.authority import Authority
from cloud.fleet import FleetServer, ServeConfig
from cloud.fleet.callers import CallLimits, read_seen
from cloud.fleet.server import SEEN
from edge.join import join
from tests.cloud.fleet.bench import card
from tests.cloud.fleet.test_service import channel, raw_call
from user_rl.ask import Ask
from user_rl.clock import FakeClock
from user_rl.errors import ConfigError, Unauthorized, Unreachable
from user_rl.files import write_atomically
from user_rl.fleet import FleetClient, Status
from user_rl.renewal import Renewal, keep_in
from user_rl.trust import Kind, load_bundle, save_bundle

Enrol = Callable[[str, Kind], FleetClient]
IDLE = Status(state="idle")
DAY_S = 86400.0
BOOT = "a" * 32


def whats(home: Path) -> list[tuple[str, str, str]]:
    lines = [line for path in files_of(home) for line, _ in lines_of(path) if line is not None]
    return [(line.who, line.what, line.about) for line in lines]


def test_a_robot_joins_with_one_file_and_its_bundle_is_taken(
    fleet: FleetServer, authority: Authority, tmp_path: Path
) -> None:
    invitation = authority.invite("arm", kind="edge", addresses=["127.0.0.1:1", fleet.address])
    with pytest.raises(Unreachable, match=r"no answer from the fleet at 127\.0\.0\.1:1"):
        join(invitation, tmp_path / "arm.json")  # the first address is nobody's
    bundle = join(invitation.at(fleet.address), tmp_path / "arm.json")
    assert load_bundle(tmp_path / "arm.json") == bundle
    assert (tmp_path / "arm.json").stat().st_mode & 0o777 == 0o600
    assert list(tmp_path.glob(".arm*")) == []
    assert bundle.identity == "edge:arm"
    assert bundle.key_pem != invitation.key_pem
    with FleetClient(bundle, deadline_s=30.0) as arm:
        assert arm.register(card("arm")).sequence == 1
    second = tmp_path / "other.json"
    with pytest.raises(Unauthorized, match="its join file was used already, by other keys"):
        join(invitation.at(fleet.address), second)
    assert not second.exists()


def test_a_join_that_died_before_its_answer_came_goes_on_with_the_same_keys(
    fleet: FleetServer, authority: Authority, tmp_path: Path
) -> None:
    invitation = authority.invite("arm", kind="edge", addresses=[fleet.address])
    out = tmp_path / "arm.json"
    with pytest.raises(Unreachable):
        join(invitation.at("127.0.0.1:1"), out)
    [kept] = tmp_path.glob(".arm*")
    assert kept.stat().st_mode & 0o777 == 0o600
    data = kept.read_bytes()
    join(invitation, out)  # the fleet signs; say that this answer was lost
    out.unlink()
    write_atomically(kept, data, mode=0o600)
    again = join(invitation, out)
    with FleetClient(again, deadline_s=30.0) as arm:
        assert arm.list() == []


def test_a_join_file_that_is_over_or_no_join_file_is_said_before_anything_is_made(
    authority: Authority, tmp_path: Path
) -> None:
    invitation = authority.invite("arm", kind="edge", addresses=["x:1"], hours=1.0)
    with pytest.raises(ConfigError, match=r"the join file of arm ended 1\.0 h ago; make a new one with user-rl enroll"):
        join(invitation, tmp_path / "arm.json", wall=lambda: time.time() + 7200)
    whole = authority.mint("arm", kind="edge", fleet_address="x:1")
    with pytest.raises(ConfigError, match="the file is the bundle of edge:arm, allowed a join file"):
        join(whole, tmp_path / "arm.json")
    (tmp_path / "arm.json").write_text("there")
    with pytest.raises(ConfigError, match="is there already, allowed a new file"):
        join(invitation, tmp_path / "arm.json")
    assert [path.name for path in tmp_path.glob("*arm*")] == ["arm.json"]


class Renewed:
    """A bundle in a file, a client that uses it, and a wall clock that the test moves."""

    def __init__(self, fleet: FleetServer, authority: Authority, tmp_path: Path, valid_days: float) -> None:
        self.path, self.now_s = tmp_path / "arm.json", time.time()
        self.first = authority.mint("arm", kind="edge", fleet_address=fleet.address, valid_days=valid_days)
        save_bundle(self.first.at("door:1", "door:2"), self.path)
        self.client = FleetClient(self.first, deadline_s=30.0)
        self.renewal = Renewal(self.first, keep_in(self.path), wall=lambda: self.now_s)


def test_a_certificate_is_renewed_when_a_third_of_its_life_is_left(
    fleet: FleetServer, authority: Authority, tmp_path: Path
) -> None:
    it = Renewed(fleet, authority, tmp_path, valid_days=30.0)
    it.now_s += 19.9 * DAY_S
    assert not it.renewal.tick(it.client)
    it.now_s += 0.2 * DAY_S
    assert it.renewal.tick(it.client)
    kept = load_bundle(it.path)
    assert (kept.fleet_address, kept.more_addresses) == ("door:1", ("door:2",))  # the file's own, not a tunnel's
    assert kept.curve == it.first.curve
    assert kept.key_pem != it.first.key_pem
    assert it.path.stat().st_mode & 0o777 == 0o600
    assert authority.enrolled()["edge:arm"].unsettled
    assert it.client.list() == []
    assert not authority.enrolled()["edge:arm"].unsettled  # it was under the new one
    with FleetClient(kept.at(fleet.address), deadline_s=30.0) as after_restart:
        assert after_restart.list() == []
    it.client.close()


def test_a_renewal_that_cannot_be_written_is_not_used(
    fleet: FleetServer, authority: Authority, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    it = Renewed(fleet, authority, tmp_path, valid_days=30.0)
    it.path.unlink()
    it.path.mkdir()

    def keep(_: object) -> None:
        raise OSError(28, "No space left on device")

    it.renewal = Renewal(it.first, keep, wall=lambda: it.now_s)
    it.now_s += 28 * DAY_S
    assert not it.renewal.tick(it.client)
    assert it.renewal.bundle == it.first
    assert it.client.list() == []
    assert "edge:arm ends in 48.0 h and is not renewed: the new bundle cannot be written" in caplog.text
    it.client.close()


def test_a_failing_renewal_warns_once_when_a_tenth_is_left_and_is_tried_at_a_pace(
    fleet: FleetServer, authority: Authority, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    it = Renewed(fleet, authority, tmp_path, valid_days=30.0)
    authority.revoke("arm", kind="edge")
    it.now_s += 21 * DAY_S
    assert not it.renewal.tick(it.client)
    assert caplog.text == ""  # there is time
    it.now_s += 7 * DAY_S
    for _ in range(20):
        it.now_s += 60
        assert not it.renewal.tick(it.client)
    assert caplog.text.count("is not renewed: edge:arm is not enrolled with this certificate") == 1
    refused = [line for line in whats(fleet_home(authority)) if line[1] == "call"]
    assert len(refused) == 1  # and not one for each
    it.client.close()


def fleet_home(authority: Authority) -> Path:
    return authority.path.parent


def test_an_enrolment_about_to_end_is_named_among_the_resources(
    fleet: FleetServer, authority: Authority, enrol: Enrol
) -> None:
    ends = authority.mint("arm", kind="edge", fleet_address=fleet.address, valid_days=1.0)
    authority._wall = time.time
    with FleetClient(ends, deadline_s=30.0) as arm:
        arm.register(card("arm"))
        arm.heartbeat("arm", BOOT, IDLE)
        [seen] = enrol("me", "admin").list()
        assert seen.reason == ""
        fleet.service.callers._wall = lambda: time.time() + 0.95 * DAY_S
        [seen] = enrol("me", "admin").list()
        assert seen.reason == "its enrolment ends in 1.2 h and was not renewed"


def test_a_revoked_cell_loses_its_lease_at_once_and_comes_back_when_enrolled_again(
    fleet: FleetServer, authority: Authority, enrol: Enrol, clock: FakeClock
) -> None:
    arm, run = enrol("arm", "edge"), enrol("demo", "run")
    arm.register(card("arm"))
    arm.heartbeat("arm", BOOT, IDLE)
    assert run.request_lease("demo", Ask()).granted == {"arm": 1}
    clock.advance(3.0)
    arm.heartbeat("arm", BOOT, IDLE)  # all was well for long enough to end any quarantine
    authority.revoke("arm", kind="edge")
    assert run.renew("demo").cells == {}
    [seen] = run.list()
    assert (seen.state, seen.reason) == ("quarantined", "edge:arm is not enrolled any more; enrol it again")
    assert seen.lease == "releasing"  # its edge may still act: the wait is not shortened
    assert run.request_lease("demo", Ask()).granted == {}
    with pytest.raises(Unauthorized):
        arm.heartbeat("arm", BOOT, IDLE)
    back = enrol("arm", "edge")
    back.register(card("arm"))
    for _ in range(4):
        back.heartbeat("arm", BOOT, Status(state="idle", token=1, released=1))
        clock.advance(1.0)
    assert run.request_lease("demo", Ask()).granted == {"arm": 2}
    home = fleet_home(authority)
    assert [line for line in whats(home) if line[1] in ("grant", "release")] == [
        ("run:demo", "grant", "arm"), ("run:demo", "release", "arm"), ("run:demo", "grant", "arm"),
    ]  # fmt: skip


def test_quarantines_and_refusals_leave_lines(authority: Authority, enrol: Enrol) -> None:
    arm, admin = enrol("arm", "edge"), enrol("me", "admin")
    arm.register(card("arm"))
    admin.quarantine("arm", "loose")
    admin.admit("arm")
    for _ in range(3):
        with pytest.raises(Unauthorized):
            arm.quarantine("arm", "mine")
    assert whats(fleet_home(authority))[2:] == [
        ("admin:me", "quarantine", "arm"), ("admin:me", "admit", "arm"), ("edge:arm", "call", ""),
    ]  # fmt: skip


def test_a_flood_of_calls_is_refused_and_others_are_answered(
    home: Path, clock: FakeClock, authority: Authority
) -> None:
    server = FleetServer(ServeConfig(home=home, limits=CallLimits(calls_hz=10.0, burst=20)), clock=clock)
    flood, other = (
        FleetClient(authority.mint(name, kind="run", fleet_address=server.address), deadline_s=30.0)
        for name in ("flood", "other")
    )
    try:
        for _ in range(20):
            flood.list()
        with pytest.raises(Unreachable, match="run:flood calls too often, allowed 10 calls/s and 20 at once"):
            flood.list()
        assert other.list() == []
        clock.advance(1.0)
        assert flood.list() == []
    finally:
        flood.close()
        other.close()
        server.close()


@pytest.mark.parametrize("limits", [{"calls_hz": 0.0}, {"burst": 0}])
def test_limits_that_let_nobody_in_are_refused(limits: dict[str, float]) -> None:
    with pytest.raises(ConfigError, match="allowed calls_hz above 0 and burst of 1 or more"):
        CallLimits(**limits)  # type: ignore[arg-type]


@pytest.mark.slow
def test_an_expired_certificate_is_not_heard(fleet: FleetServer, authority: Authority) -> None:
    past = Authority(authority.path, wall=lambda: time.time() - 2 * DAY_S)
    bundle = past.mint("demo", kind="run", fleet_address=fleet.address, valid_days=1.0)
    with channel(bundle) as raw, pytest.raises(grpc.RpcError) as refused:
        raw_call(raw, "ListResources", b"")
    assert refused.value.code() == grpc.StatusCode.UNAVAILABLE  # TLS itself turns it away
    certificate_alone = authority.mint("demo", kind="run", fleet_address=fleet.address, valid_days=1.0)
    authority._wall = time.time
    fleet.service._authority._wall = lambda: time.time() + 2 * DAY_S  # the enrolment has ended, the certificate not
    with FleetClient(certificate_alone) as client, pytest.raises(Unauthorized, match="run:demo is not enrolled"):
        client.list()


def test_a_caller_with_several_addresses_goes_to_the_next_when_one_does_not_answer(
    fleet: FleetServer, authority: Authority
) -> None:
    bundle = authority.mint("demo", kind="run", fleet_address="").at("127.0.0.1:1", fleet.address)
    with FleetClient(bundle, deadline_s=30.0) as client:
        with pytest.raises(Unreachable, match=r"no answer from the fleet at 127\.0\.0\.1:1: "):
            client.list()
        assert client.list() == []
        assert client.address == fleet.address


def test_when_a_name_was_last_seen_is_kept(fleet: FleetServer, enrol: Enrol, home: Path) -> None:
    before_s = time.time()
    enrol("demo", "run").list()
    fleet.keep_seen()
    assert before_s <= read_seen(home / "fleet" / SEEN)["run:demo"] <= time.time()
