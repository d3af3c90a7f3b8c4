"""One time, own keys, an end: what a join file is good for, what a renewal changes, what a revocation ends."""

import re
from pathlib import Path

import msgspec
import pytest
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from cloud.audit import files_of, lines_of
from cloud.authority import Authority
from cloud.enrolments import Issued
from user_rl import control_pb2 as pb
from user_rl.errors import ConfigError, Unauthorized, WireError
from user_rl.joining import certified_name, make_request, new_tls_key
from user_rl.trust import Bundle, Kind, new_curve_keys

DAY_S = 86400.0


class Wall:
    """A wall clock that the test moves."""

    def __init__(self) -> None:
        self.now_s = 1_800_000_000.0

    def __call__(self) -> float:
        return self.now_s


class Machine:
    """What a robot has: keys of its own, and what it was given."""

    def __init__(self, authority: Authority, invitation: Bundle) -> None:
        self.authority, self.bundle = authority, invitation
        self.key_pem, self.curve = new_tls_key(), new_curve_keys()

    def join(self) -> Issued:
        request = make_request(self.bundle.identity, self.key_pem, self.curve.public)
        return self.authority.join(self.bundle.identity, self.bundle.cert_pem.encode(), request)

    def renew(self, cert_pem: str, identity: str = "edge:arm") -> Issued:
        return self.authority.renew(
            identity, cert_pem.encode(), make_request(identity, new_tls_key(), self.curve.public)
        )


@pytest.fixture
def wall() -> Wall:
    return Wall()


@pytest.fixture
def authority(tmp_path: Path, wall: Wall) -> Authority:
    return Authority(tmp_path / "authority", wall=wall)


def invite(authority: Authority, kind: Kind = "edge", valid_days: float = 100.0) -> Bundle:
    return authority.invite("arm", kind=kind, addresses=["a:1", "b:2"], valid_days=valid_days, hours=24.0)


def machine(authority: Authority, kind: Kind = "edge") -> Machine:
    return Machine(authority, invite(authority, kind))


def test_a_join_file_makes_a_machines_own_keys_its_name(authority: Authority, wall: Wall) -> None:
    arm = machine(authority)
    assert (arm.bundle.identity, arm.bundle.fleet_address, arm.bundle.more_addresses) == ("join:arm", "a:1", ("b:2",))
    issued = arm.join()
    assert certified_name(issued.cert_pem) == ("edge", "arm")
    assert issued.expires_s == wall.now_s + 100 * DAY_S
    assert authority.allowed() == {arm.curve.public: "edge:arm"}
    assert authority.knows("edge:arm", issued.cert_pem.encode())


def test_no_secret_key_of_a_machine_comes_near_the_authority(authority: Authority) -> None:
    arm = machine(authority)
    request = make_request(arm.bundle.identity, arm.key_pem, arm.curve.public)
    arm.join()
    kept = b"".join(p.read_bytes() for p in authority.path.parent.rglob("*") if p.is_file())
    for secret in (arm.curve.secret, *arm.key_pem.splitlines()[1:-1]):
        assert secret.encode() not in kept + request.SerializeToString()


def test_a_join_file_is_nobody_where_anything_else_is_asked(authority: Authority) -> None:
    arm = machine(authority)
    assert authority.allowed() == {}
    assert not authority.knows("join:arm", arm.bundle.cert_pem.encode())
    with pytest.raises(Unauthorized, match="join:arm is not enrolled with this certificate"):
        arm.renew(arm.bundle.cert_pem, "join:arm")


def test_a_join_file_is_good_for_one_pair_of_keys(authority: Authority) -> None:
    first = machine(authority)
    first.join()
    second = Machine(authority, first.bundle)
    message = (
        "join:arm may not join: its join file was used already, by other keys; make a new join file with "
        "user-rl enroll arm"
    )
    with pytest.raises(Unauthorized, match=message):
        second.join()
    assert authority.allowed() == {first.curve.public: "edge:arm"}


def test_the_same_keys_may_ask_again_when_the_answer_was_lost(authority: Authority) -> None:
    arm = machine(authority)
    arm.join()
    again = Authority(authority.path, wall=authority._wall)
    arm.authority = again
    issued = arm.join()
    assert again.knows("edge:arm", issued.cert_pem.encode())


def test_what_a_join_made_is_not_brought_back_by_it_once_revoked(authority: Authority) -> None:
    arm = machine(authority)
    arm.join()
    authority.revoke("arm", kind="edge")
    with pytest.raises(Unauthorized, match="its join file is over, replaced or revoked"):
        arm.join()
    assert authority.allowed() == {}


