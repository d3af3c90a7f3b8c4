"""How fast bulk may go one way of a link, so that what waits in its queues delays nothing else by more than 10 ms.

Three signals. *Delays*: how long pings take this way; the lowest of the last 10 s is the way itself, what is above it
is queueing. The lowest of some pings in a row counts: a queue delays all of them, a busy processor or a radio some.
*Arrivals*: what the other side has of what was sent; so the rate that the link delivers, and the bytes in flight,
wherever they wait (ZeroMQ's pipe, the kernel's buffer, the link). *Silence*: pings without an answer.

The rate doubles until the first queue. When the queue is longer than the target, the rate falls below what was
delivered, stays there until the queue is gone, comes back nearly to where it was and creeps on. Who has more creeps
slower in proportion, which makes the shares of several edges alike. Well above its last peak it grows faster: the link
has changed. A link that delivers `fast_bytes_s` is not paced: there a message is no 10 ms, and what delays a ping is a
busy processor. Without any answered ping (no live socket) nothing is paced either.

Pure: times come as arguments. One owner; `hear` and `spent` may be called by another thread.
"""

import math
from collections import deque
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from edge.pace_meters import Lowest, Meter
from user_rl.errors import ConfigError

PIECE_OVERHEAD: Final = 150  # bytes of headers, CURVE, TCP and IP around a piece
PACKET: Final = 1200  # the smallest piece
PING_BYTES: Final = 200  # of a ping, with its headers
UNSURE_BYTES_S: Final = 200e3  # below it a piece takes so long that few pings tell nothing
UNHEARD_S: Final = 3.0  # without any answer for so long: nobody answers pings
TOLD_PIECES: Final = 4  # are told of at once
LAG_S: Final = 0.02  # within which an arrival is told
TOGETHER_S: Final = 0.002  # pings that arrive so shortly after one another waited for the first of them
ALL: Final = 2**62  # bytes
DEBT_S: Final = 0.25  # of the rate: what others may have taken in advance
OTHERS_S: Final = 0.5  # without any bulk before a ping: the queue that it found is somebody else's
LONG_S: Final = 1.8  # what arrives in so long is what the link delivers, bursts and losses included
SURE_S: Final = 0.2  # of a queue that does not go: the link is slower than it was
LEAST_CHUNK: Final = 16 * 2**10  # bytes


class Phase(StrEnum):
    """What the rate does."""

    START = "start"  # doubles
    STEADY = "steady"  # creeps
    DRAINING = "draining"  # waits for the queue to go
    FAST = "fast"  # nothing is held back


@dataclass(frozen=True, kw_only=True)
class PaceConfig:
    """Targets and bounds of the pace of bulk."""

    target_ms: float = 4.0  # of queueing: the rate falls
    limit_ms: float = 10.0  # it falls by more
    first_bytes_s: float = 250e3
    floor_bytes_s: float = 8e3
    fast_bytes_s: float = 40e6  # a link that delivers so much is not paced
    piece_ms: float = 2.0  # of the link, in one piece
    creep: float = 0.03  # growth in a second, at 2.5 MB/s
    base_s: float = 10.0  # the lowest delay within so long is the way itself
    silence_s: float = 1.0  # a ping without an answer for so long is lost

    def __post_init__(self) -> None:
        if not 0 < self.target_ms < self.limit_ms:
            text = f"link.pace.target_ms = {self.target_ms:g}, allowed above 0 and below limit_ms = {self.limit_ms:g}"
            raise ConfigError(f"{text}; leave both out for 4 and 10")
        if not 0 < self.floor_bytes_s <= self.first_bytes_s <= self.fast_bytes_s:
            text = f"{self.floor_bytes_s:g}, {self.first_bytes_s:g}, {self.fast_bytes_s:g}"
            raise ConfigError(
                f"link.pace.floor, first, fast_bytes_s = {text}, allowed above 0 in this order; mend them"
            )
        if min(self.piece_ms, self.creep, self.base_s, self.silence_s) <= 0:
            text = f"{self.piece_ms:g}, {self.creep:g}, {self.base_s:g}, {self.silence_s:g}"
            raise ConfigError(f"link.pace.piece_ms, creep, base_s, silence_s = {text}, allowed above 0; mend them")


@dataclass(frozen=True)
class Heard:
    """An answered ping: when it was sent, how long it took this way (plus any constant) and both ways."""

    sent_s: float
    delay_s: float
    round_trip_s: float


