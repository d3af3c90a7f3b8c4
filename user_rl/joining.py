"""Joining: a machine makes its own keys and proves that it has them; what the fleet signs is their public half.

The proof is a signature, by the new TLS key, of the caller's certified name and both public keys: a request that was
overheard is of no use under another name. Needs `cryptography` (extras `edge` and `cloud`).
"""

import hashlib
import re
from typing import Final, get_args

from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from user_rl import control_pb2 as pb
from user_rl.errors import WireError
from user_rl.trust import Kind

PURPOSE: Final = b"user-rl join 1"
Z85: Final = re.compile(r"[0-9a-zA-Z.\-:+=^!/*?&<>()\[\]{}@%$#]{40}")
MAX_PEM: Final = 1000  # characters; a P-256 public key has 178


def new_tls_key() -> str:
    """A fresh EC P-256 secret key, PEM."""
    key = ec.generate_private_key(ec.SECP256R1())
    return key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    ).decode()


def make_request(identity: str, key_pem: str, curve_public: str) -> pb.JoinRequest:
    """Asks, as the caller `identity`, for a certificate of these keys."""
    key = serialization.load_pem_private_key(key_pem.encode(), None)
    assert isinstance(key, ec.EllipticCurvePrivateKey)  # new_tls_key made it
    public = key.public_key()
    pem = public.public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)
    proof = key.sign(_signed(identity, public, curve_public), ec.ECDSA(hashes.SHA256()))
    return pb.JoinRequest(public_key_pem=pem.decode(), curve_public=curve_public, proof=proof)


def check_request(identity: str, request: pb.JoinRequest) -> ec.EllipticCurvePublicKey:
    """The public key in it; raises WireError unless the sender, who is `identity`, has its secret half."""
    if not Z85.fullmatch(request.curve_public):
        raise WireError(f"a CURVE key of {len(request.curve_public)} characters, allowed 40 in z85; make new keys")
    try:
        if len(request.public_key_pem) > MAX_PEM:
            raise ValueError(f"{len(request.public_key_pem)} characters")
        public = serialization.load_pem_public_key(request.public_key_pem.encode())
    except (ValueError, UnsupportedAlgorithm) as error:
        raise WireError(f"a public key that cannot be read: {error}; make new keys") from error
    if not isinstance(public, ec.EllipticCurvePublicKey) or not isinstance(public.curve, ec.SECP256R1):
        raise WireError(f"a public key of another kind ({type(public).__name__}), allowed EC P-256; make new keys")
    try:
        public.verify(request.proof, _signed(identity, public, request.curve_public), ec.ECDSA(hashes.SHA256()))
    except InvalidSignature as error:
        raise WireError(f"no proof that {identity} has the secret half of its new key; make new keys") from error
    return public


def digest_of(public: ec.EllipticCurvePublicKey, curve_public: str) -> str:
    """Names a pair of new public keys, hex."""
    return hashlib.sha256(_signed("", public, curve_public)).hexdigest()


def certified_name(cert_pem: str) -> tuple[Kind, str]:
    """Whose certificate this is; raises WireError when it is nobody's that we know."""
    try:
        subject = x509.load_pem_x509_certificate(cert_pem.encode()).subject
        [common] = subject.get_attributes_for_oid(NameOID.COMMON_NAME)
    except ValueError as error:
        raise WireError(f"a certificate that cannot be read: {error}; bring both sides to one version") from error
    word, _, name = str(common.value).partition(":")
    kind: Kind | None = next((kind for kind in get_args(Kind) if kind == word), None)
    if kind is None or not name:
        raise WireError(f"a certificate of {word}:{name}, allowed KIND:NAME; bring both sides to one version")
    return kind, name


def _signed(identity: str, public: ec.EllipticCurvePublicKey, curve_public: str) -> bytes:
    der = public.public_bytes(serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo)
    return b"\0".join((PURPOSE, identity.encode(), curve_public.encode(), der))