def test_a_join_does_not_undo_an_enrolment_that_came_after_it(authority: Authority) -> None:
    arm = machine(authority)
    arm.join()
    newer = authority.mint("arm", kind="edge", fleet_address="")
    with pytest.raises(Unauthorized, match="edge:arm was revoked or enrolled anew since"):
        arm.join()
    assert authority.allowed() == {newer.curve.public: "edge:arm"}


def test_a_revoked_join_file_never_joins(authority: Authority) -> None:
    arm = machine(authority)
    authority.revoke("arm", kind="edge")
    with pytest.raises(Unauthorized, match="over, replaced or revoked"):
        arm.join()
    with pytest.raises(ConfigError, match="edge:arm is not enrolled"):
        authority.revoke("arm", kind="edge")


def test_a_newer_join_file_replaces_the_older_and_a_late_one_is_refused(authority: Authority, wall: Wall) -> None:
    old, new = machine(authority), machine(authority)
    with pytest.raises(Unauthorized, match="over, replaced or revoked"):
        old.join()
    wall.now_s += 24 * 3600
    with pytest.raises(Unauthorized, match="over, replaced or revoked"):
        new.join()


@pytest.mark.parametrize("kind", ["labeller", "inference", "admin"])
def test_others_join_as_what_they_were_invited_as(authority: Authority, kind: Kind) -> None:
    issued = machine(authority, kind).join()
    assert certified_name(issued.cert_pem) == (kind, "arm")
    assert list(authority.allowed().values()) == [f"{kind}:arm"]


def test_an_edge_cannot_revoke_an_invitation_of_another_kind(authority: Authority) -> None:
    other = machine(authority, "labeller")
    with pytest.raises(ConfigError, match="edge:arm is not enrolled"):
        authority.revoke("arm", kind="edge")
    other.join()


def test_nobody_takes_the_curve_key_of_another_name(authority: Authority) -> None:
    victim = authority.mint("victim", kind="edge", fleet_address="")
    thief = machine(authority)
    thief.curve = victim.curve
    with pytest.raises(Unauthorized, match="edge:arm comes with a CURVE key that another name has; make new keys"):
        thief.join()
    assert authority.allowed() == {victim.curve.public: "edge:victim"}


def _other_key() -> str:
    return rsa.generate_private_key(65537, 2048).public_key().public_bytes(
        Encoding.PEM, PublicFormat.SubjectPublicKeyInfo
    ).decode()  # fmt: skip


def _other_curve() -> str:
    return ec.generate_private_key(ec.SECP384R1()).public_key().public_bytes(
        Encoding.PEM, PublicFormat.SubjectPublicKeyInfo
    ).decode()  # fmt: skip


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda r: r.MergeFrom(pb.JoinRequest(proof=b"x" * 70)), "no proof that join:arm has the secret half"),
        (lambda r: r.MergeFrom(pb.JoinRequest(curve_public="a" * 40)), "no proof that join:arm"),
        (lambda r: r.MergeFrom(pb.JoinRequest(curve_public="short")), "a CURVE key of 5 characters, allowed 40 in z85"),
        (lambda r: r.MergeFrom(pb.JoinRequest(curve_public="a" * 39 + " ")), "a CURVE key of 40 characters"),
        (lambda r: r.MergeFrom(pb.JoinRequest(public_key_pem="nonsense")), "a public key that cannot be read"),
        (lambda r: r.MergeFrom(pb.JoinRequest(public_key_pem="x" * 2000)), "cannot be read: 2000 characters"),
        (lambda r: r.MergeFrom(pb.JoinRequest(public_key_pem=_other_key())), "of another kind"),
        (lambda r: r.MergeFrom(pb.JoinRequest(public_key_pem=_other_curve())), "of another kind"),
    ],
)  # fmt: skip
def test_a_request_without_proof_of_its_keys_uses_nothing_up(
    authority: Authority, change: object, message: str
) -> None:
    arm = machine(authority)
    request = make_request("join:arm", arm.key_pem, arm.curve.public)
    change(request)  # type: ignore[operator]
    with pytest.raises(WireError, match=re.escape(message)):
        authority.join("join:arm", arm.bundle.cert_pem.encode(), request)
    arm.join()


def test_a_proof_is_of_no_use_under_another_name(authority: Authority) -> None:
    arm = machine(authority)
    overheard = make_request("join:other", arm.key_pem, arm.curve.public)
    with pytest.raises(WireError, match="no proof that join:arm"):
        authority.join("join:arm", arm.bundle.cert_pem.encode(), overheard)


