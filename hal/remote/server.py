"""Server: parts behind one socket, one client at a time for each, and silence that stops what moves.

A robot is halted when commands stop coming for `command_ttl_s`, when its client says nothing at all for
`silent_after_s` (then it is closed too), and on every way out. A second client is refused while the first one's
connection stands; a request of an older session, and a command that comes too late, are refused always.

Everything here runs in one thread, the devices too: what must not wait for one another (a robot and a slow camera) is
served by processes of their own. Before anything is opened or closed, what moves is halted.
"""

import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from hal.remote.door import Door
from hal.remote.messages import (
    REPLIES,
    REQUESTS,
    Beat,
    Close,
    Code,
    Command,
    Describe,
    Description,
    Done,
    Failed,
    Halt,
    Open,
    Opened,
    Ping,
    Requests,
)
from hal.remote.parts import Answer, Part, RobotPart
from user_rl.channels import ChannelConfig, Received, ServerChannel
from user_rl.clock import Clock
from user_rl.codec import Limits
from user_rl.errors import (
    ConfigError,
    HardwareError,
    RobotFault,
    RobotUnreachable,
    SensorStale,
    SpecError,
    UserRlError,
    WireError,
)

log = logging.getLogger(__name__)

LIMITS = Limits(header_bytes=2**12, payload_bytes=2**16)  # of what a client may send: targets are small
CODES: tuple[tuple[type[UserRlError], Code], ...] = (
    (RobotUnreachable, "unreachable"), (RobotFault, "fault"), (SensorStale, "stale"), (HardwareError, "hardware"),
    (SpecError, "spec"), (ConfigError, "config"), (WireError, "wire"),
)  # fmt: skip
TEXT = 2000  # characters of a reason


@dataclass(frozen=True, kw_only=True)
class ServerConfig:
    """When silence means that nobody is there."""

    command_ttl_s: float | None = None  # None: 0.5, or three of the robot's periods where these are longer
    silent_after_s: float = 3.0
    poll_s: float = 0.1  # between two looks at whether to stop
    open_s: float = 60.0  # a device may take so long to open or close
    busy_s: float = 5.0  # and so long for anything else, before the watch ends this process

    def __post_init__(self) -> None:
        for name in ("command_ttl_s", "silent_after_s", "poll_s", "open_s", "busy_s"):
            value = getattr(self, name)
            if value is not None and value <= 0:
                raise ValueError(f"{name} = {value}, allowed above 0; change its value")


@dataclass
class Seat:
    """A part and who holds it."""

    name: str
    part: Part
    ttl_s: float
    session: int = 0  # 0: free
    peer: bytes = b""
    call: int = 0  # the last one
    heard_s: float = field(default=0.0)
    due_s: float | None = None  # when what moves is halted, unless a command comes first


class _Refusal(Exception):
    """A request that is not carried out, and why."""

    def __init__(self, code: Code, text: str) -> None:
        super().__init__(text)
        self.code: Code = code


def _no_pulse(within_s: float) -> None:
    """Nobody watches."""


