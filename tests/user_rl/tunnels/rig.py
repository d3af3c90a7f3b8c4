"""A small SOCKS5 proxy and an echo on loopback, beside a real sshd (scripts.netlab.sshd) where there is one."""

import asyncio
import socket
import struct
from collections.abc import Callable
from typing import Self

import pytest

from scripts.netlab.sshd import no_sshd

needs_sshd = pytest.mark.skipif(bool(no_sshd()), reason=no_sshd())


class Echo:
    """A server that answers with what it reads; `stalled` connections read nothing."""

    def __init__(self) -> None:
        self.connections, self.stalled = 0, False
        self._server: asyncio.Server | None = None
        self._tasks: set[asyncio.Task[None]] = set()
        self.address = ""

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._greet, "127.0.0.1", 0)
        self.address = f"127.0.0.1:{self._server.sockets[0].getsockname()[1]}"
        return self

    async def __aexit__(self, *_: object) -> None:
        assert self._server is not None
        self._server.close()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def _greet(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        self._tasks.add(asyncio.ensure_future(self._serve(reader, writer)))

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while not self.stalled and (data := await reader.read(2**16)):
                writer.write(data)
                await writer.drain()
            if self.stalled:
                await asyncio.Event().wait()
        finally:
            writer.close()


class Proxy(Echo):
    """A SOCKS5 proxy (RFC 1928, 1929) that knows one user, and resolves `echo.lab` by itself."""

    def __init__(self, user: str = "", password: str = "") -> None:
        super().__init__()
        self._login = user, password
        self.asked: list[str] = []

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            _, count = await reader.readexactly(2)
            await reader.readexactly(count)
            if not await self._admits(reader, writer):
                return
            host, port = await self._request(reader)
            self.asked.append(host)
            try:
                far = await asyncio.open_connection({"echo.lab": "127.0.0.1"}.get(host, host), port)
            except OSError:
                writer.write(b"\x05\x05\x00\x01" + bytes(6))
                return
            writer.write(b"\x05\x00\x00\x01" + bytes(6))
            await asyncio.gather(_copy(reader, far[1]), _copy(far[0], writer))
        except (OSError, EOFError):
            pass
        finally:
            writer.close()

    async def _admits(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        if not self._login[0]:
            writer.write(b"\x05\x00")
            return True
        writer.write(b"\x05\x02")
        _, size = await reader.readexactly(2)
        user = await reader.readexactly(size)
        password = await reader.readexactly((await reader.readexactly(1))[0])
        admitted = (user.decode(), password.decode()) == self._login
        writer.write(b"\x01\x00" if admitted else b"\x01\x01")
        return admitted

    async def _request(self, reader: asyncio.StreamReader) -> tuple[str, int]:
        _, _, _, kind = await reader.readexactly(4)
        if kind == 3:
            host = (await reader.readexactly((await reader.readexactly(1))[0])).decode()
        else:
            host = socket.inet_ntoa(await reader.readexactly(4))
        return host, struct.unpack(">H", await reader.readexactly(2))[0]


async def _copy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while data := await reader.read(2**16):
        writer.write(data)
        await writer.drain()
    writer.close()


async def until(condition: Callable[[], bool], within_s: float = 30.0) -> None:
    """Returns when `condition()` is true; fails after `within_s`."""
    async with asyncio.timeout(within_s):
        while not condition():
            await asyncio.sleep(0.02)
