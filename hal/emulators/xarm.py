"""An xArm's controller on a loopback address: commands, and the reports that it sends by itself.

`python -m hal.emulators.xarm` prints what to give to the driver and serves until it is ended. The reports' ports are
the arm's own, as the SDK fixes them; commands take any port, because 502 needs a privileged user; so two emulators need
two addresses of the loopback. Source: UFACTORY's public description of its Modbus TCP protocol and of the reports,
and what SDK 1.18.4 sends. Frames are number, protocol (2, or 3 once the SDK says so), length, function, and in answers
a byte of state bits before the parameters; whole numbers are big-endian, floats little-endian.

Joints go to their target at a constant speed. The tool's pose in reports is a fixed one: it has no kinematics.
"""

import argparse
import socket
import socketserver
import struct
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from enum import IntEnum

from user_rl.clock import Clock, SystemClock

FASTEST_RAD_S = 3.14
REPORTS_S = {30001: 0.2, 30002: 0.2, 30003: 0.01}  # ports and periods: normal, rich, real-time

_POSE = (206.0, 0.0, 120.5, 3.14159, 0.0, 0.0)  # mm, rad
# jerk, least and most acceleration and speed of the tool (mm) and of the joints (rad), jerk and acceleration of turning
_DYNAMICS = (1000.0, 1.0, 50000.0, 0.1, 1000.0, 20.0, 0.01, 20.0, 0.0001, 4.0, 2.3, 2.7)
_HEADER = struct.Struct(">HHH")


class Function(IntEnum):
    """What a frame asks for."""

    GET_VERSION = 1
    GET_ROBOT_SN = 2
    MOTION_EN = 11
    SET_STATE = 12
    GET_STATE = 13
    GET_CMDNUM = 14
    GET_ERROR = 15
    CLEAN_ERR = 16
    CLEAN_WAR = 17
    SET_MODE = 19
    MOVE_SERVOJ = 29
    GET_TCP_POSE = 41
    GET_JOINT_POS = 42


class Bit(IntEnum):
    """The state bits of an answer."""

    INVALID = 0x08
    NOT_READY = 0x10
    WARNING = 0x20
    ERROR = 0x40


