"""Uplink: what to say to the gateway, and what its answers mean. No socket, no clock, no thread.

For each stream: Hello, Welcome(cursor), then committed rows from cursor + 1 on, as many as the window holds, and Ack.
An answer that does not come, a new connection, or a refusal lead back to Hello, and the cloud's cursor says again where
to go on: nothing is lost, and nothing that the cloud has is sent from the beginning. Streams of older boots of the same
run go first; streams of other runs wait. `next` proposes a message, `sent` takes it as sent, so a full queue costs
nothing.
"""

import logging
from collections import deque
from dataclasses import dataclass, field
from typing import Protocol

from edge.config import LinkConfig
from user_rl.log import Stored
from user_rl.rows import Schema
from user_rl.wire import Ack, Arrived, Hello, Message, Permit, Refused, Rows, Welcome

log = logging.getLogger(__name__)

FIRST_PAUSE_S = 0.2
LOOK_S = 1.0  # between two looks at which streams the spool has: after months they are many


class Source(Protocol):
    """What the uplink needs of the spool: committed rows only."""

    log_id: str
    epoch: int

    def streams(self) -> dict[str, Schema]: ...
    def synced(self, stream: str) -> int: ...
    def first_kept(self, stream: str) -> int: ...
    def stored(self, stream: str, first: int, max_bytes: int) -> list[Stored]: ...


Out = tuple[Message, bytes | None]


@dataclass
class _Stream:
    name: str
    welcomed: bool = False
    asked: bool = False  # a Hello is on its way
    acked: int = -1
    sent: int = -1
    in_flight: deque[tuple[int, int]] = field(default_factory=deque)  # (last step, bytes)
    ready: deque[Stored] = field(default_factory=deque)
    heard_s: float = 0.0  # when an answer last came, or the present question was asked
    not_before_s: float = 0.0
    pause_s: float = FIRST_PAUSE_S
    refusal: str = ""

    def restart(self, not_before_s: float) -> None:
        """Forgets everything that was sent; begins with Hello."""
        self.welcomed = self.asked = False
        self.in_flight.clear()
        self.ready.clear()
        self.not_before_s = not_before_s


