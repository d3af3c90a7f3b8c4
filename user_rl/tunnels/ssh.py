"""SSH: through a jump host that both sides may reach, by asyncssh (extra `ssh`), with host checking always on.

One SSH connection per class of traffic. Keys and known hosts are read at each attempt, so what a person corrects is
taken up without a restart. No password, no compression, nobody's ~/.ssh/config.
"""

import asyncio
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from user_rl.errors import ConfigError, Unauthorized, Unreachable
from user_rl.trust import read_private
from user_rl.tunnels.session import Streams

if TYPE_CHECKING:
    import asyncssh

PORT = 22


@dataclass(frozen=True, kw_only=True)
class SshConfig:
    """How to reach a jump host, and who it must be."""

    via: str = ""  # USER@HOST or USER@HOST:PORT
    key_file: str = ""  # private key, mode 0600; empty: the agent's keys, with `agent`
    passphrase_file: str = ""  # of the key, mode 0600; empty: it has none
    agent: bool = False  # take the keys of the agent at SSH_AUTH_SOCK
    known_hosts: str = ""  # file with the jump host's key; --learn-host writes it
    keepalive_s: float = 5.0
    keepalive_missed: int = 3  # then it is opened again
    connect_s: float = 10.0  # for connecting and logging in

    def __post_init__(self) -> None:
        if self.keepalive_s <= 0 or self.keepalive_missed < 1 or self.connect_s <= 0:
            raise ValueError(
                f"keepalive_s = {self.keepalive_s}, keepalive_missed = {self.keepalive_missed}, connect_s = "
                f"{self.connect_s}, allowed more than 0; a half-open connection would never be noticed"
            )

    def check(self) -> None:
        """Raises ValueError naming what is missing for use."""
        split_via(self.via)
        if not self.known_hosts:
            raise ValueError(
                "ssh.known_hosts is empty, allowed a file with the jump host's key; --learn-host writes it"
            )
        if bool(self.key_file) == self.agent:
            raise ValueError(
                f"ssh.key_file = {self.key_file!r} and ssh.agent = {self.agent}, allowed one of them; give a key file, "
                "or agent=true"
            )


def split_via(via: str) -> tuple[str, str, int]:
    """(user, host, port) of USER@HOST[:PORT]; raises ValueError."""
    user, _, place = via.rpartition("@")
    host, colon, port = place.rpartition(":") if not place.endswith("]") else (place, "", "")
    host, port = (host, port) if colon else (place, str(PORT))
    host = host.strip("[]")
    if not user or not host or not port.isdecimal() or not 0 < int(port) <= 65535:
        raise ValueError(f"ssh.via = {via!r}, allowed USER@HOST or USER@HOST:PORT; correct it")
    return user, host, int(port)


async def open_ssh(config: SshConfig) -> "SshSession":
    """A session; raises ConfigError, Unauthorized (a person must act) or Unreachable."""
    check_library()
    import asyncssh

    user, host, port = split_via(config.via)
    known = Path(config.known_hosts).expanduser()
    if not known.is_file():
        raise ConfigError(f"ssh.known_hosts {known}: no such file; write it with user-rl-edge tunnel --learn-host")
    try:
        async with _keys(config) as keys:
            connection = await asyncssh.connect(
                host, port, username=user, known_hosts=str(known), client_keys=keys, agent_path=None, config=None,
                preferred_auth="publickey", compression_algs=None, keepalive_interval=config.keepalive_s,
                keepalive_count_max=config.keepalive_missed, connect_timeout=config.connect_s,
                login_timeout=config.connect_s, client_version="user-rl",
            )  # fmt: skip
    except asyncssh.HostKeyNotVerifiable as error:
        raise ConfigError(
            f"{host}:{port} is not the host in {known} ({error.reason}); NOTHING was sent. Find out why its key is "
            "another one, then user-rl-edge tunnel --learn-host"
        ) from error
    except asyncssh.PermissionDenied as error:
        raise Unauthorized(
            f"{host}:{port} does not let {user} in with {config.key_file or 'the keys of the agent'}: {error.reason}; "
            "add its public key to that user's authorized_keys"
        ) from error
    except (OSError, asyncssh.Error, ValueError) as error:
        raise Unreachable(f"no SSH at {host}:{port}: {error or type(error).__name__}") from error
    return SshSession(connection, f"{host}:{port}")


class SshSession:
    """See Session."""

    def __init__(self, connection: "asyncssh.SSHClientConnection", name: str) -> None:
        self.connection, self._name = connection, name

    async def dial(self, host: str, port: int) -> Streams:
        import asyncssh

        try:
            reader, writer = await self.connection.open_connection(host, port, encoding=None)
        except (asyncssh.Error, OSError) as error:
            reason = getattr(error, "reason", "") or str(error)
            raise Unreachable(f"{self._name} does not reach {host}:{port}: {reason}; see what listens there") from error
        return reader, writer

    async def lost(self) -> str:
        await self.connection.wait_closed()
        return f"{self._name} closed the connection or did not answer"

    def close(self) -> None:
        self.connection.abort()


@asynccontextmanager
async def _keys(config: SshConfig) -> "AsyncIterator[list[asyncssh.SSHKeyPair] | asyncssh.SSHKey]":
    """What to log in with; an agent's keys are its own, so it stays connected meanwhile."""
    import asyncssh

    if not config.agent:
        yield await asyncio.to_thread(_read_key, config)  # a passphrase is stretched on purpose: it takes a while
        return
    async with asyncssh.connect_agent(os.environ.get("SSH_AUTH_SOCK", "")) as agent:
        yield list(await agent.get_keys())


def _read_key(config: SshConfig) -> "asyncssh.SSHKey":
    import asyncssh

    path, word = Path(config.key_file).expanduser(), None
    if config.passphrase_file:
        word = read_private(Path(config.passphrase_file).expanduser()).decode().rstrip("\n")
    try:
        return asyncssh.import_private_key(read_private(path), word)
    except (asyncssh.KeyImportError, asyncssh.KeyEncryptionError) as error:
        raise ConfigError(
            f"ssh.key_file {path}: {error}; give a private key and the passphrase_file it needs"
        ) from error


def check_library() -> None:
    """Raises ConfigError where asyncssh is not installed."""
    try:
        import asyncssh  # noqa: F401
    except ImportError as error:
        raise ConfigError("tunnel.kind = ssh needs asyncssh, which is not here; pip install 'user-rl[ssh]'") from error
