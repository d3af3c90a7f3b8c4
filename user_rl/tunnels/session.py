"""Session: one opened way, and the keeper that opens it, notices its end, and opens it again."""

import asyncio
import logging
from collections.abc import Awaitable, Callable
from typing import Protocol

from user_rl.errors import ConfigError, Unauthorized, Unreachable
from user_rl.tunnels.backoff import Backoff
from user_rl.tunnels.tunnel import OPEN

log = logging.getLogger(__name__)

FRESH_S = 10.0  # a failed dial is told of for so long
WELL = ("", float("-inf"))  # no dial has failed


class Reader(Protocol):
    """The half of asyncio's and asyncssh's streams that is read."""

    async def read(self, n: int = -1, /) -> bytes: ...


class Writer(Protocol):
    """The half that is written; `drain` holds back whoever writes faster than the other side reads."""

    def write(self, data: bytes, /) -> None: ...
    async def drain(self) -> None: ...
    def can_write_eof(self) -> bool: ...
    def write_eof(self) -> None: ...
    def close(self) -> None: ...


Streams = tuple[Reader, Writer]


class Session(Protocol):
    """A way that is open."""

    async def dial(self, host: str, port: int) -> Streams:
        """A connection to an address on the other side; raises Unreachable."""

    async def lost(self) -> str:
        """Returns when the way is gone, with the reason."""

    def close(self) -> None:
        """Ends it with all its connections; safe to call twice."""


class Keeper:
    """Keeps one session open."""

    def __init__(self, name: str, open_session: Callable[[], Awaitable[Session]], backoff: Backoff) -> None:
        self._name, self._open, self._backoff = name, open_session, backoff
        self._session: Session | None = None
        self._why, self._told = "not open yet", ""
        self._failed: tuple[str, float] = WELL
        self._task = asyncio.create_task(self._run(), name=f"keep {name}")

    @property
    def state(self) -> str:
        """In words; raises what ended the watch, if anything did: a bug, and the process is better begun anew."""
        if self._task.done() and not self._task.cancelled():
            self._task.result()
        if self._session is None:
            return self._why
        what, when_s = self._failed
        return f"{OPEN}; {what}" if asyncio.get_running_loop().time() - when_s < FRESH_S else OPEN

    async def dial(self, host: str, port: int) -> Streams:
        """A connection through the session; raises Unreachable, at once while there is none."""
        if self._session is None:
            raise Unreachable(f"the {self._name} is not open: {self._why}; it opens again by itself")
        try:
            return await self._session.dial(host, port)
        except Unreachable as error:
            self._failed = str(error), asyncio.get_running_loop().time()
            raise

    async def close(self) -> None:
        """Ends the session and the watch over it; safe to call twice."""
        self._task.cancel()
        await asyncio.gather(self._task, return_exceptions=True)
        self._end()

    async def _run(self) -> None:
        while True:
            await asyncio.sleep(self._backoff.pause_s(await self._once()))

    async def _once(self) -> float:
        """Opens and watches; returns how long it was open."""
        now_s = asyncio.get_running_loop().time
        try:
            self._session = await self._open()
        except (ConfigError, Unauthorized, Unreachable) as error:
            self._say(logging.WARNING if isinstance(error, Unreachable) else logging.ERROR, str(error))
            return 0.0
        log.info("the %s is open", self._name)
        self._told, self._failed, began_s = "", WELL, now_s()
        why = await self._session.lost()
        self._end()
        self._say(logging.WARNING, f"lost: {why}")
        return now_s() - began_s

    def _say(self, level: int, why: str) -> None:
        self._why = why
        if why != self._told:
            log.log(level, "the %s is not open: %s", self._name, why)
            self._told = why

    def _end(self) -> None:
        if self._session is not None:
            self._session.close()
            self._session = None
