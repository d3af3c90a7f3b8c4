"""delay: a TCP proxy on loopback that holds every byte for a while, in order, in both directions.

It needs no privilege, so it runs where namespaces do not. It is not a network: nothing is lost, and neither side's TCP
sees the delay. `delay_s` is of one way and may be changed at any time.
"""

import asyncio
import threading
from collections.abc import Coroutine
from types import TracebackType
from typing import Any, Self

CHUNK_BYTES = 65536


class DelayProxy:
    """A context: `address` leads to `target` (both tcp://HOST:PORT), later."""

    def __init__(self, target: str, delay_s: float, listen: tuple[str, int] = ("127.0.0.1", 0)) -> None:
        host, _, port = target.removeprefix("tcp://").rpartition(":")
        self._target, self.delay_s = (host, int(port)), delay_s
        self._listen_at, self.address = listen, ""
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="delay", daemon=True)
        self._tasks: set[asyncio.Task[None]] = set()
        self._server: asyncio.Server | None = None

    def __enter__(self) -> Self:
        self._thread.start()
        self._do(self._listen())
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._do(self._end())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    def _do(self, work: Coroutine[Any, Any, None]) -> None:
        asyncio.run_coroutine_threadsafe(work, self._loop).result(10.0)

    async def _listen(self) -> None:
        self._server = await asyncio.start_server(self._serve, *self._listen_at)
        host, port = self._server.sockets[0].getsockname()
        self.address = f"tcp://{host}:{port}"

    async def _end(self) -> None:
        if self._server is not None:
            self._server.close()
        tasks = list(self._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        try:
            far_reader, far_writer = await asyncio.open_connection(*self._target)
            try:
                ways = [self._carry(reader, far_writer), self._carry(far_reader, writer)]
                running = [asyncio.ensure_future(way) for way in ways]
                await asyncio.wait(running, return_when=asyncio.FIRST_COMPLETED)
                for way in running:
                    way.cancel()
                await asyncio.gather(*running, return_exceptions=True)
            finally:
                far_writer.close()
        except (OSError, asyncio.CancelledError):
            pass  # nobody there, or the end of the proxy: the near side is closed and tries again
        finally:
            writer.close()
            self._tasks.discard(task)

    async def _carry(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        held: asyncio.Queue[tuple[float, bytes]] = asyncio.Queue()
        sending = asyncio.ensure_future(self._release(held, writer))
        try:
            while data := await reader.read(CHUNK_BYTES):
                held.put_nowait((self._loop.time() + self.delay_s, data))
        finally:
            sending.cancel()

    async def _release(self, held: "asyncio.Queue[tuple[float, bytes]]", writer: asyncio.StreamWriter) -> None:
        while True:
            when_s, data = await held.get()
            await asyncio.sleep(max(0.0, when_s - self._loop.time()))
            writer.write(data)
            await writer.drain()
