"""Link: a client's end of one served part. Every call has a deadline; a link that lost one call is lost until reopened.

While a session lasts, a thread tells the server a few times a second that this process lives; a lock keeps the two
from speaking at once.
"""

import logging
import threading
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

from hal.remote.config import RemoteConfig
from hal.remote.door import Invitation, load_invitation
from hal.remote.messages import REPLIES, REQUESTS, Beat, Code, Failed, Ping, Reply, Requests
from hal.remote.offset import Offset
from user_rl.channels import ChannelConfig, ClientChannel
from user_rl.clock import SystemClock
from user_rl.errors import (
    ConfigError,
    HardwareError,
    RobotFault,
    SensorStale,
    SpecError,
    WireError,
)

log = logging.getLogger(__name__)

R = TypeVar("R", bound=Reply)
LOOK_S = 0.5  # between two looks at whether the connection stands
BEAT_S = 0.5  # well within the server's silent_after_s
ERRORS: dict[Code, type[HardwareError] | type[SpecError] | type[ConfigError]] = {
    "fault": RobotFault, "stale": SensorStale, "spec": SpecError, "config": ConfigError, "part": ConfigError,
}  # fmt: skip
OVER: tuple[Code, ...] = ("session", "late", "wire")  # after these the two sides do not mean the same session


class Link:
    """Calls to one part. Use it from one thread; `unreachable` is what a lost call raises."""

    def __init__(self, config: RemoteConfig, part: str, unreachable: type[HardwareError] = HardwareError) -> None:
        self.config, self.part, self._unreachable = config, part, unreachable
        self._invitation: Invitation = load_invitation(Path(config.invitation).expanduser())
        self.address = config.address or self._invitation.address
        self._system = SystemClock()
        self.offset = Offset(self._system)
        self.session = 0  # the last one held
        self._call = 0
        self._lost = f"{self} is not open; call open() first"
        self._channel: ClientChannel | None = None
        self._lock = threading.Lock()
        self._ended = threading.Event()

    def __str__(self) -> str:
        return f"{self.part} at {self.address}"

    @property
    def lost(self) -> bool:
        """Whether no call can be made."""
        return self._channel is None

    def connect(self) -> None:
        """A new connection; what was asked on the old one is forgotten."""
        self.disconnect(f"{self} is not open; call open() first")
        keys = self._invitation
        self._channel = ClientChannel(self.address, keys.keys, keys.server_public, config=ChannelConfig())

    def hold(self, session: int) -> None:
        """From now on calls belong to `session`, and the server hears that this process lives."""
        self.session, self._ended = session, threading.Event()
        threading.Thread(target=self._beat, args=(self._ended,), name=f"beat {self.part}", daemon=True).start()

    def disconnect(self, why: str) -> None:
        """Every later call raises `why`, until the next connect."""
        self._ended.set()
        self._lost = why
        with self._lock:
            if self._channel is not None:
                self._channel.close()
                self._channel = None

    def ask(
        self, expect: type[R], make: Callable[[int], Requests], *payload: memoryview, within_s: float
    ) -> tuple[R, memoryview | None]:
        """The answer to `make(call)`, which must be of `expect`; raises what the server raised."""
        until_s = self._system.now_s() + within_s
        with self._lock:
            channel = self._channel
            answer = None if channel is None else self._exchange(channel, make, payload, until_s)
        if channel is None:
            raise self._unreachable(self._lost)
        if answer is None:
            raise self._lose(
                f"no answer from {self} within {within_s:.3g} s; look at its server, power and cable, open it again"
            )
        reply, values = answer
        if isinstance(reply, Failed):
            raise self._failed(reply)
        if not isinstance(reply, expect):
            raise self._lose(f"{self} answered {type(reply).__name__}, allowed {expect.__name__}; use one version")
        return reply, values

    def reachable(self) -> bool:
        """Whether the connection stands, or comes within one call's deadline."""
        with self._lock:
            return self._channel is not None and self._channel.ready(self.config.deadline_s)

    def until_s(self, within_s: float) -> float:
        """The server's time in `within_s`."""
        return self.offset.server_s(self._system.now_s() + within_s)

    def _exchange(
        self, channel: ClientChannel, make: Callable[[int], Requests], payload: tuple[memoryview, ...], until_s: float
    ) -> tuple[Reply, memoryview | None] | None:
        if not channel.ready(min(self.config.connect_s, max(0.0, until_s - self._system.now_s()))):
            return None
        self._call += 1
        request, sent_s = make(self._call), self._system.now_s()
        if not channel.send(REQUESTS.encode(request, *payload)):
            return None
        while (left_s := until_s - self._system.now_s()) > 0:
            frames = channel.receive(min(LOOK_S, max(0.001, left_s)))
            if frames is None and channel.ready(0.0):
                continue
            if frames is None:  # the connection broke, and what was asked on it is lost
                return None
            try:
                reply, payloads = REPLIES.decode(frames)
            except WireError as error:
                log.warning("from %s: %s", self, error)
                continue
            if reply.call == self._call and not isinstance(reply, Ping):  # others: late, of a call that was given up
                self.offset.learn(reply.clock_s, sent_s)
                return reply, payloads[0] if payloads else None
        return None

    def _lose(self, why: str) -> HardwareError:
        self.disconnect(why)
        return self._unreachable(why)

    def _failed(self, reply: Failed) -> Exception:
        if reply.code in OVER:
            return self._lose(reply.text)
        return ERRORS.get(reply.code, self._unreachable)(reply.text)

    def _beat(self, ended: threading.Event) -> None:
        beat = REQUESTS.encode(Beat(self.part, self.session, 0))
        while not ended.wait(BEAT_S):
            with self._lock:
                if self._channel is not None and not ended.is_set():
                    self._channel.send(beat)
