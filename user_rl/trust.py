"""Trust: the keys that a process holds, and the bundle file that carries them to a machine.

A bundle is everything that one enrolled name needs: where the fleet is, whom to trust, and the name's own TLS and CURVE
keys. It is made by the cloud's authority, or by the machine itself with a join file (`user-rl-edge join`), which is a
bundle too: of the name `join:NAME`, good for one call. One file of mode 0600; secrets never appear in a repr or a log.
"""

import os
from pathlib import Path
from typing import Annotated, Literal

import msgspec
import zmq

from user_rl.errors import ConfigError
from user_rl.files import write_atomically

Kind = Literal["edge", "run", "admin", "labeller", "server", "inference", "join"]
Z85Key = Annotated[str, msgspec.Meta(min_length=40, max_length=40)]
NAME_PATTERN = (
    r"^[A-Za-z0-9][A-Za-z0-9._-]{0,47}\Z"  # fits a row's 48-byte column; no separator of streams or identities
)
EnrolledName = Annotated[str, msgspec.Meta(pattern=NAME_PATTERN)]


class CurveKeys(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A CURVE key pair, z85 text."""

    public: Z85Key
    secret: Z85Key

    def __repr__(self) -> str:
        return f"CurveKeys(public={self.public!r})"


class Bundle(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What one enrolled name holds. `identity` is its certificate's common name and its User-Id on the data plane."""

    kind: Kind
    name: EnrolledName
    fleet_address: str  # host:port
    server_name: str  # the name in the server's certificate, verified whatever the address
    ca_pem: str
    cert_pem: str
    key_pem: str
    curve: CurveKeys
    server_curve_public: Z85Key
    issued_s: float = 0.0  # wall clock of the authority
    expires_s: float | None = None  # the certificate's end; None: made before names expired
    more_addresses: tuple[str, ...] = ()  # of the same fleet, for when the first does not answer

    @property
    def identity(self) -> str:
        return f"{self.kind}:{self.name}"

    def at(self, fleet_address: str, *more: str) -> "Bundle":
        """The same keys for a fleet that listens elsewhere now."""
        return msgspec.structs.replace(self, fleet_address=fleet_address, more_addresses=more)

    def __repr__(self) -> str:
        return f"Bundle({self.identity!r}, fleet_address={self.fleet_address!r}, public={self.curve.public!r})"


def new_curve_keys() -> CurveKeys:
    """A fresh key pair."""
    public, secret = zmq.curve_keypair()
    return CurveKeys(public.decode(), secret.decode())


def save_bundle(bundle: Bundle, path: Path) -> None:
    """Writes `bundle` durably with mode 0600."""
    write_atomically(path, msgspec.json.format(msgspec.json.encode(bundle)), mode=0o600)


def load_bundle(path: Path) -> Bundle:
    """The bundle in `path`; raises ConfigError when it is missing, malformed or readable by others."""
    try:
        return msgspec.json.decode(read_private(path), type=Bundle)
    except msgspec.MsgspecError as error:
        raise ConfigError(f"bundle {path}: {error}; enrol this name again") from error


def read_private(path: Path) -> bytes:
    """The bytes of `path`; raises ConfigError when it is missing or when others than its owner may open it."""
    try:
        with path.open("rb") as file:
            mode = os.fstat(file.fileno()).st_mode & 0o777
            data = file.read()
    except OSError as error:
        raise ConfigError(f"{path}: {error.strerror}; give the path of a file that this user may read") from error
    if mode & 0o077:
        raise ConfigError(f"{path} holds secrets and has mode {mode:04o}, allowed 0600; run: chmod 600 {path}")
    return data