class Pace:
    """The token bucket of one direction, and what it knows of the link."""

    def __init__(self, config: PaceConfig, now_s: float) -> None:
        self.config = config
        self.phase = Phase.START
        self.rate = config.first_bytes_s  # bytes/s
        self.queue_s = 0.0  # the newest estimate of what waits
        self.in_flight = 0
        self._way, self.round_trip = Lowest(config.base_s), Lowest(config.base_s)
        self._sent, self._arrived = Meter(), Meter()
        self._inbox: deque[Heard | int] = deque(maxlen=1000)
        self._few: deque[float] = deque(maxlen=8)  # what the newest pings waited
        self._came_s = 0.0  # when the newest of them arrived there
        self._peak, self._back = self.rate, 1.0  # the rate at the last queue, and the share of it to come back to
        self._noise_s, self._pings = 0.0, 0  # how much one ping differs from the next, of how many
        self._tokens, self._filled_s = 0.0, now_s
        self._fell_s = self._grew_s = self._clear_s = now_s
        self._heard_s, self._ever, self._silences = now_s, False, 0
        self._doubted = False  # whether the rate has fallen to see if the queue is one
        self._hungry_s = self._sent_s = float("-inf")  # when there last was something to send; when it went

    @property
    def piece_bytes(self) -> int:
        """2 ms of the link: a packet on 5 Mbit/s, 8 kB on 32 Mbit/s."""
        return max(PACKET, int(self.rate * self.config.piece_ms / 1e3))

    @property
    def told_every_s(self) -> float:
        """How long it takes until as much is sent as an arrival tells of, twice over."""
        return 2 * TOLD_PIECES * self.piece_bytes / self.rate

    @property
    def window_bytes(self) -> float:
        """What may be in flight: twice what the way holds (a lost packet is told of a round trip later), the target's
        queue, and what is told late. At the start one short train a round trip: the rate may be twice the link's.
        """
        way_s = 0.0 if self.phase == Phase.START else 2 * self.round_trip.value + self.config.target_ms / 1e3
        return self.rate * (way_s + LAG_S) + 8 * self.piece_bytes

    def ping_every_s(self, now_s: float) -> float:
        """Often while bulk flows this way. Any thread."""
        return 0.2 if now_s - self._hungry_s > 0.5 else self.ping_rest_s

    @property
    def ping_rest_s(self) -> float:
        """Between two pings at least: they take 2 % of the rate, more only on the thinnest links. Any thread."""
        return min(max(PING_BYTES / (0.02 * self.rate), 0.01), 0.1) if self.phase != Phase.FAST else 0.05

    def hear(self, ping: Heard) -> None:
        """An answered ping; it counts from the next `turn` on. Any thread."""
        self._inbox.append(ping)

    def spent(self, size: int) -> None:
        """Bytes of what is not held back: bulk goes without them. Any thread."""
        self._inbox.append(size)

    def budget(self, now_s: float) -> int:
        """How many bytes may be sent now: two pieces at most, as many as one likes on a fast link."""
        self.turn(now_s)
        self._fed(now_s)
        if self.phase == Phase.FAST:
            return ALL
        self._tokens = min(2.0 * self.piece_bytes, self._tokens + self.rate * (now_s - self._filled_s))
        self._filled_s = now_s
        return int(min(self._tokens, self.window_bytes - self.in_flight))

    def sent(self, size: int, now_s: float) -> None:
        """`size` bytes are on their way."""
        self._sent.add(size, now_s)
        self._sent_s = now_s
        if self.phase != Phase.FAST:  # whole messages are not told of
            self._tokens -= size
            self.in_flight += size

    def arrived(self, size: int, now_s: float) -> None:
        """The other side has `size` bytes more."""
        self.in_flight = max(0, self.in_flight - size)
        self._arrived.add(size, now_s)

    def forget(self) -> None:
        """What is in flight will not be told of."""
        self.in_flight = 0

    @property
    def total(self) -> int:
        """Bytes ever sent."""
        return self._sent.total

    @property
    def words(self) -> str:
        """For people: how fast, and what the link answers; empty: nothing is known yet."""
        if not self._ever:
            return ""
        speed = "as fast as it goes" if self.phase == Phase.FAST else f"{self.rate / 1e6:.2f} MB/s ({self.phase})"
        return f"{speed}, round trip {self.round_trip.value * 1e3:.0f} ms, queue {self.queue_s * 1e3:.0f} ms"

    def turn(self, now_s: float) -> None:
        """Takes in what was heard since, and changes the rate."""
        while self._inbox:
            heard = self._inbox.popleft()
            if isinstance(heard, Heard):
                self._take(heard, now_s)
            else:  # what people watch may slow bulk down, and never stop it
                self._tokens = max(self._tokens - heard, min(self._tokens, -DEBT_S * self.rate))
        silent_s = now_s - self._heard_s
        if not self._ever:
            if silent_s >= UNHEARD_S:
                self.phase = Phase.FAST
        elif silent_s >= self.config.silence_s * 2**self._silences:
            self._silences += 1
            self._fall(0.25, now_s)

    def _fed(self, now_s: float) -> None:
        """There is something to send; after a pause rates are measured anew."""
        if now_s - self._hungry_s > 0.1:
            self._sent.begin(now_s)
            self._arrived.begin(now_s)
            self._filled_s = max(self._filled_s, now_s - 1.0)
        self._hungry_s = now_s

    def _take(self, ping: Heard, now_s: float) -> None:
        if not self._ever and self.phase == Phase.FAST:
            self.phase = Phase.START
        if self._silences:  # what arrived meanwhile says nothing of the link's rate
            self._arrived.begin(now_s)
            self._fell_s = now_s
        if self._silences > 1 and self.phase != Phase.FAST:  # it may be another link by now
            self._begin(now_s)
        self._heard_s, self._ever, self._silences = now_s, True, 0
        way_s = self._way.add(ping.delay_s, now_s)
        self.round_trip.add(ping.round_trip_s, now_s)
        if ping.sent_s < self._fell_s:
            return  # it saw the queue that the rate has fallen for
        came_s, waited_s = ping.sent_s + ping.delay_s, ping.delay_s - way_s
        if self._few and came_s - self._came_s < TOGETHER_S:
            waited_s = min(self._few.pop(), waited_s)  # the first of them was lost, and held the others up
        elif self._few:
            self._pings += 1
            differs_s = min(abs(waited_s - self._few[-1]), 2 * self.config.target_ms / 1e3)
            self._noise_s += (differs_s - self._noise_s) / min(16, self._pings)
        self._few.append(waited_s)
        self._came_s = came_s
        enough = self._enough(now_s)
        if len(self._few) >= enough:
            self.queue_s = max(0.0, min(list(self._few)[-enough:]) - 0.7 * self._noise())
            self._judge(ping.sent_s, now_s)

    def _begin(self, now_s: float) -> None:
        """Looks for the rate anew, as at the beginning."""
        self.phase, self.rate, self._grew_s = Phase.START, self.config.first_bytes_s, now_s
        self._peak, self._back = self.rate, 1.0
        self._few.clear()

    def _noise(self) -> float:
        """Seconds by which a ping differs from the next, beyond what waiting for one piece explains."""
        explained = 0.0 if self.phase == Phase.START else min(0.003, 0.55 * self.piece_bytes / self.rate)
        return max(0.0, self._noise_s - explained)

    def _enough(self, now_s: float) -> int:
        noisy = self._noise() > 0.0005
        if self.phase in (Phase.START, Phase.DRAINING):
            return 3 if noisy else 2
        if noisy or self.rate < UNSURE_BYTES_S:
            return 8
        return 3 if self.ping_every_s(now_s) > 0.02 else 5

    def _judge(self, asked_s: float, now_s: float) -> None:
        target_s, limit_s = self.config.target_ms / 1e3, self.config.limit_ms / 1e3
        if self.queue_s <= limit_s:
            self._clear_s = now_s
        if self.phase == Phase.FAST:
            if now_s - self._clear_s > 0.5 and (self._sent.rate(1.0, now_s) or ALL) < self.config.fast_bytes_s / 2:
                self._fall(0.5, now_s)
        elif self.phase == Phase.DRAINING:
            self._drain(target_s, now_s)
        elif self.queue_s > target_s and asked_s - self._sent_s > OTHERS_S:
            return  # who sends nothing has not made this queue, and learns nothing of the link from it
        elif self.queue_s > target_s:
            self._fall(0.2 if self.queue_s > 4 * limit_s else 0.5 if self.queue_s > limit_s else 0.75, now_s)
        elif now_s - self._hungry_s < 0.1 and not self._stuffed(now_s):
            self._grow(asked_s, now_s)

    def _measured(self, now_s: float) -> float | None:
        return self._arrived.rate(max(0.2, self.round_trip.value), now_s)

    def _fall(self, share: float, now_s: float) -> None:
        found = self.rate if self._silences else self._found(now_s) or self.rate
        least = self.rate / (8 if self.phase == Phase.START else 3)  # what has arrived may be told late; doubled thrice
        now = min(self.rate, max(found, least))
        if self.phase != Phase.DRAINING:
            self._peak = now / 1.25 if self.phase == Phase.START else now  # trains find less than there is
            self._back = 1.25 if self.phase == Phase.START else 1 - min(0.2, max(0.05, 0.12 * self._weight))
        self.rate = max(self.config.floor_bytes_s, share * now)
        self.phase, self._fell_s, self._doubted = Phase.DRAINING, now_s, False
        self._few.clear()

    def _stuffed(self, now_s: float) -> bool:
        """Whether bulk waits where no ping sees it, in the sender's own buffers: then the rate was a wrong guess."""
        delivers = self._arrived.rate(LONG_S, now_s)
        if not delivers or self.rate < 1.5 * delivers or self.in_flight < 0.9 * self.window_bytes:
            return False
        self.rate = delivers
        self._fall(0.75, now_s)
        return True

    def _found(self, now_s: float) -> float | None:
        """What the link delivers while there is a queue."""
        if self.phase == Phase.FAST:
            return self._sent.rate(1.0, now_s)
        if self.phase == Phase.START:
            return self._arrived.best(0.025, now_s - 2 * self.round_trip.value - 0.1)
        return self._arrived.best(max(0.1, self.round_trip.value / 2), now_s - 1.0)

    def _drain(self, target_s: float, now_s: float) -> None:
        waited_s, round_trip_s = now_s - self._fell_s, self.round_trip.value
        if self.queue_s < target_s / 2:
            if waited_s >= 0.05:
                self._steady(now_s)
        elif self._all_arrives(now_s):
            if waited_s > SURE_S + round_trip_s + 2 * self.queue_s:
                self._doubt(now_s)
        elif waited_s > max(SURE_S, round_trip_s):
            self._slower(now_s)

    def _steady(self, now_s: float) -> None:
        """Nearly back to where the queue was."""
        self.phase, self._grew_s = Phase.STEADY, now_s
        self.rate = max(self.config.floor_bytes_s, self._back * self._peak)

    def _doubt(self, now_s: float) -> None:
        """All arrives, and the queue stays. At a third of what arrives it would go: if not, the way is longer."""
        if not self._doubted:
            arrives = self._measured(now_s) or self.rate
            self.rate, self._fell_s = max(self.config.floor_bytes_s, min(self.rate, 0.3 * arrives)), now_s
            self._doubted = True
            return
        for lowest in (self._way, self.round_trip):
            lowest.begin(lowest.value + min(self._few), now_s)
        self._few.clear()
        self._steady(now_s)

    def _slower(self, now_s: float) -> None:
        """The link itself has become slower, or an arrival was late: halved at most, and looked at again."""
        measured = self._measured(now_s)
        if measured is not None and measured < 0.6 * self._peak:
            self._peak = max(measured, self._peak / 2, self.config.floor_bytes_s)
            self.rate, self._fell_s = max(self.config.floor_bytes_s, min(self.rate, 0.3 * self._peak)), now_s

    def _all_arrives(self, now_s: float) -> bool:
        """Whether as much arrives as is sent, as far as a few pieces can tell."""
        within_s = max(0.2, self.round_trip.value)
        sent, arrived = self._sent.rate(within_s, now_s), self._arrived.rate(within_s, now_s)
        return not sent or (arrived is not None and arrived >= 0.5 * sent)

    def _grow(self, asked_s: float, now_s: float) -> None:
        """The ping that was sent at `asked_s` found no queue, and there is something to send."""
        found = self._found(now_s) if self.phase == Phase.START else self._measured(now_s)
        if found is not None and found >= self.config.fast_bytes_s:
            self.phase = Phase.FAST
        elif self.phase == Phase.START:
            if asked_s >= self._grew_s + 2 * LAG_S:
                self._grew_s, self._peak = now_s, self.rate
                self.rate = min(2 * self.rate, self.config.fast_bytes_s)
        elif found is None or self.rate < max(2 * found, UNSURE_BYTES_S):  # else something else holds it back
            beyond = self.rate / (1.25 * self._peak)  # from 1 on the link has changed
            per_s = min(0.5, 0.2 * beyond) if beyond > 1 else self.config.creep * min(2.0, 1 / self._weight)
            grown = self.rate * (1 + per_s * min(now_s - self._grew_s, 0.1))
            self.rate, self._grew_s = min(grown, self.config.fast_bytes_s), now_s

    @property
    def _weight(self) -> float:
        """Who has more creeps slower and comes back lower: 1 at 2.5 MB/s, by the cube root."""
        return math.cbrt(self.rate / 2.5e6)


def chunk_bytes(up: Pace, most: int) -> int:
    """How much one message of rows may hold: a quarter of a second of the link, for it is told of and lost as one."""
    return most if up.phase == Phase.FAST else min(most, max(LEAST_CHUNK, int(up.rate / 4)))


def window_bytes(down: Pace) -> float:
    """How much of a weights file may be on its way: what the link holds; 0 where it is fast, and parts are large."""
    return 0.0 if down.phase == Phase.FAST else down.rate * (down.round_trip.value + LAG_S)


def part_bytes(down: Pace, most: int) -> int:
    """How much of a weights file to ask for at once: what is sent in one go is at most half the target's queue."""
    if down.phase == Phase.FAST:
        return most
    return min(most, max(PACKET, int(down.rate * down.config.target_ms / 2e3)))
