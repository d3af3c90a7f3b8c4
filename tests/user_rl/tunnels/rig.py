"""A real OpenSSH server as an ordinary process, a small SOCKS5 proxy, and an echo: all on loopback."""

import asyncio
import getpass
import os
import shutil
import signal
import socket
import struct
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Self

import pytest

SSHD = shutil.which("sshd", path=f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin")
needs_sshd = pytest.mark.skipif(
    SSHD is None or shutil.which("ssh-keygen") is None, reason="no OpenSSH server here: install openssh-server"
)

CONFIG = """
ListenAddress 127.0.0.1
Port {port}
HostKey {folder}/host
AuthorizedKeysFile {folder}/authorized_keys
PidFile none
UsePAM no
StrictModes no
PasswordAuthentication no
KbdInteractiveAuthentication no
PermitRootLogin prohibit-password
AllowTcpForwarding yes
GatewayPorts no
MaxStartups 100
LogLevel VERBOSE
"""


def free_port() -> int:
    """A port that was free a moment ago."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def make_key(path: Path, *kind: str, passphrase: str = "") -> None:
    """A pair, `path` and `path`.pub; of ed25519 where no other `kind` is said."""
    argv = ["ssh-keygen", "-q", *(kind or ("-t", "ed25519")), "-N", passphrase, "-f", str(path)]
    subprocess.run(argv, check=True)


class Sshd:
    """One OpenSSH server with a folder of its own."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir(parents=True)
        self.folder, self.port = folder, free_port()
        make_key(folder / "host")
        make_key(folder / "user")
        self.allow("user")
        self.known_hosts = folder / "known_hosts"
        kind, key = (folder / "host.pub").read_text().split()[:2]
        self.known_hosts.write_text(f"[127.0.0.1]:{self.port} {kind} {key}\n")
        (folder / "config").write_text(CONFIG.format(port=self.port, folder=folder))
        self.process: subprocess.Popen[bytes] | None = None

    @property
    def via(self) -> str:
        return f"{getpass.getuser()}@127.0.0.1:{self.port}"

    @property
    def said(self) -> str:
        return (self.folder / "log").read_text()

    def allow(self, name: str) -> None:
        """Lets the key NAME.pub of its folder in, and no other."""
        shutil.copy(self.folder / f"{name}.pub", self.folder / "authorized_keys")

    def start(self) -> None:
        if os.getuid() == 0:
            Path("/run/sshd").mkdir(exist_ok=True)  # where a server of root's leaves its privileges
        deadline_s = time.monotonic() + 30
        while not self._answers():
            assert time.monotonic() < deadline_s, self.said
            if self.process is None or self.process.poll() is not None:  # also while another's socket has its port
                self._spawn()
            time.sleep(0.02)

    def _spawn(self) -> None:
        assert SSHD is not None
        with (self.folder / "log").open("ab") as out:
            argv = [SSHD, "-D", "-e", "-f", str(self.folder / "config")]
            self.process = subprocess.Popen(argv, stdout=out, stderr=out, start_new_session=True)

    def _answers(self) -> bool:
        if self.process is None:
            return False
        try:
            with socket.create_connection(("127.0.0.1", self.port), 5.0) as probe:
                return probe.recv(4) == b"SSH-"
        except OSError:
            return False

    def signal(self, number: signal.Signals) -> None:
        """To the server and every process that serves a connection."""
        assert self.process is not None
        for pid in [*self._served(self.process.pid), self.process.pid]:
            with suppress(ProcessLookupError):  # a connection may have ended meanwhile
                os.kill(pid, number)

    def kill(self) -> None:
        """Ends all of it at once; safe to call twice."""
        if self.process is not None:
            self.signal(signal.SIGKILL)
            self.process.wait()
            self.process = None

    def _served(self, pid: int) -> list[int]:
        try:
            children = [int(p) for p in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
        except OSError:
            return []
        return [found for child in children for found in (*self._served(child), child)]


@contextmanager
def sshd(folder: Path) -> Iterator[Sshd]:
    """A server that runs."""
    server = Sshd(folder)
    server.start()
    try:
        yield server
    finally:
        server.kill()


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