def test_an_expired_name_is_neither_allowed_nor_known(authority: Authority, wall: Wall) -> None:
    bundle = authority.mint("arm", kind="edge", fleet_address="", valid_days=1.0)
    longer = authority.mint("other", kind="edge", fleet_address="", valid_days=2.0)
    wall.now_s += DAY_S - 1
    assert set(authority.allowed().values()) == {"edge:arm", "edge:other"}
    wall.now_s += 1
    assert authority.allowed() == {longer.curve.public: "edge:other"}
    assert not authority.knows("edge:arm", bundle.cert_pem.encode())
    wall.now_s -= 10  # a clock that was set back
    assert set(authority.allowed().values()) == {"edge:arm", "edge:other"}


def test_a_renewal_lasts_as_long_again_under_the_same_curve_key(authority: Authority, wall: Wall) -> None:
    arm = machine(authority)
    old = arm.join()
    wall.now_s += 90 * DAY_S
    new = arm.renew(old.cert_pem)
    assert new.expires_s == wall.now_s + 100 * DAY_S
    assert authority.allowed() == {arm.curve.public: "edge:arm"}
    wall.now_s += 99 * DAY_S
    assert authority.knows("edge:arm", new.cert_pem.encode())


def test_the_certificate_before_goes_on_until_the_new_one_is_used_and_an_hour_more(
    authority: Authority, wall: Wall
) -> None:
    arm = machine(authority)
    old = arm.join()
    arm.renew(old.cert_pem)  # this answer is lost
    wall.now_s += DAY_S
    assert authority.knows("edge:arm", old.cert_pem.encode())
    new = arm.renew(old.cert_pem)
    assert authority.knows("edge:arm", new.cert_pem.encode())
    wall.now_s += 3599
    assert authority.knows("edge:arm", old.cert_pem.encode())
    wall.now_s += 1
    assert not authority.knows("edge:arm", old.cert_pem.encode())
    assert authority.knows("edge:arm", new.cert_pem.encode())
    with pytest.raises(Unauthorized, match="edge:arm is not enrolled with this certificate"):
        arm.renew(old.cert_pem)


def test_a_renewal_brings_no_other_curve_key(authority: Authority) -> None:
    arm = machine(authority)
    old = arm.join()
    arm.curve = new_curve_keys()
    with pytest.raises(Unauthorized, match="edge:arm renews with another CURVE key, allowed its own"):
        arm.renew(old.cert_pem)


def test_enrolments_of_before_they_expired_are_read_and_do_not_end(authority: Authority, wall: Wall) -> None:
    bundle = authority.mint("arm", kind="edge", fleet_address="")
    path = authority.path / "enrolled.json"
    kept = msgspec.json.decode(path.read_bytes())
    kept["edge:arm"] = {key: kept["edge:arm"][key] for key in ("curve_public", "certificate")}
    path.write_bytes(msgspec.json.encode(kept))
    wall.now_s += 3000 * DAY_S
    assert authority.allowed() == {bundle.curve.public: "edge:arm"}
    assert authority.knows("edge:arm", bundle.cert_pem.encode())
    new = Machine(authority, bundle)
    new.curve = bundle.curve
    assert new.renew(bundle.cert_pem).expires_s == wall.now_s + 365 * DAY_S


def test_join_files_that_ended_long_ago_are_forgotten(authority: Authority, wall: Wall) -> None:
    machine(authority)
    wall.now_s += 40 * DAY_S
    authority.mint("other", kind="edge", fleet_address="")
    assert list(authority.enrolled()) == ["edge:other"]


def test_every_change_leaves_a_line(authority: Authority) -> None:
    arm = machine(authority)
    issued = arm.join()
    arm.renew(issued.cert_pem)
    authority.mint("x", kind="run", fleet_address="")
    authority.revoke("arm", kind="edge")
    lines = [line for path in files_of(authority.path.parent) for line, _ in lines_of(path) if line]
    assert [(line.what, line.about) for line in lines] == [
        ("invite", "edge:arm"), ("join", "edge:arm"), ("renew", "edge:arm"), ("enrol", "run:x"), ("revoke", "edge:arm"),
    ]  # fmt: skip
    assert [line.who.partition(":")[0] for line in lines] == ["local", "join", "edge", "local", "local"]


def test_no_secret_is_in_a_repr(authority: Authority) -> None:
    arm = machine(authority)
    shown = repr((authority._root, arm.bundle, arm.curve, authority.enrolled()))
    for bundle in (arm.bundle, authority.server_bundle):
        for secret in (bundle.curve.secret, *bundle.key_pem.splitlines()[1:-1]):
            assert secret not in shown
    assert authority._root.ca_key_pem.splitlines()[1] not in shown
