"""Certificates: what the authority signs. X.509, EC P-256, the common name is the identity."""

import hashlib
import ipaddress
import ssl
from datetime import UTC, datetime, timedelta
from typing import Final

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

SERVER_NAME: Final = "user-rl"  # in the server's certificate; clients verify it whatever the address
SERVER_LIFETIME: Final = timedelta(days=3650)  # of the authority and of its server; clients' are their enrolment's
CA_USAGE: Final = x509.KeyUsage(
    key_cert_sign=True, crl_sign=True, digital_signature=False, content_commitment=False, key_encipherment=False,
    data_encipherment=False, key_agreement=False, encipher_only=False, decipher_only=False,
)  # fmt: skip
Issuer = tuple[x509.Certificate, ec.EllipticCurvePrivateKey]


def new_issuer(now_s: float) -> Issuer:
    """A new authority of its own."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = _name("USER-RL authority")
    builder = (
        _builder(name, name, key.public_key(), now_s, _server_end_s(now_s))
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .add_extension(CA_USAGE, critical=True)
    )
    return builder.sign(key, hashes.SHA256()), key


def issuer_from_pem(ca_pem: str, key_pem: str) -> Issuer:
    """The authority whose certificate and key these are."""
    key = serialization.load_pem_private_key(key_pem.encode(), None)
    assert isinstance(key, ec.EllipticCurvePrivateKey)  # we made it
    return x509.load_pem_x509_certificate(ca_pem.encode()), key


def server_certificate(issuer: Issuer, now_s: float) -> tuple[str, str]:
    """A new server's certificate and key, PEM."""
    key = ec.generate_private_key(ec.SECP256R1())
    loopback = x509.IPAddress(ipaddress.ip_address("127.0.0.1"))
    names = x509.SubjectAlternativeName([x509.DNSName(SERVER_NAME), x509.DNSName("localhost"), loopback])
    builder = _leaf(SERVER_NAME, key.public_key(), issuer, ExtendedKeyUsageOID.SERVER_AUTH, now_s, _server_end_s(now_s))
    return cert_pem(builder.add_extension(names, critical=False).sign(issuer[1], hashes.SHA256())), key_pem(key)


def client_certificate(
    identity: str, public: ec.EllipticCurvePublicKey, issuer: Issuer, now_s: float, expires_s: float
) -> str:
    """A client's certificate, PEM."""
    builder = _leaf(identity, public, issuer, ExtendedKeyUsageOID.CLIENT_AUTH, now_s, expires_s)
    return cert_pem(builder.sign(issuer[1], hashes.SHA256()))


def public_half(key_pem: str) -> ec.EllipticCurvePublicKey:
    """The public key of a secret one."""
    key = serialization.load_pem_private_key(key_pem.encode(), None)
    assert isinstance(key, ec.EllipticCurvePrivateKey)  # we made it
    return key.public_key()


def fingerprint(cert_pem: bytes) -> str:
    """The sha256 of a certificate's DER form, hex; empty for bytes that are no certificate."""
    try:
        return hashlib.sha256(ssl.PEM_cert_to_DER_cert(cert_pem.decode())).hexdigest()
    except ValueError:
        return ""


def cert_pem(cert: x509.Certificate) -> str:
    """`cert` as text."""
    return cert.public_bytes(serialization.Encoding.PEM).decode()


def key_pem(key: ec.EllipticCurvePrivateKey) -> str:
    """`key` as text, which is a secret."""
    return key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    ).decode()


def _leaf(
    common_name: str, public: ec.EllipticCurvePublicKey, issuer: Issuer, usage: x509.ObjectIdentifier,
    now_s: float, expires_s: float,
) -> x509.CertificateBuilder:  # fmt: skip
    ca, ca_key = issuer
    return (
        _builder(_name(common_name), ca.subject, public, now_s, expires_s)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(x509.ExtendedKeyUsage([usage]), critical=False)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(ca_key.public_key()), critical=False)
    )


def _builder(
    subject: x509.Name, issuer: x509.Name, public: ec.EllipticCurvePublicKey, now_s: float, expires_s: float
) -> x509.CertificateBuilder:
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(public)
        .serial_number(x509.random_serial_number())
        .not_valid_before(_date(now_s) - timedelta(days=1))  # the clocks of two machines differ
        .not_valid_after(_date(expires_s))
    )


def _server_end_s(now_s: float) -> float:
    return now_s + SERVER_LIFETIME.total_seconds()


def _date(wall_s: float) -> datetime:
    return datetime.fromtimestamp(wall_s, UTC)


def _name(common_name: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common_name)])
