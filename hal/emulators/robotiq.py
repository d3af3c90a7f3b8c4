"""A Robotiq 2F gripper behind the text server of the URCap, with fingers that move and may meet something.

`python -m hal.emulators.robotiq` prints its address and serves until it is ended. Source: the public descriptions of
the server and of the gripper's registers. The fingers go at a constant speed and stop at what is between them.
"""

import socket
import socketserver
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field

from user_rl.clock import Clock, SystemClock

FASTEST_PER_S = 350.0  # of POS at full speed
ACTIVATION_S = 0.2  # the real one takes two seconds
_WRITABLE = ("ACT", "GTO", "SPE", "FOR", "POS")


@dataclass
class Gripper:
    """The fingers and the registers; tests set `between`, `fault` and `active`."""

    position: float = 0.0  # 0 open to 255 closed
    active: bool = True
    fault: int = 0
    between: int | None = None  # POS at which an object stops closing fingers
    registers: dict[str, int] = field(default_factory=lambda: {"ACT": 1, "GTO": 0, "SPE": 255, "FOR": 255, "POS": 0})
    activating_s: float = 0.0  # still to go

    def get(self, name: str) -> int | None:
        """A number as the server gives it; None: there is none of that name."""
        status = {"POS": round(self.position), "FLT": self.fault, "OBJ": self._object(), "STA": self._status()}
        return status.get(name, self.registers.get(name))

    def set(self, name: str, value: int) -> bool:
        """Sets a number; False: there is none of that name, or it may not be set."""
        if name not in _WRITABLE or not 0 <= value <= 255:
            return False
        if name == "ACT" and value != self.registers["ACT"]:
            self.active, self.activating_s = False, ACTIVATION_S if value else 0.0
        self.registers[name] = value
        return True

    def pass_time(self, by_s: float) -> None:
        """Activates, or moves the fingers."""
        if self.activating_s:
            self.activating_s = max(0.0, self.activating_s - by_s)
            self.active = self.activating_s == 0
        if self.active and self.registers["GTO"] and not self.fault:
            limit = FASTEST_PER_S * self.registers["SPE"] / 255 * by_s
            way = self._reachable() - self.position
            self.position += max(-limit, min(limit, way))

    def _reachable(self) -> float:
        goal = float(self.registers["POS"])
        return goal if self.between is None else min(goal, max(float(self.between), 0.0))

    def _object(self) -> int:
        if self.position == self.registers["POS"]:
            return 3
        return 2 if self.registers["GTO"] and self.position == self._reachable() else 0

    def _status(self) -> int:
        return 3 if self.active else 1 if self.activating_s else 0


class RobotiqEmulator(socketserver.ThreadingTCPServer):
    """The text server on a loopback port, `port`, served by threads between `open` and `close`."""

    allow_reuse_address = True
    daemon_threads = True
    block_on_close = False

    def __init__(self, *, clock: Clock | None = None, newline: bool = True) -> None:
        super().__init__(("127.0.0.1", 0), _Talk)
        self.gripper = Gripper()
        self.mute = False  # hears, and says nothing
        self.newline = newline  # whether answers end with one: the versions differ
        self._clock = clock or SystemClock()
        self._then_s = self._clock.now_s()
        self._lock = threading.Lock()
        self._links: list[socket.socket] = []
        self._thread = threading.Thread(target=self.serve_forever, args=(0.02,), name="robotiq-emulator", daemon=True)

    @property
    def port(self) -> int:
        return int(self.server_address[1])

    def open(self) -> None:
        """Begins to serve."""
        self._thread.start()

    def close(self) -> None:
        """Hangs up on everybody; safe to call twice."""
        if self._thread.is_alive():
            self.shutdown()
            self._thread.join()
        self.server_close()
        for link in self._links:
            with suppress(OSError):
                link.shutdown(socket.SHUT_RDWR)

    def talk(self, link: socket.socket) -> None:
        """Serves one client until it or the server hangs up."""
        self._links.append(link)
        with suppress(OSError), link.makefile("r", encoding="ascii", errors="replace") as lines:
            for line in lines:
                answer = self.answer(line.split())
                if not self.mute:
                    link.sendall((answer + "\n" if self.newline else answer).encode())

    def answer(self, words: list[str]) -> str:
        """What the server says to a line."""
        with self._lock:
            now_s = self._clock.now_s()
            self.gripper.pass_time(now_s - self._then_s)
            self._then_s = now_s
            match words:
                case ["GET", name]:
                    value = self.gripper.get(name)
                    return "?" if value is None else f"{name} {value}"
                case ["SET", *pairs] if pairs and len(pairs) % 2 == 0 and all(v.isdigit() for v in pairs[1::2]):
                    done = [self.gripper.set(n, int(v)) for n, v in zip(pairs[::2], pairs[1::2], strict=True)]
                    return "ack" if all(done) else "?"
        return "?"


class _Talk(socketserver.BaseRequestHandler):
    def handle(self) -> None:
        assert isinstance(self.server, RobotiqEmulator)
        self.request.settimeout(None)  # whatever the process's default is
        self.server.talk(self.request)


@contextmanager
def robotiq_emulator(*, clock: Clock | None = None, newline: bool = True) -> Iterator[RobotiqEmulator]:
    """A running emulator."""
    emulator = RobotiqEmulator(clock=clock, newline=newline)
    emulator.open()
    try:
        yield emulator
    finally:
        emulator.close()


if __name__ == "__main__":
    with suppress(KeyboardInterrupt), robotiq_emulator() as running:
        sys.stdout.write(f"127.0.0.1:{running.port}\n")
        sys.stdout.flush()
        threading.Event().wait()
