"""Connection: the socket under a state machine. It opens, pumps and re-opens; what is said is the machine's affair."""

import logging
from collections.abc import Callable
from typing import Protocol

import zmq

from edge.pace import Pace
from edge.paced_channel import PacedChannel
from user_rl.channels import ClientChannel
from user_rl.errors import ConfigError, WireError
from user_rl.trust import Bundle
from user_rl.wire import Message, decode, encode

log = logging.getLogger(__name__)

Channel = ClientChannel | PacedChannel
BURST = 200  # messages in one direction before the other has its turn
SILENT_S = 15.0  # edge.uplink and edge.downlink ask again long before


class Machine(Protocol):
    """What decides: edge.uplink, user_rl.downlink."""

    def next(self, now_s: float) -> tuple[Message, bytes | None] | None:
        """What to say now, without taking it as said."""

    def sent(self, now_s: float) -> None:
        """What `next` returned is on its way."""

    def receive(self, message: Message, payload: memoryview | None, now_s: float) -> None:
        """What the other side says."""


class Connection:
    """One CURVE connection, made anew when its address changes. One thread."""

    def __init__(self, bundle: Bundle, pace: Pace | None = None) -> None:
        """`pace`: of what is said; None: as fast as it goes."""
        self._bundle, self._pace = bundle, pace
        self._channel: Channel | None = None
        self._address = self._refused = ""
        self._reconnected: Callable[[], None] = lambda: None
        self._heard_s: float | None = None  # when the other side last said something, on this connection

    @property
    def socket(self) -> "zmq.Socket[bytes] | None":
        """For a poller only."""
        return None if self._channel is None else self._channel.socket

    def state(self, now_s: float) -> str:
        """In words; `open` when it is."""
        if self._channel is None:
            return f"{self._refused} is no address" if self._refused else "no address yet"
        return heard_in_words(self._heard_s, now_s)

    def connect(self, address: str, reconnected: Callable[[], None]) -> None:
        """Connects to `address` (empty: to nobody); calls `reconnected` when that is another connection.

        `pump` calls it too, once a connection that broke is made again.
        """
        self._reconnected = reconnected
        if address in (self._address, self._refused):
            return
        self.close()
        try:
            if address:
                self._channel = self._open(address)
            self._address, self._refused, self._heard_s = address, "", None
        except ConfigError as error:
            log.error("%s; the fleet named it", error)
            self._refused = address
        reconnected()

    def _open(self, address: str) -> Channel:
        channel = ClientChannel(address, self._bundle.curve, self._bundle.server_curve_public)
        if self._pace is not None:
            return PacedChannel(channel, self._pace)
        channel.watch()
        return channel

    def pump(self, machine: Machine, now_s: float) -> bool:
        """Takes in what has come and says what there is to say; False when nothing happened."""
        if self._channel is None:
            return False
        if self._channel.renewed():
            self._reconnected()
        heard = self._listen(self._channel, machine, now_s)
        return self._speak(self._channel, machine, now_s) or heard

    def close(self) -> None:
        """Closes the socket; safe to call twice."""
        if self._channel is not None:
            self._channel.close()
            self._channel, self._address = None, ""

    def _listen(self, channel: Channel, machine: Machine, now_s: float) -> bool:
        for count in range(BURST):
            frames = channel.receive(0.0)
            if frames is None:
                return count > 0
            self._heard_s = now_s
            try:
                message, payloads = decode(frames)
            except WireError as error:
                log.warning("from %s: %s", self._address, error)
                continue
            machine.receive(message, payloads[0] if payloads else None, now_s)
        return True

    def _speak(self, channel: Channel, machine: Machine, now_s: float) -> bool:
        for count in range(BURST):
            out = machine.next(now_s)
            if out is None:
                return count > 0
            message, payload = out
            if not channel.send(encode(message) if payload is None else encode(message, payload)):
                return count > 0
            machine.sent(now_s)
        return True


def heard_in_words(heard_s: float | None, now_s: float) -> str:
    """How a connection stands whose other side last said something then; `open` when it does."""
    if heard_s is None:
        return "nothing heard yet"
    silent_s = now_s - heard_s
    return "open" if silent_s < SILENT_S else f"nothing heard for {silent_s:.0f} s"