@dataclass
class Controller:
    """The arm and what its controller knows; tests set `error` and `warning`, and look at the rest."""

    axes: int = 6
    kind: int = 6
    version: str = "v2.5.0"
    position: list[float] = field(default_factory=lambda: [0.0] * 7)  # rad
    velocity: list[float] = field(default_factory=lambda: [0.0] * 7)
    target: list[float] = field(default_factory=lambda: [0.0] * 7)
    mode: int = 0
    is_enabled: bool = False
    is_stopped: bool = True
    error: int = 0
    warning: int = 0
    cleanings: int = 0  # how often alarms were cleared over the wire

    @property
    def state(self) -> int:
        """1 moving, 2 standing, 4 stopped."""
        if self.is_stopped or self.error:
            return 4
        return 1 if any(self.velocity) else 2

    @property
    def bits(self) -> int:
        """What every answer carries."""
        ready = self.is_enabled and self.state != 4
        return (Bit.ERROR if self.error else 0) | (Bit.WARNING if self.warning else 0) | (0 if ready else Bit.NOT_READY)

    def pass_time(self, by_s: float) -> None:
        """Moves towards the target, unless stopped."""
        for i, target in enumerate(self.target):
            way = target - self.position[i] if self.state != 4 and self.is_enabled else 0.0
            step = max(-FASTEST_RAD_S * by_s, min(FASTEST_RAD_S * by_s, way))
            self.velocity[i] = 0.0 if step == way else FASTEST_RAD_S * (1 if way > 0 else -1)
            self.position[i] += step

    def carry_out(self, function: int, data: bytes) -> bytes | None:
        """The parameters of the answer; None: there is no such function, or not with these parameters."""
        do = _FUNCTIONS.get(function)
        try:
            return do(self, data) if do else None
        except (struct.error, IndexError):
            return None

    def stop(self) -> None:
        """Stands where it is."""
        self.is_stopped, self.target, self.velocity = True, list(self.position), [0.0] * 7

    def _identity(self, data: bytes) -> bytes:
        return f"{self.axes},{self.kind},XI13050000,AC13000000,{self.version}".encode().ljust(40, b"\0")

    def _serial(self, data: bytes) -> bytes:
        return b"XI13050000\0AC13000000\0".ljust(40, b"\0")

    def _enable(self, data: bytes) -> bytes:
        self.is_enabled = bool(data[1])
        return b""

    def _set_state(self, data: bytes) -> bytes:
        if data[0] == 4:
            self.stop()
        elif data[0] == 0 and not self.error:
            self.is_stopped, self.target = False, list(self.position)
        return b""

    def _set_mode(self, data: bytes) -> bytes:
        self.stop()  # until it is made ready again
        self.mode = data[0]
        return b""

    def _clean(self, data: bytes) -> bytes:
        self.cleanings += 1
        return b""

    def _servo(self, data: bytes) -> bytes:
        targets = struct.unpack("<10f", data)[:7]
        if self.mode == 1 and not self.bits & (Bit.NOT_READY | Bit.ERROR):
            self.target = [*targets[: self.axes], *[0.0] * (7 - self.axes)]
        return b""

    def _joints(self, data: bytes) -> bytes:
        rows = (self.position, self.velocity, [0.0] * 7)[: (data[0] & 0x0F) if data else 1]
        return b"".join(struct.pack("<7f", *row) for row in rows)

    def report(self, port: int, count: int) -> bytes:
        """What is sent from a reports' port."""
        body = struct.pack(">BH", self.state | self.mode << 4, 0)
        body += struct.pack("<7f6f7f", *self.position, *_POSE, *[0.0] * 7)
        if port != 30003:
            brakes = enabled = 0xFF if self.is_enabled else 0
            body += bytes((brakes, enabled, self.error, self.warning))
            body += struct.pack("<6f4fBB3f", *[0.0] * 10, 3, 3, 0.0, 0.0, -1.0)
        if port == 30002:
            body += bytes((self.kind, self.axes, 0, 0, 0, 0)) + self._identity(b"")[:30]
            body += struct.pack("<12f", *_DYNAMICS) + bytes(16) + bytes([30] * 7)
            body += struct.pack("<8f", 0.0, *self.velocity) + struct.pack(">I", count)
        return struct.pack(">I", len(body) + 4) + body


_FUNCTIONS: dict[int, Callable[[Controller, bytes], bytes]] = {
    Function.GET_VERSION: Controller._identity,
    Function.GET_ROBOT_SN: Controller._serial,
    Function.MOTION_EN: Controller._enable,
    Function.SET_STATE: Controller._set_state,
    Function.GET_STATE: lambda c, data: bytes((c.state,)),
    Function.GET_CMDNUM: lambda c, data: bytes(2),
    Function.GET_ERROR: lambda c, data: bytes((c.error, c.warning)),
    Function.CLEAN_ERR: Controller._clean,
    Function.CLEAN_WAR: Controller._clean,
    Function.SET_MODE: Controller._set_mode,
    Function.MOVE_SERVOJ: Controller._servo,
    Function.GET_TCP_POSE: lambda c, data: struct.pack("<6f", *_POSE),
    Function.GET_JOINT_POS: Controller._joints,
}


