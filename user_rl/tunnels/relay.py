"""Relay: bytes both ways between two connections, with neither side's backlog growing.

At most one piece per direction is in hand; `drain` waits for the slower side, and the faster one is then not read, so
TCP's and SSH's windows hold back whoever sends.
"""

import asyncio
import logging

from user_rl.tunnels.session import Reader, Streams, Writer

log = logging.getLogger(__name__)

PIECE_BYTES = 2**16


async def relay(one: Streams, other: Streams) -> None:
    """Returns when both sides have ended, or as soon as either breaks; closes both."""
    ways = [asyncio.ensure_future(_pump(one[0], other[1])), asyncio.ensure_future(_pump(other[0], one[1]))]
    try:
        await asyncio.wait(ways, return_when=asyncio.FIRST_EXCEPTION)
    finally:
        for way in ways:
            way.cancel()
        ends = await asyncio.gather(*ways, return_exceptions=True)
        for end in ends:
            if isinstance(end, Exception):  # a connection that breaks: of asyncio or of asyncssh
                log.debug("a relayed connection broke: %r", end)
        for _, writer in (one, other):
            abandon(writer) if any(ends) else writer.close()


def abandon(writer: Writer) -> None:
    """Closes a connection at once, whatever has not been read of it."""
    if isinstance(writer, asyncio.StreamWriter):
        writer.transport.abort()
    else:
        writer.close()


async def _pump(reader: Reader, writer: Writer) -> None:
    while data := await reader.read(PIECE_BYTES):
        writer.write(data)
        await writer.drain()
    if writer.can_write_eof():
        writer.write_eof()
