"""Door: the listener on this machine behind which a tunnel's other side is.

It listens on the loopback address only, and turns away what another user's process has connected (Linux tells whose a
loopback connection is; where it does not, nobody is turned away). What goes through is encrypted from end to end, so
whoever got in would meet a server that knows only enrolled keys.
"""

import asyncio
import logging
import os
import socket
import struct
import sys
from collections.abc import Awaitable, Callable, Iterable
from pathlib import Path

from user_rl.errors import Unreachable
from user_rl.tunnels.relay import abandon, relay
from user_rl.tunnels.session import Streams

log = logging.getLogger(__name__)

HOST = "127.0.0.1"
MAX_CONNECTIONS = 64  # at one door at a time
TABLES = (Path("/proc/net/tcp"), Path("/proc/net/tcp6"))  # gRPC reaches IPv4 through IPv6 sockets


class Door:
    """One address of the other side, here. `await Door.open(dial)`."""

    def __init__(self, dial: Callable[[], Awaitable[Streams]]) -> None:
        self._dial = dial
        self._server: asyncio.Server | None = None
        self._guests: set[asyncio.Task[None]] = set()
        self.address = ""
        self._turned_away = 0

    @classmethod
    async def open(cls, dial: Callable[[], Awaitable[Streams]]) -> "Door":
        """Listens on a free port; `dial` makes the connection that a guest is joined to."""
        door = cls(dial)
        door._server = await asyncio.start_server(door._greet, HOST, 0)
        host, port = door._server.sockets[0].getsockname()
        door.address = f"{host}:{port}"
        return door

    async def close(self) -> None:
        """Ends the listener and its connections; safe to call twice."""
        if self._server is not None:
            self._server.close()
        for guest in self._guests:
            guest.cancel()
        await asyncio.gather(*self._guests, return_exceptions=True)

    def _greet(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if len(self._guests) >= MAX_CONNECTIONS or not is_ours(writer.get_extra_info("socket")):
            if not self._turned_away:
                log.warning("a connection to %s is turned away: another user's, or one too many", self.address)
            self._turned_away += 1
            return abandon(writer)
        guest = asyncio.ensure_future(self._join(reader, writer))
        self._guests.add(guest)
        guest.add_done_callback(self._guests.discard)
        return None

    async def _join(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            await relay((reader, writer), await self._dial())
        except Unreachable as error:
            log.debug("%s: %s", self.address, error)
        finally:
            abandon(writer)


def is_ours(accepted: socket.socket, tables: Iterable[Path] = TABLES) -> bool:
    """Whether the other end of a loopback connection belongs to this user or to root; True where nobody can tell."""
    try:
        lines = [line.split() for table in tables if table.exists() for line in table.read_text().splitlines()]
        far, near = _key(accepted.getpeername()), _key(accepted.getsockname())
    except OSError:
        return True
    owners = [int(line[7]) for line in lines if line[1].endswith(far) and line[2].endswith(near)]
    return not lines or (bool(owners) and owners[0] in (os.getuid(), 0))


def _key(address: tuple[str, int]) -> str:
    number = int.from_bytes(socket.inet_aton(address[0]), sys.byteorder)
    return f"{number:08X}:{struct.pack('>H', address[1]).hex().upper()}"
