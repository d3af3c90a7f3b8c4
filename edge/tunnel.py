"""tunnel: the process that reaches the cloud for link. `python -m edge.tunnel`, started by edge.daemon, if configured.

It opens a way for each class of traffic that link names, keeps it open, and says where it begins here. It holds no
rows: killed at any instant, its successor opens the ways again and link goes on by the cloud's cursor.
"""

import argparse
import asyncio
import json
import logging
import random
import signal
import socket
from contextlib import suppress
from pathlib import Path

import msgspec

from edge.config import EdgeConfig
from edge.logs import set_up_logs
from edge.paths import DATAGRAM_BYTES, Found, Wanted
from edge.process import Exit, become_child, end_process, set_up_logging
from edge.shared import Shared
from user_rl.config import build
from user_rl.errors import ConfigError, UserRlError
from user_rl.tunnels import Traffic, Tunnel, make_tunnel

log = logging.getLogger(__name__)


class Desk:
    """Answers link's questions, one after the other."""

    def __init__(self, tunnel: Tunnel, line: socket.socket) -> None:
        self._tunnel, self._line = tunnel, line
        self._ways: dict[tuple[Traffic, str], str] = {}
        self._complaint = ""

    async def serve(self) -> None:
        """Until cancelled."""
        loop = asyncio.get_running_loop()
        self._line.setblocking(False)
        while True:
            data = await loop.sock_recv(self._line, DATAGRAM_BYTES)
            found = await self.answer(msgspec.msgpack.decode(data, type=Wanted))
            with suppress(BlockingIOError, ConnectionError):  # link is not there; it asks again
                self._line.send(msgspec.msgpack.encode(found))

    async def answer(self, wanted: Wanted) -> Found:
        """Opens what is new, ends what is not wanted any more, and says where everything is."""
        for traffic, remote in self._ways.keys() - set(wanted.ways):
            await self._tunnel.forget(traffic, remote)
            del self._ways[traffic, remote]
        for traffic, remote in wanted.ways:
            if (traffic, remote) not in self._ways:
                try:
                    self._ways[traffic, remote] = await self._tunnel.local(traffic, remote)
                except ConfigError as error:  # the cloud named it
                    self._complain(str(error))
        ways = tuple((traffic, remote, here) for (traffic, remote), here in self._ways.items())
        return Found(ways, self._tunnel.states())

    def _complain(self, what: str) -> None:
        if what != self._complaint:
            log.error("%s", what)
            self._complaint = what


async def run(config: EdgeConfig, line: socket.socket) -> None:
    """Keeps the tunnel until SIGTERM."""
    tunnel = make_tunnel(config.tunnel, random.Random())
    serving = asyncio.create_task(Desk(tunnel, line).serve())
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, serving.cancel)
    try:
        with suppress(asyncio.CancelledError):
            await serving
    finally:
        await tunnel.close()


def main(argv: list[str] | None = None) -> int:
    """Runs until SIGTERM; returns an `Exit`."""
    parser = argparse.ArgumentParser(prog="python -m edge.tunnel")
    parser.add_argument("--line", type=int, required=True, help="file descriptor of the socket to link")
    parser.add_argument("--shared", type=int, required=True, help="file descriptor of the shared memory")
    parser.add_argument("--config", type=Path, required=True)
    parser.add_argument("--parent", type=int, required=True, help="process id of the daemon")
    args = parser.parse_args(argv)
    become_child(args.parent)
    set_up_logging("tunnel")
    try:
        config = build(EdgeConfig, json.loads(args.config.read_text()))
        set_up_logs("tunnel", config.name, config.log, run=Shared(args.shared).run)
        asyncio.run(run(config, socket.socket(fileno=args.line)))
    except UserRlError as error:
        log.error("%s", error)
        return Exit.CONFIG if isinstance(error, ConfigError) else Exit.CRASH
    return Exit.CLEAN


if __name__ == "__main__":
    end_process(main())
