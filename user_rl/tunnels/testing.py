"""check_tunnel: the contract of a tunnel as a program. It needs a server to reach and nothing else."""

import asyncio
from collections.abc import Awaitable, Callable

from user_rl.errors import ConfigError
from user_rl.tunnels.tunnel import OPEN, Traffic, Tunnel, split_address

ANSWER_S = 20.0
SIZE = 2**20  # bytes that go there and back


async def check_tunnel(make: Callable[[], Tunnel], remote: str) -> None:
    """Raises AssertionError where a tunnel does not keep its contract. `remote`: a server that echoes what it reads."""
    tunnel = make()
    try:
        here = await tunnel.local(Traffic.LIVE, remote)
        split_address(here)
        assert await tunnel.local(Traffic.LIVE, remote) == here, "an address stays the same"
        data = bytes(range(256)) * (SIZE // 256)
        await _try_until(lambda: _echoes(here, data), "bytes arrive, all of them and in order")
        assert tunnel.states()[Traffic.LIVE].startswith(OPEN), tunnel.states()
        assert Traffic.WEIGHTS not in tunnel.states(), "what nobody asked for is not opened"
        await _check_several(tunnel, remote)
        await _check_nonsense(tunnel)
        await tunnel.forget(Traffic.LIVE, remote)
        await tunnel.forget(Traffic.LIVE, remote)
        assert Traffic.LIVE not in tunnel.states(), "what was forgotten is closed"
    finally:
        await tunnel.close()
        await tunnel.close()
    assert tunnel.states() == {}, "closed is closed"


async def _check_several(tunnel: Tunnel, remote: str) -> None:
    there = await tunnel.local(Traffic.EXPERIENCE, remote)
    await _try_until(lambda: _echoes(there, b"other"), "another class works beside the first")
    both = await asyncio.gather(_echoes(there, b"one" * 1000), _echoes(there, b"two" * 1000))
    assert all(both), "connections do not mix"


async def _check_nonsense(tunnel: Tunnel) -> None:
    for nonsense in ("", "host", "host:", ":1", "host:0", "host:65536", "host:x"):
        try:
            await tunnel.local(Traffic.FLEET, nonsense)
        except ConfigError:
            continue
        raise AssertionError(f"{nonsense!r} is no address and was taken")
    assert Traffic.FLEET not in tunnel.states(), "nonsense opens nothing"


async def _echoes(address: str, data: bytes) -> bool:
    try:
        reader, writer = await asyncio.open_connection(*split_address(address))
    except OSError:
        return False
    try:
        writer.write(data)
        return await reader.readexactly(len(data)) == data
    except (OSError, EOFError):
        return False
    finally:
        writer.close()


async def _try_until(attempt: Callable[[], Awaitable[bool]], what: str) -> None:
    try:
        async with asyncio.timeout(ANSWER_S):
            while not await attempt():
                await asyncio.sleep(0.02)
    except TimeoutError:
        raise AssertionError(f"not within {ANSWER_S:.0f} s: {what}") from None
