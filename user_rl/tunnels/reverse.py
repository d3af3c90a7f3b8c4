"""Reverse: where the cloud, too, can only dial out. It asks a jump host to listen, and what connects there comes here.

Each port has an SSH connection of its own, kept open as a tunnel's is. The jump host listens on its own loopback
address (sshd's `GatewayPorts no`), where the robots' SSH tunnels come out.
"""

import random
from collections.abc import Sequence
from dataclasses import dataclass

from user_rl.errors import ConfigError, Unauthorized
from user_rl.tunnels.backoff import Backoff, BackoffConfig
from user_rl.tunnels.session import Keeper
from user_rl.tunnels.ssh import SshConfig, SshSession, open_ssh
from user_rl.tunnels.tunnel import split_address

LISTEN = "127.0.0.1"


@dataclass(frozen=True, kw_only=True)
class Port:
    """A port on the jump host, and the address here that it stands for."""

    number: int
    host: str
    port: int

    def __str__(self) -> str:
        return f"port {self.number} for {self.host}:{self.port}"


def port_from_text(text: str) -> Port:
    """PORT or PORT:HOST:PORT; raises ConfigError."""
    number, colon, address = text.partition(":")
    if not number.isdecimal() or not 0 < int(number) <= 65535:
        raise ConfigError(f"port {text!r}, allowed PORT or PORT:HOST:PORT with ports of 1 to 65535; correct it")
    host, port = split_address(address if colon else f"127.0.0.1:{number}")
    return Port(number=int(number), host=host, port=port)


class Reverse:
    """Keeps the jump host listening until closed. Make it inside an event loop."""

    def __init__(self, config: SshConfig, ports: Sequence[Port], backoff: BackoffConfig, chance: random.Random) -> None:
        self._keepers = {
            port: Keeper(f"reverse tunnel, {port}", _Opening(config, port), Backoff(backoff, chance)) for port in ports
        }

    def states(self) -> dict[str, str]:
        """How each port is, in words."""
        return {str(port): keeper.state for port, keeper in self._keepers.items()}

    async def close(self) -> None:
        """Ends everything; safe to call twice."""
        for keeper in self._keepers.values():
            await keeper.close()


@dataclass(frozen=True)
class _Opening:
    """A connection on which the jump host listens for one port."""

    config: SshConfig
    port: Port

    async def __call__(self) -> SshSession:
        import asyncssh

        session = await open_ssh(self.config)
        port = self.port
        try:
            await session.connection.forward_remote_port(LISTEN, port.number, port.host, port.port)
        except (asyncssh.Error, asyncssh.ChannelListenError) as error:
            session.close()
            raise Unauthorized(
                f"{self.config.via} does not listen on {LISTEN}:{port.number}: {error}; free the port there (an "
                "old connection's may linger), or allow it in its sshd_config (AllowTcpForwarding, PermitListen)"
            ) from error
        return session
