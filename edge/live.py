"""LiveLine: the thread of link with the live socket: pings that measure the link, and what people watch.

It never waits for a disk or for bulk. Pings come often while bulk flows; each way is measured apart, by the answerer's
own stamps, so neither its queueing nor the other way counts. The newest state goes `live_hz` times a second at most,
pictures only as far as they are a few milliseconds of the link, and all of it is taken off bulk's budget.
"""

import logging
import math
import threading
from collections.abc import Callable
from dataclasses import dataclass

from edge.connection import heard_in_words
from edge.live_view import Seen, View
from edge.pace import PING_BYTES, Heard, Pace, Phase
from user_rl.channels import ClientChannel
from user_rl.clock import Clock, SystemClock
from user_rl.errors import ConfigError, WireError
from user_rl.trust import Bundle
from user_rl.wire import Live, Message, Picture, Ping, Pong, Timings, decode, encode

log = logging.getLogger(__name__)

WAIT_S = 0.1
SHARE = 0.1  # of the rate that the live stream takes at most


@dataclass(frozen=True)
class Spooled:
    """What the rest of link knows: the stream that is recorded, rows not acknowledged, bytes on disk."""

    run: str = ""
    boot: str = ""
    waiting_rows: int = 0
    spool_bytes: int = 0


class LiveLine:
    """Set `address` and `spooled`; `timings` returns the newest record of telemetry or None. `start`, then `close`."""

    def __init__(
        self, bundle: Bundle, view: View, up: Pace, down: Pace, live_hz: float, *,
        clock: Clock | None = None, timings: Callable[[], bytes | None] = lambda: None,
    ) -> None:  # fmt: skip
        self.address, self.spooled, self.timings = "", Spooled(), timings
        self._bundle, self._view, self._up, self._down, self._live_hz = bundle, view, up, down, live_hz
        self._clock = clock or SystemClock()
        self._channel: ClientChannel | None = None
        self._connected_to = ""
        self._heard_s: float | None = None  # on this connection
        self._told: bytes | None = None  # the record of telemetry that was said last
        self._ping_s = self._live_s = 0.0  # when the next is due
        self._was = (0.0, 0)  # when the last Live went, and what bulk had sent by then
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="live", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def state(self, now_s: float) -> str:
        """In words; `open` when pings are answered. Any thread."""
        return heard_in_words(self._heard_s, now_s) if self._connected_to else "no address yet"

    def close(self) -> None:
        """Ends the thread, if it was started; safe to call twice."""
        self._stopping.set()
        if self._thread.is_alive():
            self._thread.join()

    def _run(self) -> None:
        try:
            while not self._stopping.is_set():
                self._connect()
                if self._channel is None:
                    self._stopping.wait(WAIT_S)
                else:
                    self._turn(self._channel)
        finally:
            self._disconnect()

    def _connect(self) -> None:
        if self.address == self._connected_to:
            return
        self._disconnect()
        self._connected_to, self._heard_s = self.address, None
        try:
            if self.address:
                self._channel = ClientChannel(self.address, self._bundle.curve, self._bundle.server_curve_public)
        except ConfigError as error:
            log.error("%s; the fleet named it", error)

    def _disconnect(self) -> None:
        if self._channel is not None:
            self._channel.close()
            self._channel = None

    def _turn(self, channel: ClientChannel) -> None:
        now_s = self._clock.now_s()
        if now_s >= self._ping_s:
            self._ping_s = now_s + self._ping_every_s(now_s)
            self._say(channel, Ping(self._clock.now_s()))
            self._up.spent(PING_BYTES)
        elif self._live_hz and now_s >= self._live_s:
            self._show(channel, now_s)
        due_s = min(self._ping_s, self._live_s if self._live_hz else math.inf) - self._clock.now_s()
        frames = channel.receive(min(max(due_s, 0.0), WAIT_S))
        if frames is not None:
            self._hear(frames, self._clock.now_s())

    def _ping_every_s(self, now_s: float) -> float:
        """As often as one way asks for, and no more than the other can carry beside its bulk."""
        often_s = min(self._up.ping_every_s(now_s), self._down.ping_every_s(now_s))
        return max(often_s, self._up.ping_rest_s, self._down.ping_rest_s)

    def _say(self, channel: ClientChannel, message: Message, *payloads: bytes) -> bool:
        return channel.send(encode(message, *payloads))

    def _hear(self, frames: list[memoryview], now_s: float) -> None:
        try:
            message, _ = decode(frames)
        except WireError as error:
            return log.warning("from %s: %s", self._connected_to, error)
        self._heard_s = now_s
        if isinstance(message, Pong) and _sound(message, now_s):
            both_s = now_s - message.sent_s - (message.left_s - message.came_s)
            self._up.hear(Heard(message.sent_s, message.came_s - message.sent_s, both_s))
            self._down.hear(Heard(message.sent_s, now_s - message.left_s, both_s))
        return None

    def _show(self, channel: ClientChannel, now_s: float) -> None:
        """The newest state, then what pictures the link can take."""
        seen = self._view.look()
        size = 400 + len(seen.robot)
        if self._say(channel, self._live(seen, now_s)):
            for camera, image in seen.images.items():
                size += self._picture(channel, camera, image, seen.step)
            size += self._tell_timings(channel)
        self._up.spent(size)
        self._live_s = now_s + max(1 / self._live_hz, 0.0 if self._free else size / (SHARE * self._up.rate))

    def _tell_timings(self, channel: ClientChannel) -> int:
        """The newest record, once; its size."""
        record = self.timings()
        if record is None or record is self._told or not self._say(channel, Timings(record)):
            return 0
        self._told = record
        return len(record)

    @property
    def _free(self) -> bool:
        return self._up.phase == Phase.FAST

    def _picture(self, channel: ClientChannel, camera: str, image: object, step: int) -> int:
        most = 2**16 if self._free else self._up.rate * self._up.config.target_ms / 1e3
        data = self._view.picture(image, most)  # type: ignore[arg-type]
        if data is None:
            return 0
        self._say(channel, Picture(camera, step), data)
        return len(data)

    def _live(self, seen: Seen, now_s: float) -> Live:
        then_s, then = self._was
        self._was = (now_s, self._up.total)
        rate = (self._up.total - then) / (now_s - then_s) if then_s else 0.0
        report, spooled = seen.report, self.spooled
        return Live(
            cell=self._view.cell, run=spooled.run, boot=spooled.boot, episode=report.episode, step=seen.step,
            state=str(report.state), version=report.version, stamp_s=seen.stamp_s, robot=seen.robot,
            steps_per_s=report.steps_per_s, late=report.late, round_trip_s=self._up.round_trip.value,
            queue_s=self._up.queue_s, pace_bytes_s=0.0 if self._free else self._up.rate, sent_bytes_s=max(0.0, rate),
            waiting_rows=spooled.waiting_rows, spool_bytes=spooled.spool_bytes,
        )  # fmt: skip


def _sound(pong: Pong, now_s: float) -> bool:
    """Whether its times can be: what a server answers decides how fast bulk goes."""
    took_s = pong.left_s - pong.came_s
    return all(map(math.isfinite, (pong.sent_s, pong.came_s, pong.left_s))) and 0 <= took_s <= now_s - pong.sent_s
