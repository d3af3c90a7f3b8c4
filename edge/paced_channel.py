"""PacedChannel: a client channel with a thread of its own that sends bulk in pieces, as fast as the pace lets it.

Its owner goes on with fsyncs meanwhile; between the two is a pair of sockets in memory that hold a few messages, so a
send says False while the link is busy. On a fast link messages go as they are. Arrived tells how far a message has
come: 0, or nothing for a while, and what has not arrived whole begins anew under other numbers.
"""

import threading
from collections import deque

import zmq

from edge.pace import PIECE_OVERHEAD, Pace, Phase
from user_rl.channels import ClientChannel
from user_rl.clock import Clock, SystemClock
from user_rl.errors import WireError
from user_rl.pieces import cut, pack
from user_rl.wire import Arrived, decode

WHOLE_BYTES = 1200  # smaller messages are never cut
IDLE_S = 0.1
QUEUE = 32  # messages, at each end: between two of its fsyncs the owner brings many small ones
WAITING_BYTES = 128 * 2**10  # of what it has brought and nobody has taken up: no more then
TELL_S = 0.5  # between two words of progress to the owner


class PacedChannel:
    """See user_rl.channels.ClientChannel. `send`, `receive`, `close` in one thread."""

    def __init__(self, channel: ClientChannel, pace: Pace, clock: Clock | None = None) -> None:
        """Takes `channel` over."""
        self._context = zmq.Context()
        self.socket, theirs = self._context.socket(zmq.PAIR), self._context.socket(zmq.PAIR)
        self.socket.linger = theirs.linger = 0
        self.socket.sndhwm = theirs.rcvhwm = QUEUE
        self.socket.bind("inproc://paced")
        theirs.connect("inproc://paced")
        channel.watch()
        self._known = self._brought = 0  # renewals told of; bytes
        self._courier = _Courier(channel, theirs, pace, clock or SystemClock())
        self._thread = threading.Thread(target=self._courier.run, name="bulk", daemon=True)
        self._thread.start()

    def send(self, frames: "list[bytes | memoryview]") -> bool:
        """Queues a message; False when not connected or when others still wait. Never blocks.

        Raises RuntimeError when the thread has died: then nothing would go any more, and link must begin anew.
        """
        if not self._thread.is_alive():
            raise RuntimeError("the thread that sends bulk has died; see its traceback above")
        if not self._courier.connected or self._brought - self._courier.taken > WAITING_BYTES:
            return False
        try:
            self.socket.send_multipart(frames, zmq.NOBLOCK, copy=False)
        except zmq.Again:
            return False
        self._brought += sum(len(frame) for frame in frames)
        return True

    def receive(self, timeout_s: float) -> list[memoryview] | None:
        """The next message's frames; None when there is none."""
        if not self.socket.poll(round(timeout_s * 1e3)):
            return None
        return [frame.buffer for frame in self.socket.recv_multipart(copy=False)]

    def renewed(self) -> bool:
        """Whether another connection was made since the last call: what was being sent is dropped."""
        known, self._known = self._known, self._courier.renewals
        return known != self._known

    def close(self) -> None:
        """Ends the connection and the thread; safe to call twice."""
        self._courier.stopping.set()
        self._thread.join()
        self.socket.close(linger=0)
        self._context.term()