class Uplink:
    """The state machine of one connection to a run's gateway."""

    def __init__(self, source: Source, config: LinkConfig, acknowledged: dict[str, int]) -> None:
        self._source, self._config = source, config
        self.acknowledged = dict(acknowledged)  # by stream: for trimming; the cloud's word replaces it
        self.chunk_bytes = config.chunk_bytes  # of one message of rows: the pace of the link
        self.permits: dict[str, tuple[Permit, int]] = {}  # newest by stream, and the cursor that it was counted at
        self._run, self._token, self._live, self._looked_s = "", 0, "", float("-inf")
        self._streams: dict[str, _Stream] = {}
        self._proposed: tuple[_Stream, Hello | Stored] | None = None

    def serve(self, run: str, token: int, live: str, now_s: float) -> None:
        """Which run's streams to send, in whose name, and which one is being recorded."""
        if (run, token) != (self._run, self._token):
            self._run, self._token = run, token
            self.reconnected(now_s)
        if live == self._live and now_s - self._looked_s < LOOK_S:
            return
        self._live, self._looked_s = live, now_s
        for name in self._source.streams():
            if name.endswith(f"/{run}") and name not in self._streams:
                self._streams[name] = _Stream(name, acked=self.acknowledged.get(name, -1))

    def reconnected(self, now_s: float) -> None:
        """Another connection: nothing that was sent counts."""
        self._streams = {n: s for n, s in self._streams.items() if n.endswith(f"/{self._run}")}
        self.permits = {name: permit for name, permit in self.permits.items() if name in self._streams}
        for stream in self._streams.values():
            stream.restart(now_s)
        self._proposed = None

    @property
    def gather_s(self) -> float:
        """How long rows that are being recorded may wait to travel together."""
        permit, _ = self.permits.get(self._live, (None, -1))
        return permit.gather_ms / 1e3 if permit is not None else 0.0

    @property
    def done(self) -> bool:
        """Whether the cloud has every committed row of the run."""
        return all(s.acked >= self._source.synced(s.name) for s in self._streams.values())

    def next(self, now_s: float) -> Out | None:
        """The message to send now; None: nothing to say."""
        self._proposed = self._hello(now_s) or self._rows()
        if self._proposed is None:
            return None
        stream, what = self._proposed
        if isinstance(what, Hello):
            return what, None
        return Rows(stream.name, what.first, what.count, what.digest, what.coded), what.data

    def sent(self, now_s: float) -> None:
        """What `next` proposed is on its way."""
        assert self._proposed is not None, "next() comes first"
        stream, what = self._proposed
        if isinstance(what, Hello):
            stream.asked, stream.heard_s = True, now_s
        else:
            if not stream.in_flight:
                stream.heard_s = now_s
            stream.ready.popleft()
            stream.sent = what.last
            stream.in_flight.append((what.last, len(what.data)))

    def receive(self, message: Message, payload: memoryview | None, now_s: float) -> None:
        """An answer of the gateway; one that fits nothing is dropped. None of them has a payload."""
        if isinstance(message, Arrived):  # a part of what was sent: on a thin link a whole message takes its time
            for waiting in self._streams.values():
                waiting.heard_s = now_s
            return
        name = message.stream if isinstance(message, Welcome | Ack | Permit | Refused) else ""
        stream = self._streams.get(name)
        if stream is None:
            if isinstance(message, Refused) and not name:
                log.warning("the gateway refused a message: %s (%s)", message.text, message.code)
            return
        stream.heard_s = now_s
        if isinstance(message, Welcome):
            self._welcome(stream, message)
        elif isinstance(message, Ack):
            self._ack(stream, message, now_s)
        elif isinstance(message, Permit):
            self.permits[name] = message, stream.acked
        elif isinstance(message, Refused):
            self._refused(stream, message, now_s)

    def _hello(self, now_s: float) -> tuple[_Stream, Hello] | None:
        for stream in self._streams.values():
            waits = stream.asked or bool(stream.in_flight) or (stream.welcomed and stream.name == self._live)
            if waits and now_s - stream.heard_s >= self._config.answer_s:
                if stream.in_flight:
                    log.warning("the gateway has not answered for %.0f s; asking where to go on", self._config.answer_s)
                stream.restart(now_s)
            if not stream.welcomed and not stream.asked and now_s >= stream.not_before_s:
                return stream, self._hello_of(stream.name)
        return None

    def _hello_of(self, name: str) -> Hello:
        source = self._source
        return Hello(
            stream=name, schema=source.streams()[name].encoded, log_id=source.log_id, epoch=source.epoch,
            first_kept=source.first_kept(name), last=source.synced(name), token=self._token,
        )  # fmt: skip

    def _rows(self) -> tuple[_Stream, Stored] | None:
        room = self._config.window_bytes - sum(size for s in self._streams.values() for _, size in s.in_flight)
        if room <= 0:
            return None
        for stream in self._streams.values():
            if stream.welcomed and not stream.ready and stream.sent < self._source.synced(stream.name):
                most = min(room, self.chunk_bytes)
                stream.ready.extend(self._source.stored(stream.name, stream.sent + 1, most))
            if stream.ready:
                return stream, stream.ready[0]
        return None

    def _welcome(self, stream: _Stream, message: Welcome) -> None:
        if not stream.asked:
            return  # a late answer to an older Hello
        first_kept = self._source.first_kept(stream.name)
        if first_kept > message.cursor + 1:
            log.warning("%s: rows %d to %d are kept nowhere", stream.name, message.cursor + 1, first_kept - 1)
        stream.welcomed, stream.asked = True, False
        stream.acked, stream.sent = message.cursor, max(message.cursor, first_kept - 1)
        self.acknowledged[stream.name] = message.cursor

    def _ack(self, stream: _Stream, message: Ack, now_s: float) -> None:
        if message.cursor > self._source.synced(stream.name):
            log.error("%s: row %d is acknowledged and was never sent; asking again", stream.name, message.cursor)
            stream.restart(now_s + self._config.answer_s)
        elif stream.welcomed and message.cursor > stream.acked:
            stream.acked, stream.pause_s, stream.refusal = message.cursor, FIRST_PAUSE_S, ""
            self.acknowledged[stream.name] = message.cursor
            while stream.in_flight and stream.in_flight[0][0] <= message.cursor:
                stream.in_flight.popleft()
            if message.cursor > stream.sent:  # it has what an older connection brought
                stream.ready.clear()
                stream.sent = message.cursor

    def _refused(self, stream: _Stream, message: Refused, now_s: float) -> None:
        if message.code == "moved" and message.text != stream.refusal:
            log.info("%s goes to another gateway; waiting for the fleet to say where", stream.name)
        elif message.code not in ("hello", "order") and message.text != stream.refusal:
            log.error("the gateway refuses %s: %s (%s); rows stay here", stream.name, message.text, message.code)
        if message.code not in ("hello", "order"):
            stream.refusal = message.text
        stream.restart(now_s + stream.pause_s)
        if message.code != "hello":
            stream.pause_s = min(2 * stream.pause_s, self._config.longest_pause_s)
