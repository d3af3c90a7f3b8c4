"""The authority: makes this installation's certificates and keys, and knows who is enrolled, and until when.

One folder, two files of mode 0600: `authority.json` (the CA, the server's certificate and CURVE keys; made once, whole
or not at all) and `enrolled.json` ({identity: its CURVE public key, its certificate's hash, its end}, replaced as a
whole). Many processes may hold an Authority on one folder: `allowed` looks again whenever the file has changed, so that
a new or a revoked name counts at once everywhere, and an expired one does not. HOME/audit.jsonl has a line for each
change. A machine that makes its own keys joins: `invite` makes a file that is good for one `join` and nothing else.
"""

import logging
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import NamedTuple, TypeVar

import msgspec
from cryptography.hazmat.primitives.asymmetric import ec

from cloud.audit import Audit, local_name
from cloud.certificates import (
    SERVER_NAME,
    cert_pem,
    client_certificate,
    fingerprint,
    issuer_from_pem,
    key_pem,
    new_issuer,
    public_half,
    server_certificate,
)
from cloud.enrolments import (
    DAY_S,
    Enrolment,
    Enrolments,
    Issued,
    Ticket,
    free_key,
    identity_of,
    joined,
    pruned,
    renewed,
    revoked,
    settled,
)
from user_rl import control_pb2 as pb
from user_rl.errors import StorageCorrupt, StorageError
from user_rl.files import FileLock, write_atomically
from user_rl.joining import check_request, digest_of, new_tls_key
from user_rl.trust import Bundle, CurveKeys, Kind, new_curve_keys, read_private

log = logging.getLogger(__name__)

LOCK_WAIT_S = 30.0
VALID_DAYS = 365.0  # of an enrolment, unless said otherwise
JOIN_HOURS = 24.0  # of a join file
T = TypeVar("T")
Stamp = tuple[int, int, int] | None


