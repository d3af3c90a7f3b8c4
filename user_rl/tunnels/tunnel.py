"""Tunnel: what every kind does. asyncio, one event loop."""

from enum import StrEnum
from typing import Protocol

from user_rl.errors import ConfigError


class Traffic(StrEnum):
    """What travels: each class has a connection of its own, so that bulk never delays an action."""

    FLEET = "fleet"
    EXPERIENCE = "experience"
    WEIGHTS = "weights"
    LIVE = "live"
    INFERENCE = "inference"


class Tunnel(Protocol):
    """A way to addresses. It opens what is asked for, watches it, and opens it again until closed."""

    async def local(self, traffic: Traffic, remote: str) -> str:
        """Where to connect to, here, for `remote` (HOST:PORT); at once, and the same one for ever.

        While the way is not open, whoever connects there is turned away and tries again. Raises ConfigError for what
        is no address.
        """

    async def forget(self, traffic: Traffic, remote: str) -> None:
        """Ends what `local` began for this address, with its connections; unknown ones are ignored."""

    def states(self) -> dict[Traffic, str]:
        """How each class's way is, in words for a person; `open` when it is."""

    async def close(self) -> None:
        """Ends everything; safe to call twice."""


OPEN = "open"


def split_address(address: str) -> tuple[str, int]:
    """(host, port) of HOST:PORT or [IPV6]:PORT; raises ConfigError."""
    host, _, port = address.rpartition(":")
    host = host[1:-1] if host.startswith("[") and host.endswith("]") else host
    if not host or not port.isdecimal() or not 0 < int(port) <= 65535:
        raise ConfigError(f"address {address!r}, allowed HOST:PORT with a port of 1 to 65535; correct it")
    return host, int(port)
