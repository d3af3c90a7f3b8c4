"""SOCKS5: through a proxy, which also resolves the names, by python-socks (extra `socks`).

A proxy has no connection that lasts: it counts as open once it has been reached, and as lost when it does not answer a
dial; then it is asked again with a growing pause.
"""

import asyncio
import socket
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from user_rl.errors import ConfigError, Unreachable
from user_rl.trust import read_private
from user_rl.tunnels.session import Streams
from user_rl.tunnels.tunnel import split_address

if TYPE_CHECKING:
    from python_socks.async_.asyncio import Proxy

KEEPALIVE_S, KEEPALIVE_MISSED = 5, 3


@dataclass(frozen=True, kw_only=True)
class SocksConfig:
    """Where a SOCKS5 proxy is."""

    proxy: str = ""  # HOST:PORT
    user: str = ""
    password_file: str = ""  # mode 0600
    connect_s: float = 10.0
    probe_s: float = 10.0  # between two looks whether it still answers

    def __post_init__(self) -> None:
        if self.connect_s <= 0 or self.probe_s <= 0:
            raise ValueError(
                f"connect_s = {self.connect_s}, probe_s = {self.probe_s}, allowed more than 0; change them"
            )

    def check(self) -> None:
        """Raises ValueError naming what is missing for use."""
        try:
            split_address(self.proxy)
        except ConfigError as error:
            raise ValueError(f"socks.proxy: {error}") from error
        if bool(self.user) != bool(self.password_file):
            raise ValueError(
                f"socks.user = {self.user!r} and socks.password_file = {self.password_file!r}, allowed both or none; "
                "give the other"
            )


async def open_socks(config: SocksConfig) -> "SocksSession":
    """A session once the proxy's port answers; raises ConfigError or Unreachable."""
    library()
    word = read_private(Path(config.password_file).expanduser()).decode().rstrip("\n") if config.password_file else None
    session = SocksSession(config, word)
    await session.probe()
    return session


class SocksSession:
    """See Session."""

    def __init__(self, config: SocksConfig, password: str | None) -> None:
        self._config, self._password = config, password
        self._host, self._port = split_address(config.proxy)
        self._lost: asyncio.Future[str] = asyncio.get_running_loop().create_future()

    async def probe(self) -> None:
        """Raises Unreachable when nothing listens at the proxy's address."""
        try:
            async with asyncio.timeout(self._config.connect_s):
                _, writer = await asyncio.open_connection(self._host, self._port)
        except OSError as error:
            raise Unreachable(f"no proxy at {self._config.proxy}: {error or 'no answer'}") from error
        writer.close()

    async def dial(self, host: str, port: int) -> Streams:
        from python_socks import ProxyConnectionError, ProxyError, ProxyTimeoutError

        try:
            tcp = await self._proxy().connect(host, port, timeout=self._config.connect_s)
        except ProxyError as error:
            raise Unreachable(f"the proxy {self._config.proxy} does not reach {host}:{port}: {error}") from error
        except (ProxyConnectionError, ProxyTimeoutError, OSError) as error:
            self._lose(str(error) or "no answer")
            raise Unreachable(f"no proxy at {self._config.proxy}: {error}") from error
        _notice_the_end(tcp)
        return await asyncio.open_connection(sock=tcp)

    async def lost(self) -> str:
        while True:
            done, _ = await asyncio.wait([self._lost], timeout=self._config.probe_s)
            if done:
                return self._lost.result()
            try:
                await self.probe()
            except Unreachable as error:
                return str(error)

    def close(self) -> None:
        self._lose("closed")

    def _lose(self, why: str) -> None:
        if not self._lost.done():
            self._lost.set_result(why)

    def _proxy(self) -> "Proxy":
        from python_socks import ProxyType
        from python_socks.async_.asyncio import Proxy

        user = self._config.user or None
        return Proxy(ProxyType.SOCKS5, self._host, self._port, username=user, password=self._password, rdns=True)


def _notice_the_end(tcp: socket.socket) -> None:
    """A proxy that vanished without a word is noticed by TCP itself."""
    tcp.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    tcp.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, KEEPALIVE_S)
    tcp.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPINTVL, KEEPALIVE_S)
    tcp.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPCNT, KEEPALIVE_MISSED)
    tcp.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, 1000 * KEEPALIVE_S * (KEEPALIVE_MISSED + 1))


def library() -> None:
    """Raises ConfigError where python-socks is not installed."""
    try:
        import python_socks.async_.asyncio  # noqa: F401
    except ImportError as error:
        raise ConfigError(
            "tunnel.kind = socks needs python-socks, which is not installed; pip install 'user-rl[socks]'"
        ) from error