class _Root(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    ca_pem: str
    ca_key_pem: str
    cert_pem: str
    key_pem: str
    curve: CurveKeys

    def __repr__(self) -> str:
        return f"_Root({self.curve!r})"


class _Seen(NamedTuple):
    stamp: Stamp
    enrolled: Enrolments
    allowed: Mapping[str, str]
    from_s: float  # until_s: while the wall clock is between them, nobody else has expired
    until_s: float


class Authority:
    """The keys and the enrolments in one folder. Thread-safe."""

    def __init__(self, path: Path, *, wall: Callable[[], float] = time.time) -> None:
        self.path, self._wall = path, wall
        self.audit = Audit(path.parent, wall=wall)
        self._enrolled_path = path / "enrolled.json"
        lock = FileLock(path / "lock", wait_s=LOCK_WAIT_S)
        try:
            self._root = self._open_root(path / "authority.json")
        finally:
            lock.release()
        self._seen = _Seen(None, {}, {}, 0.0, float("inf"))

    @property
    def server_bundle(self) -> Bundle:
        """What the fleet and the gateway listen with."""
        root = self._root
        return Bundle(
            kind="server", name=SERVER_NAME, fleet_address="", server_name=SERVER_NAME, ca_pem=root.ca_pem,
            cert_pem=root.cert_pem, key_pem=root.key_pem, curve=root.curve, server_curve_public=root.curve.public,
        )  # fmt: skip

    def mint(self, name: str, *, kind: Kind, fleet_address: str, valid_days: float = VALID_DAYS) -> Bundle:
        """Enrols `kind:name` with fresh keys; a bundle that the name had before is refused from now on."""
        bundle = self._enrol(name, kind, (fleet_address,), valid_days * DAY_S, None)
        self.audit.write(local_name(), "enrol", bundle.identity, f"done, for {valid_days:g} days")
        return bundle

    def invite(
        self, name: str, *, kind: Kind, addresses: Sequence[str], valid_days: float = VALID_DAYS,
        hours: float = JOIN_HOURS,
    ) -> Bundle:  # fmt: skip
        """A join file: good for `hours` and for one `join`, by which a machine's own keys become `kind:name`."""
        becomes = identity_of(name, kind)
        ticket = Ticket(kind=kind, valid_s=valid_days * DAY_S)
        bundle = self._enrol(name, "join", addresses, hours * 3600, ticket)
        self.audit.write(local_name(), "invite", becomes, f"done, good for {hours:g} hours")
        return bundle

    def join(self, identity: str, cert_pem: bytes, request: pb.JoinRequest) -> Issued:
        """Enrols the keys in `request` for the holder of a join file, once; the same keys may ask again.

        Raises Unauthorized when it was used, is over, or what it made was revoked since.
        """
        public = check_request(identity, request)
        now_s, own = self._wall(), digest_of(public, request.curve_public)

        def change(enrolled: Enrolments) -> tuple[Enrolments, Issued]:
            final, ticket = joined(enrolled, identity, fingerprint(cert_pem), own, request.curve_public, now_s)
            issued, made = self._signed(final, public, request.curve_public, ticket.valid_s, now_s)
            used = msgspec.structs.replace(enrolled[identity], ticket=ticket)
            return {**enrolled, identity: used, final: made}, issued

        issued = self._change(change)
        self.audit.write(identity, "join", issued.identity)
        return issued

    def renew(self, identity: str, cert_pem: bytes, request: pb.JoinRequest) -> Issued:
        """A new certificate for the caller's new TLS key, as long-lived as the last; its CURVE key stays.

        The certificate that it called with is good until the new one is used, and an hour more: no crash between the
        two locks anybody out. Raises Unauthorized for another CURVE key.
        """
        public, now_s = check_request(identity, request), self._wall()

        def change(enrolled: Enrolments) -> tuple[Enrolments, Issued]:
            old = renewed(enrolled, identity, fingerprint(cert_pem), request.curve_public, now_s)
            issued, made = self._signed(identity, public, old.curve_public, old.life_s(VALID_DAYS * DAY_S), now_s)
            made = msgspec.structs.replace(made, older=fingerprint(cert_pem))
            return {**enrolled, identity: made}, issued

        issued = self._change(change)
        self.audit.write(identity, "renew", identity)
        return issued

    def revoke(self, name: str, *, kind: Kind) -> None:
        """`kind:name` is not allowed any more, at once, nor its join file; raises ConfigError when it was neither."""
        self._change(lambda enrolled: (revoked(enrolled, name, kind), None))
        self.audit.write(local_name(), "revoke", f"{kind}:{name}")

    def allowed(self) -> Mapping[str, str]:
        """Live: CURVE public key → identity (`edge:arm-1`), for channels; the same object until something changes."""
        return self._look().allowed

    def enrolled(self) -> Mapping[str, Enrolment]:
        """Live: every enrolment by identity, expired ones too."""
        return MappingProxyType(self._look().enrolled)

    def knows(self, identity: str, cert_pem: bytes) -> bool:
        """Whether this is a certificate under which `identity` is enrolled now. A join file is nobody's."""
        enrolment, now_s = self.enrolled().get(identity), self._wall()
        if enrolment is None or enrolment.ticket is not None or not enrolment.holds(fingerprint(cert_pem), now_s):
            return False
        if enrolment.unsettled and fingerprint(cert_pem) == enrolment.certificate:
            self._settle(identity, now_s)
        return True

    def _settle(self, identity: str, now_s: float) -> None:
        try:
            self._change(lambda enrolled: (settled(enrolled, identity, now_s), None))
        except (OSError, StorageError) as error:  # the next call tries again
            log.warning("the certificate before of %s goes on for now: %s", identity, error)

    def _enrol(self, name: str, kind: Kind, addresses: Sequence[str], valid_s: float, ticket: Ticket | None) -> Bundle:
        identity, curve, tls_pem = identity_of(name, kind), new_curve_keys(), new_tls_key()
        now_s = self._wall()

        def change(enrolled: Enrolments) -> tuple[Enrolments, Issued]:
            issued, made = self._signed(identity, public_half(tls_pem), curve.public, valid_s, now_s)
            return {**enrolled, identity: msgspec.structs.replace(made, ticket=ticket)}, issued

        issued = self._change(change)
        return Bundle(
            kind=kind, name=name, fleet_address=addresses[0], more_addresses=tuple(addresses[1:]),
            server_name=SERVER_NAME, ca_pem=self._root.ca_pem, cert_pem=issued.cert_pem, key_pem=tls_pem, curve=curve,
            server_curve_public=self._root.curve.public, issued_s=now_s, expires_s=issued.expires_s,
        )  # fmt: skip

    def _signed(
        self, identity: str, public: ec.EllipticCurvePublicKey, curve_public: str, valid_s: float, now_s: float
    ) -> tuple[Issued, Enrolment]:
        expires_s = now_s + valid_s
        issuer = issuer_from_pem(self._root.ca_pem, self._root.ca_key_pem)
        pem = client_certificate(identity, public, issuer, now_s, expires_s)
        made = Enrolment(
            curve_public=curve_public, certificate=fingerprint(pem.encode()), issued_s=now_s, expires_s=expires_s
        )
        return Issued(identity, pem, expires_s), made

    def _look(self) -> _Seen:
        now_s, seen = self._wall(), self._seen
        stamp = _stamp(self._enrolled_path)
        if stamp != seen.stamp or not seen.from_s <= now_s < seen.until_s:
            enrolled = _decode(self._enrolled_path, Enrolments) if stamp else {}
            live = {i: e for i, e in enrolled.items() if e.ticket is None and e.lives(now_s)}
            ends = [e.expires_s for e in live.values() if e.expires_s is not None]
            allowed = MappingProxyType({e.curve_public: identity for identity, e in live.items()})
            seen = self._seen = _Seen(stamp, enrolled, allowed, now_s, min(ends, default=float("inf")))
        return seen

    def _change(self, change: Callable[[Enrolments], tuple[Enrolments, T]]) -> T:
        lock = FileLock(self.path / "lock", wait_s=LOCK_WAIT_S)
        try:
            before = dict(self._look().enrolled)
            after, result = change(before)
            free_key(before, after)
            kept = msgspec.json.encode(pruned(after, self._wall()))
            write_atomically(self._enrolled_path, msgspec.json.format(kept), mode=0o600)
        finally:
            lock.release()
        return result

    def _open_root(self, path: Path) -> _Root:
        if not path.exists():
            write_atomically(path, msgspec.json.format(msgspec.json.encode(_new_root(self._wall()))), mode=0o600)
            log.info("made a new authority in %s", path.parent)
        return _decode(path, _Root)


def _stamp(path: Path) -> Stamp:
    try:
        stat = path.stat()
    except FileNotFoundError:
        return None
    return stat.st_ino, stat.st_mtime_ns, stat.st_size


def _decode(path: Path, kind: type[T]) -> T:
    try:
        return msgspec.json.decode(read_private(path), type=kind)
    except msgspec.MsgspecError as error:
        raise StorageCorrupt(
            f"{path}: {error}; restore it from a backup, or remove its folder and enrol anew"
        ) from error


def _new_root(now_s: float) -> _Root:
    issuer = new_issuer(now_s)
    server_pem, server_key_pem = server_certificate(issuer, now_s)
    return _Root(cert_pem(issuer[0]), key_pem(issuer[1]), server_pem, server_key_pem, new_curve_keys())