class _Courier:
    """What the thread does."""

    def __init__(self, channel: ClientChannel, owner: "zmq.Socket[bytes]", pace: Pace, clock: Clock) -> None:
        self._channel, self._owner, self._pace, self._clock = channel, owner, pace, clock
        self.stopping = threading.Event()
        self.connected = False
        self.renewals = self.taken = 0  # taken: bytes of the owner's messages
        self._whole: list[memoryview] = []  # a message that goes as it is
        self._body, self._offset = b"", 0  # a message that is being sent in pieces
        self._number = 0
        self._gone: deque[tuple[int, bytes]] = deque()  # sent to the end, and not told of as arrived
        self._anew: deque[bytes] = deque()  # to be sent again
        self._told = 0  # bytes of the oldest of them, or of the present one, that have arrived
        self._heard_s = self._said_s = clock.now_s()

    def run(self) -> None:
        """Until stopped, then closes both ends."""
        poller = zmq.Poller()
        poller.register(self._channel.socket, zmq.POLLIN)
        try:
            while not self.stopping.is_set():
                wait_s = self.turn()
                if wait_s > 0:
                    busy = bool(self._body or self._whole)
                    poller.register(self._owner, 0 if busy else zmq.POLLIN)
                    poller.poll(max(1, int(wait_s * 1e3)))
        finally:
            self._pace.forget()
            self._channel.close()
            self._owner.close(linger=0)

    def turn(self) -> float:
        """Takes in what came, sends what may go; returns how long nothing more will be due."""
        now_s = self._clock.now_s()
        self._pace.turn(now_s)
        if self._channel.renewed():
            self._drop()
        self._listen(now_s)
        self.connected = self._channel.ready(0.0)
        self._watch(now_s)
        if not self._body and not self._whole and not self._next():
            return IDLE_S if self.connected else 0.01
        return self._send(now_s)

    def _next(self) -> bool:
        """Takes up what was lost, or the owner's next message."""
        if self._anew:
            self._begin(self._anew.popleft())
            return True
        try:
            frames = self._take()
        except zmq.Again:
            return False
        small = sum(len(frame) for frame in frames) <= WHOLE_BYTES
        self._pace.budget(self._clock.now_s())
        if small or self._pace.phase == Phase.FAST:
            self._whole = frames
        else:
            self._begin(pack(frames))
        return True

    def _take(self) -> list[memoryview]:
        """The owner's next message; raises zmq.Again."""
        frames = [frame.buffer for frame in self._owner.recv_multipart(zmq.NOBLOCK, copy=False)]
        self.taken += sum(map(len, frames))
        return frames

    def _begin(self, body: bytes) -> None:
        self._body, self._offset = body, 0
        self._number += 1
        if not self._pace.in_flight:
            self._heard_s = self._clock.now_s()

    def _send(self, now_s: float) -> float:
        if self._whole:
            if not self._channel.send(self._whole):
                return 0.005
            size = sum(len(frame) for frame in self._whole)
            if size > WHOLE_BYTES and self._pace.phase == Phase.FAST:
                self._pace.sent(size, now_s)
            self._whole = []
            return 0.0
        size = min(self._pace.piece_bytes, len(self._body) - self._offset)
        short = size + PIECE_OVERHEAD - self._pace.budget(now_s)
        if short > 0:
            return min(max(short / self._pace.rate, 0.001), 0.05)
        if not self._channel.send(cut(self._number, self._body, self._offset, size)):
            return 0.005
        self._pace.sent(size + PIECE_OVERHEAD, now_s)
        self._offset += size
        if self._offset == len(self._body):
            self._gone.append((self._number, self._body))
            self._body = b""
        return 0.0

    def _listen(self, now_s: float) -> None:
        while (frames := self._channel.receive(0.0)) is not None:
            arrived = _arrived_in(frames)
            if arrived is not None and not self._arrived(arrived, now_s):
                continue
            try:
                self._owner.send_multipart(frames, zmq.NOBLOCK, copy=False)
            except zmq.Again:
                return  # a thousand answers that nobody takes

    def _arrived(self, message: Arrived, now_s: float) -> bool:
        """True when the owner should know."""
        oldest = self._gone[0][0] if self._gone else self._number
        if message.size == 0 and oldest <= message.number <= self._number:
            self._again()
            return False
        if message.number != oldest or message.size <= self._told:
            return False
        pieces = -(-(message.size - self._told) // self._pace.piece_bytes)
        self._pace.arrived(message.size - self._told + pieces * PIECE_OVERHEAD, now_s)
        self._told, self._heard_s = message.size, now_s
        if self._gone and message.size >= len(self._gone[0][1]):
            self._gone.popleft()
            self._told = 0
        if now_s - self._said_s < TELL_S:
            return False
        self._said_s = now_s
        return True

    def _watch(self, now_s: float) -> None:
        """What is in flight and not told of for long was lost with its connection."""
        if not self._pace.in_flight:
            self._heard_s = max(self._heard_s, now_s - 0.5)
        elif now_s - self._heard_s > 1.0 + 4 * self._pace.round_trip.value + self._pace.told_every_s:
            self._again()

    def _drop(self) -> None:
        """The owner asks the other side anew where to go on: what was under way means nothing to it."""
        self._again()
        self._anew.clear()
        self._whole = []
        while self._owner.poll(0):
            self._take()
        self.renewals += 1

    def _again(self) -> None:
        """Everything that has not arrived whole is sent anew, in order, under new numbers."""
        self._pace.forget()
        lost = [body for _, body in self._gone] + ([self._body] if self._body else [])
        self._anew.extendleft(reversed(lost))
        self._gone.clear()
        self._body, self._told = b"", 0
        self._number += 1  # what is still said of the old ones means nothing
        self._heard_s = self._clock.now_s()


def _arrived_in(frames: list[memoryview]) -> Arrived | None:
    if len(frames) > 1 or len(frames[0]) > 64:
        return None
    try:
        message, _ = decode(frames)
    except WireError:
        return None
    return message if isinstance(message, Arrived) else None
