"""Door: a server's folder. Its keys, its lock, its session numbers, and the invitation that lets one client in.

    HOME/keys.json         both key pairs, made once           HOME/socket    the address, where none is given
    HOME/invitation.json   what a client needs: copy it to     HOME/session   the last session's number
                           the client's machine

The folder is for its owner alone, and so are its files: on one machine that is the guard, between two it is CURVE with
these keys.
"""

import os
from pathlib import Path

import msgspec

from user_rl.errors import ConfigError
from user_rl.files import FileLock, write_atomically
from user_rl.trust import CurveKeys, Z85Key, new_curve_keys, read_private

INVITATION = "invitation.json"


class Invitation(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Where a server listens, its public key, and the key pair that it lets in."""

    address: str  # ipc://PATH, or tcp://HOST:PORT
    server_public: Z85Key
    keys: CurveKeys


class _Keys(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    server: CurveKeys
    client: CurveKeys


class Door:
    """One server's folder, held until `close`; raises StorageBusy when another server holds it."""

    def __init__(self, home: Path) -> None:
        home.mkdir(mode=0o700, parents=True, exist_ok=True)
        mode = home.stat().st_mode & 0o777
        if mode & 0o077:
            raise ConfigError(f"home = {home} has mode {mode:04o}, allowed 0700; run: chmod 700 {home}")
        self.home = home
        self._lock = FileLock(home / "lock")
        self._keys = _keys(home / "keys.json")
        self._last = _last_session(home / "session")

    @property
    def keys(self) -> CurveKeys:
        """The server's own."""
        return self._keys.server

    def allowed(self) -> dict[str, str]:
        """See user_rl.channels.Allowed."""
        return {self._keys.client.public: "client"}

    def next_session(self) -> int:
        """A number that no session before had, in any life of the server."""
        self._last += 1
        write_atomically(self.home / "session", str(self._last).encode(), mode=0o600)
        return self._last

    def invite(self, address: str) -> Path:
        """Writes the invitation to `address`; returns its path."""
        invitation = Invitation(address=address, server_public=self.keys.public, keys=self._keys.client)
        path = self.home / INVITATION
        write_atomically(path, msgspec.json.format(msgspec.json.encode(invitation)), mode=0o600)
        return path

    def close(self) -> None:
        """Lets go of the folder; safe to call twice."""
        self._lock.release()


def load_invitation(path: Path) -> Invitation:
    """The invitation in `path`; raises ConfigError when it is missing, malformed or readable by others."""
    try:
        return msgspec.json.decode(read_private(path), type=Invitation)
    except msgspec.MsgspecError as error:
        raise ConfigError(f"invitation {path}: {error}; copy the one that hal.serve wrote into its home") from error


def _keys(path: Path) -> _Keys:
    if not path.exists():
        write_atomically(path, msgspec.json.encode(_Keys(new_curve_keys(), new_curve_keys())), mode=0o600)
    try:
        return msgspec.json.decode(read_private(path), type=_Keys)
    except msgspec.MsgspecError as error:
        raise ConfigError(f"{path}: {error}; remove it, and copy the new invitation to the client") from error


def _last_session(path: Path) -> int:
    try:
        return int(os.fsdecode(path.read_bytes()))
    except FileNotFoundError:
        return 0
    except ValueError as error:
        raise ConfigError(f"{path} holds no number: {error}; remove it when no client of this server lives") from error
