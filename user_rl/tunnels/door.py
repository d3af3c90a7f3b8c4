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
from collections.abc import Awaitable, Callable
from pathlib import Path

from user_rl.errors import Unreachable
from user_rl.tunnels.relay import relay
from user_rl.tunnels.session import Streams

log = logging.getLogger(__name__)

HOST = "127.0.0.1"
MAX_CONNECTIONS = 64  # at one door at a time
TABLE = Path("/proc/net/tcp")


class Door:
    """One address of the other side, here. `await Door.open(dial)`."""

    def __init__(self, dial: Callable[[], Awaitable[Streams]]) -> None:
        self._dial = dial
        self._server: asyncio.Server | None = None
        self._guests: set[asyncio.Task[None]] = set()
        self.address = ""

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
            log.warning("a connection to %s is turned away: another user's, or one too many", self.address)
            return writer.close()
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
            writer.close()


def is_ours(accepted: socket.socket, table: Path = TABLE) -> bool:
    """Whether the other end of a loopback connection belongs to this user or to root; True where nobody can tell."""
    try:
        lines = table.read_text().splitlines()[1:]
        wanted = [_key(accepted.getpeername()), _key(accepted.getsockname())]
    except OSError:
        return True
    owners = [int(fields[7]) for fields in map(str.split, lines) if fields[1:3] == wanted]
    return bool(owners) and owners[0] in (os.getuid(), 0)


def _key(address: tuple[str, int]) -> str:
    number = int.from_bytes(socket.inet_aton(address[0]), sys.byteorder)
    return f"{number:08X}:{struct.pack('>H', address[1]).hex().upper()}"