class XArmEmulator:
    """A controller behind loopback ports, served by threads between `open` and `close`."""

    def __init__(
        self, controller: Controller | None = None, *, host: str = "127.0.0.1", clock: Clock | None = None
    ) -> None:
        self.controller = controller or Controller()
        self.mute = False  # hears, and says nothing
        self.host = host
        self.port = 0  # of commands
        self._clock = clock or SystemClock()
        self._then_s = self._clock.now_s()
        self._lock = threading.Lock()
        self._ended = threading.Event()
        self._doors: list[_Door] = []
        self._links: set[socket.socket] = set()

    def open(self, port: int = 0) -> None:
        """Listens for commands on `port`, 0: a free one; and sends reports."""
        commands = _Door((self.host, port), self._serve)
        self.port = int(commands.server_address[1])
        self._doors = [commands, *(_Door((self.host, where), self._reporter(where)) for where in REPORTS_S)]
        for door in self._doors:
            threading.Thread(target=door.serve_forever, args=(0.02,), name="xarm-emulator", daemon=True).start()

    def close(self) -> None:
        """Power off; safe to call twice."""
        self._ended.set()
        for door in self._doors:
            door.shutdown()
            door.server_close()
        self._doors = []
        for link in list(self._links):
            with suppress(OSError):
                link.shutdown(socket.SHUT_RDWR)

    def pass_time(self) -> None:
        """Brings the arm to this instant."""
        with self._lock:
            now_s = self._clock.now_s()
            self.controller.pass_time(now_s - self._then_s)
            self._then_s = now_s

    def answer(self, frame: bytes) -> bytes:
        """What the controller says to a whole frame."""
        number, protocol, _ = _HEADER.unpack(frame[:6])
        self.pass_time()
        with self._lock:
            data = self.controller.carry_out(frame[6], frame[7:])
            bits = self.controller.bits | (Bit.INVALID if data is None else 0)
        body = bytes((frame[6], bits)) + (data or b"")
        return _HEADER.pack(number, protocol, len(body)) + body

    def _serve(self, link: socket.socket) -> None:
        with self._linked(link), link.makefile("rb") as frames:
            while len(head := frames.read(6)) == 6:
                frame = head + frames.read(_HEADER.unpack(head)[2])
                answer = self.answer(frame)
                if not self.mute:
                    link.sendall(answer)

    def _reporter(self, port: int) -> Callable[[socket.socket], None]:
        def report(link: socket.socket) -> None:
            count = 0
            with self._linked(link):
                while not self._ended.is_set():
                    self.pass_time()
                    link.sendall(self.controller.report(port, count))
                    count += 1
                    self._ended.wait(REPORTS_S[port])

        return report

    @contextmanager
    def _linked(self, link: socket.socket) -> Iterator[None]:
        self._links.add(link)
        try:
            with suppress(OSError):
                yield
        finally:
            self._links.discard(link)


class _Door(socketserver.ThreadingTCPServer):
    """One listening port."""

    allow_reuse_address = True
    daemon_threads = True
    block_on_close = False

    def __init__(self, address: tuple[str, int], serve: Callable[[socket.socket], None]) -> None:
        self.serve = serve
        super().__init__(address, _Visit)


class _Visit(socketserver.BaseRequestHandler):
    def handle(self) -> None:
        assert isinstance(self.server, _Door)
        self.request.settimeout(None)  # the SDK sets another default for its whole process
        self.server.serve(self.request)


@contextmanager
def xarm_emulator(
    controller: Controller | None = None, *, host: str = "127.0.0.1", port: int = 0, clock: Clock | None = None
) -> Iterator[XArmEmulator]:
    """A running emulator."""
    emulator = XArmEmulator(controller, host=host, clock=clock)
    emulator.open(port)
    try:
        yield emulator
    finally:
        emulator.close()


def main(arguments: Sequence[str]) -> None:
    """Serves until it is interrupted."""
    parser = argparse.ArgumentParser(prog="python -m hal.emulators.xarm", description="An xArm 6 for dry runs.")
    parser.add_argument("--host", default="127.0.0.1", help="an address of the loopback")
    parser.add_argument("--port", type=int, default=0, help="of commands; the arm's own is 502, 0 takes a free one")
    options = parser.parse_args(arguments)
    with suppress(KeyboardInterrupt), xarm_emulator(host=options.host, port=options.port) as emulator:
        sys.stdout.write(f"robot.host={emulator.host} robot.port={emulator.port}\n")
        sys.stdout.flush()
        threading.Event().wait()


if __name__ == "__main__":
    main(sys.argv[1:])
