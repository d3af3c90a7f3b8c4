"""The authority: makes this installation's certificates and keys, and knows who is enrolled.

One folder, two files of mode 0600: `authority.json` (the CA, the server's certificate and CURVE keys; made once, whole
or not at all) and `enrolled.json` ({identity: its CURVE public key and its certificate's hash}, replaced as a whole).
Many processes may hold an Authority on one folder: `allowed` looks again whenever the file has changed, so that a new
or a revoked name counts at once everywhere. EC P-256 keys; certificates last ten years, for nothing renews them yet.
"""

import hashlib
import ipaddress
import logging
import ssl
import time
from collections.abc import Callable, Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import MappingProxyType
from typing import Final, TypeVar

import msgspec
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from user_rl.errors import ConfigError, StorageCorrupt
from user_rl.files import FileLock, write_atomically
from user_rl.trust import NAME_PATTERN, Bundle, CurveKeys, EnrolledName, Kind, new_curve_keys, read_private

log = logging.getLogger(__name__)

SERVER_NAME: Final = "user-rl"  # in the server's certificate; clients verify it whatever the address
LIFETIME: Final = timedelta(days=3650)
LOCK_WAIT_S: Final = 30.0
CA_USAGE: Final = x509.KeyUsage(
    key_cert_sign=True, crl_sign=True, digital_signature=False, content_commitment=False, key_encipherment=False,
    data_encipherment=False, key_agreement=False, encipher_only=False, decipher_only=False,
)  # fmt: skip
T = TypeVar("T")
Issuer = tuple[x509.Certificate, ec.EllipticCurvePrivateKey]