class Server:
    """Serves `parts` by name until told to stop. One thread."""

    def __init__(
        self, parts: Mapping[str, Part], door: Door, *, address: str = "", config: ServerConfig = ServerConfig(),
        clock: Clock, promise: Callable[[float], None] = _no_pulse,
    ) -> None:  # fmt: skip
        self._door, self._config, self._clock, self._promise = door, config, clock, promise
        self._seats = {name: Seat(name, part, _ttl_s(part, config)) for name, part in parts.items()}
        self._channel = ServerChannel(
            address or f"ipc://{door.home}/socket", door.keys, door.allowed, config=ChannelConfig()
        )
        self.address = self._channel.address

    def run(self, stopping: Callable[[], int]) -> None:
        """Serves until `stopping()`; whatever happens, everything is halted and closed when this returns."""
        try:
            while not stopping():
                self._promise(self._config.busy_s + self._config.poll_s)
                self._step()
        finally:
            self.close()

    def close(self) -> None:
        """Halts and closes what is open, then the socket; safe to call twice."""
        self._promise(self._config.open_s)
        for seat in self._seats.values():
            if seat.session:
                self._end(seat, "the server stops")
        self._channel.close()

    def _step(self) -> None:
        received = self._channel.receive(self._wait_s())
        start_s = self._clock.now_s()
        if received is not None:
            self._answer(received)
        took_s = self._clock.now_s() - start_s
        for seat in self._seats.values():
            seat.heard_s += took_s  # nobody was listened to meanwhile
        self._watch()

    def _wait_s(self) -> float:
        now_s = self._clock.now_s()
        dues_s = [seat.due_s - now_s for seat in self._seats.values() if seat.due_s is not None]
        return max(0.001, min([self._config.poll_s, *dues_s]))

    def _watch(self) -> None:
        now_s = self._clock.now_s()
        for seat in self._seats.values():
            if seat.due_s is not None and now_s >= seat.due_s:
                self._halt(seat, f"no command for {seat.ttl_s:.3g} s")
            if seat.session and now_s - seat.heard_s >= self._config.silent_after_s:
                self._end(seat, f"its client has said nothing for {self._config.silent_after_s:.3g} s")

    def _answer(self, received: Received) -> None:
        call = 0
        try:
            request, payloads = REQUESTS.decode(received.frames, LIMITS)
            call = request.call
            answer = self._carry_out(request, payloads[0] if payloads else None, received.peer)
        except _Refusal as refusal:
            answer = Failed(call, self._clock.now_s(), refusal.code, str(refusal)), None
        except UserRlError as error:
            answer = Failed(call, self._clock.now_s(), code_of(error), str(error)[:TEXT]), None
        if answer is not None:
            reply, payload = answer
            self._channel.send(received.peer, REPLIES.encode(reply, *([] if payload is None else [payload])))

    def _carry_out(self, request: Requests, payload: memoryview | None, peer: bytes) -> Answer | None:
        seat = self._seats.get(request.part)
        if seat is None:
            raise _Refusal("part", f"no part {request.part} is served here, allowed {', '.join(self._seats)}")
        if isinstance(request, Describe):
            description = Description(request.call, self._clock.now_s(), seat.part.kind, seat.part.spec())
            return description, None
        if isinstance(request, Open):
            return self._open(seat, request, peer), None
        self._check_session(seat, request)
        seat.heard_s = self._clock.now_s()
        if isinstance(request, Beat):
            return None
        self._check_call(seat, request)
        if isinstance(request, Close):
            self._end(seat, "its client has closed it")
            return Done(request.call, self._clock.now_s()), None
        if isinstance(request, Halt):
            seat.due_s = None
            seat.part.halt()
            return Done(request.call, self._clock.now_s()), None
        return self._ask(seat, request, payload)

    def _ask(self, seat: Seat, request: Requests, payload: memoryview | None) -> Answer:
        if isinstance(request, Command):
            late_s = self._clock.now_s() - request.expires_s
            if late_s > 0:
                raise _Refusal("late", f"a command for {seat.name} came {late_s:.3g} s too late; nothing was sent")
            seat.due_s = self._clock.now_s() + seat.ttl_s
        return seat.part.answer(request, payload, self._clock)

    def _check_session(self, seat: Seat, request: Requests) -> None:
        if not seat.session or request.session != seat.session:
            held = f"session {seat.session} holds it" if seat.session else "nobody holds it"
            raise _Refusal("session", f"session {request.session} of {seat.name} is over, {held} now; open it again")

    def _check_call(self, seat: Seat, request: Requests) -> None:
        if request.call <= seat.call:
            raise _Refusal("late", f"call {request.call} to {seat.name} comes after call {seat.call}; drop it")
        seat.call = request.call

    def _open(self, seat: Seat, request: Open, peer: bytes) -> Opened:
        now_s = self._clock.now_s()
        another = seat.session not in (0, request.session)
        if another and self._channel.send(seat.peer, REPLIES.encode(Ping(0, now_s))):  # its connection stands
            raise _Refusal(
                "busy",
                f"{seat.name} is held by another client (session {seat.session}, heard {now_s - seat.heard_s:.1f} s "
                "ago), allowed one; stop that client first",
            )
        if seat.session:
            self._end(seat, "its client is gone")
        self._before_waiting()
        seat.part.open()
        seat.session, seat.peer, seat.call = self._door.next_session(), peer, request.call
        seat.heard_s = self._clock.now_s()
        log.info("%s is open, session %d", seat.name, seat.session)
        return Opened(request.call, seat.heard_s, seat.session, seat.part.spec())

    def _before_waiting(self) -> None:
        """A device takes its time: nothing moves meanwhile, and the watch is told."""
        for seat in self._seats.values():
            if seat.due_s is not None:
                self._halt(seat, "this server opens or closes a device")
        self._promise(self._config.open_s)

    def _halt(self, seat: Seat, why: str) -> None:
        seat.due_s = None
        log.warning("%s is halted: %s", seat.name, why)
        try:
            seat.part.halt()
        except HardwareError as error:
            log.error("%s could not be halted: %s; use the emergency stop", seat.name, error)

    def _end(self, seat: Seat, why: str) -> None:
        """Closes the part, which halts it, and frees its seat."""
        log.info("%s is closed, session %d: %s", seat.name, seat.session, why)
        seat.session, seat.peer, seat.due_s = 0, b"", None
        self._before_waiting()
        try:
            seat.part.close()
        except HardwareError as error:
            log.error("%s could not be closed: %s", seat.name, error)


def code_of(error: UserRlError) -> Code:
    """What stands for an error of this class on the wire."""
    return next((code for cls, code in CODES if isinstance(error, cls)), "hardware")


def _ttl_s(part: Part, config: ServerConfig) -> float:
    if config.command_ttl_s is not None:
        return config.command_ttl_s
    period_s = 1.0 / part.robot.spec.rate_hz if isinstance(part, RobotPart) else 0.0
    return max(0.5, 3 * period_s)