class _Root(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    ca_pem: str
    ca_key_pem: str
    cert_pem: str
    key_pem: str
    curve: CurveKeys


class Enrolment(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What is known of an enrolled identity; nothing of it is secret."""

    curve_public: str
    certificate: str  # sha256 of its DER form, hex


Enrolments = dict[str, Enrolment]  # by identity, `kind:name`


class Authority:
    """The keys and the enrolments in one folder. Thread-safe."""

    def __init__(self, path: Path, *, wall: Callable[[], float] = time.time) -> None:
        self.path, self._wall = path, wall
        self._enrolled_path = path / "enrolled.json"
        lock = FileLock(path / "lock", wait_s=LOCK_WAIT_S)
        try:
            self._root = self._open_root(path / "authority.json")
        finally:
            lock.release()
        self._seen: tuple[tuple[int, int, int] | None, Enrolments, Mapping[str, str]] = (None, {}, {})

    @property
    def server_bundle(self) -> Bundle:
        """What the fleet and the gateway listen with."""
        root = self._root
        return Bundle(
            kind="server", name=SERVER_NAME, fleet_address="", server_name=SERVER_NAME, ca_pem=root.ca_pem,
            cert_pem=root.cert_pem, key_pem=root.key_pem, curve=root.curve, server_curve_public=root.curve.public,
        )  # fmt: skip

    def mint(self, name: str, *, kind: Kind, fleet_address: str) -> Bundle:
        """Enrols `kind:name` with fresh keys; a bundle that the name had before is refused from now on."""
        identity = _identity(name, kind)
        ca, key = self._issuer()
        cert_pem, key_pem = _issue(identity, (ca, key), server=False, now=self._now())
        curve = new_curve_keys()
        enrolment = Enrolment(curve.public, fingerprint(cert_pem.encode()))
        self._change(lambda enrolled: {**enrolled, identity: enrolment})
        return Bundle(
            kind=kind, name=name, fleet_address=fleet_address, server_name=SERVER_NAME, ca_pem=self._root.ca_pem,
            cert_pem=cert_pem, key_pem=key_pem, curve=curve, server_curve_public=self._root.curve.public,
        )  # fmt: skip

    def revoke(self, name: str, *, kind: Kind) -> None:
        """`kind:name` is not allowed any more, at once; raises ConfigError when it was not."""
        identity = _identity(name, kind)
        if identity not in self.enrolled():
            raise ConfigError(
                f"{identity} is not enrolled, allowed {', '.join(self.enrolled()) or 'none'}; see its name"
            )
        self._change(lambda enrolled: {k: v for k, v in enrolled.items() if k != identity})

    def allowed(self) -> Mapping[str, str]:
        """Live: CURVE public key → identity (`edge:arm-1`), for channels."""
        return self._look()[2]

    def enrolled(self) -> Mapping[str, Enrolment]:
        """Live: every enrolment by identity."""
        return MappingProxyType(self._look()[1])

    def knows(self, identity: str, cert_pem: bytes) -> bool:
        """Whether this is the certificate under which `identity` is enrolled now."""
        enrolment = self.enrolled().get(identity)
        return enrolment is not None and enrolment.certificate == fingerprint(cert_pem)

    def _look(self) -> tuple[tuple[int, int, int] | None, Enrolments, Mapping[str, str]]:
        try:
            stat = self._enrolled_path.stat()
        except FileNotFoundError:
            return None, {}, {}
        stamp = (stat.st_ino, stat.st_mtime_ns, stat.st_size)
        seen = self._seen
        if stamp != seen[0]:
            enrolled = _decode(self._enrolled_path, Enrolments)
            seen = self._seen = (stamp, enrolled, {e.curve_public: identity for identity, e in enrolled.items()})
        return seen

    def _change(self, change: Callable[[Enrolments], Enrolments]) -> None:
        lock = FileLock(self.path / "lock", wait_s=LOCK_WAIT_S)
        try:
            after = change(dict(self._look()[1]))
            write_atomically(self._enrolled_path, msgspec.json.format(msgspec.json.encode(after)), mode=0o600)
        finally:
            lock.release()

    def _open_root(self, path: Path) -> _Root:
        if not path.exists():
            write_atomically(path, msgspec.json.format(msgspec.json.encode(_new_root(self._now()))), mode=0o600)
            log.info("made a new authority in %s", path.parent)
        return _decode(path, _Root)

    def _issuer(self) -> Issuer:
        key = serialization.load_pem_private_key(self._root.ca_key_pem.encode(), None)
        assert isinstance(key, ec.EllipticCurvePrivateKey)  # we made it
        return x509.load_pem_x509_certificate(self._root.ca_pem.encode()), key

    def _now(self) -> datetime:
        return datetime.fromtimestamp(self._wall(), UTC)


def fingerprint(cert_pem: bytes) -> str:
    """The sha256 of a certificate's DER form, hex."""
    return hashlib.sha256(ssl.PEM_cert_to_DER_cert(cert_pem.decode())).hexdigest()


def _identity(name: str, kind: Kind) -> str:
    try:
        msgspec.convert(name, EnrolledName)
    except msgspec.ValidationError as error:
        raise ConfigError(f"the name {name!r} of a new {kind}, allowed {NAME_PATTERN}; choose another") from error
    return f"{kind}:{name}"


def _decode(path: Path, kind: type[T]) -> T:
    try:
        return msgspec.json.decode(read_private(path), type=kind)
    except msgspec.MsgspecError as error:
        raise StorageCorrupt(
            f"{path}: {error}; restore it from a backup, or remove its folder and enrol anew"
        ) from error


def _new_root(now: datetime) -> _Root:
    key = ec.generate_private_key(ec.SECP256R1())
    name = _name("USER-RL authority")
    ca = (
        _builder(name, name, key, now)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .add_extension(CA_USAGE, critical=True)
        .sign(key, hashes.SHA256())
    )
    cert_pem, key_pem = _issue(SERVER_NAME, (ca, key), server=True, now=now)
    return _Root(_cert_pem(ca), _key_pem(key), cert_pem, key_pem, new_curve_keys())


def _issue(common_name: str, issuer: Issuer, *, server: bool, now: datetime) -> tuple[str, str]:
    ca, ca_key = issuer
    key = ec.generate_private_key(ec.SECP256R1())
    usage = ExtendedKeyUsageOID.SERVER_AUTH if server else ExtendedKeyUsageOID.CLIENT_AUTH
    builder = (
        _builder(_name(common_name), ca.subject, key, now)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(x509.ExtendedKeyUsage([usage]), critical=False)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(ca_key.public_key()), critical=False)
    )
    if server:
        loopback = x509.IPAddress(ipaddress.ip_address("127.0.0.1"))
        names = x509.SubjectAlternativeName([x509.DNSName(SERVER_NAME), x509.DNSName("localhost"), loopback])
        builder = builder.add_extension(names, critical=False)
    return _cert_pem(builder.sign(ca_key, hashes.SHA256())), _key_pem(key)


def _builder(
    subject: x509.Name, issuer: x509.Name, key: ec.EllipticCurvePrivateKey, now: datetime
) -> x509.CertificateBuilder:
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(days=1))  # the clocks of two machines differ
        .not_valid_after(now + LIFETIME)
    )


def _name(common_name: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common_name)])


def _cert_pem(cert: x509.Certificate) -> str:
    return cert.public_bytes(serialization.Encoding.PEM).decode()


def _key_pem(key: ec.EllipticCurvePrivateKey) -> str:
    return key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    ).decode()
