"""Robotiq 2F-85 and 2F-140: one number, the opening, over the text server of Robotiq's URCap (TCP port 63352).

Source: the public descriptions of that server (GET and SET of ACT, GTO, SPE, FOR, POS, STA, OBJ, FLT) and of the
gripper's registers in its manual. Needs a UR controller with the URCap; no SDK. POS is 0 open to 255 closed; here the
opening is 1 open to 0 closed, of the range that the fingers have. `object` is 1 while they stand against something.

The gripper has no watchdog: it goes on to its last target, by the force it was told, and stays. So the halt is out of
band: `python -m hal.robotiq halt HOST [PORT]` takes back GTO, as `halt` does. Nothing here resets a fault.
"""

import logging
import re
import socket
import sys
from collections.abc import Callable, Mapping
from contextlib import closing
from dataclasses import dataclass, replace

import numpy as np

from hal.address import robot_address
from hal.robot import OnSilence, RobotSpec, RobotState
from user_rl.clock import Clock, SystemClock
from user_rl.errors import HardwareError, RobotFault, RobotUnreachable
from user_rl.specs import Array, box

log = logging.getLogger(__name__)

PORT = 63352

_STOP_S = 1.0
_FULL = 255  # of POS, SPE and FOR
_ACTIVE = 3  # STA of a gripper that may move
_AGAINST = (1, 2)  # OBJ of fingers that stopped at something, opening or closing
_FAULTS = {  # FLT, from the manual
    5: "its action waits for the activation to end",
    7: "it is not activated",
    8: "it is too hot",
    9: "it had no communication for a second",
    10: "its voltage is below the minimum",
    11: "an automatic release is in progress",
    12: "an internal fault",
    13: "the activation failed",
    14: "its current is too high",
    15: "an automatic release has ended",
}

Connect = Callable[[str, int, float], socket.socket]


@dataclass(frozen=True, kw_only=True)
class RobotiqConfig:
    """Where the gripper is, how fast and how hard it closes, and whether opening the driver may move it."""

    host: str = ""  # of the UR; empty: the environment variable ROBOT_IP
    port: int = PORT
    rate_hz: float = 10.0
    speed: float = 1.0  # of what it can
    force: float = 0.3
    activate: bool = False  # an activation opens and closes the fingers fully: only with a free gripper
    activate_s: float = 10.0  # after which it has failed
    connect_s: float = 2.0
    answer_s: float = 0.08  # for all that one call asks

    def __post_init__(self) -> None:
        for name in ("speed", "force"):
            if not 0 <= getattr(self, name) <= 1:
                raise ValueError(f"{name} = {getattr(self, name)}, allowed 0 to 1; change it")
        if not 0 < self.rate_hz * self.answer_s < 1:
            raise ValueError(
                f"rate_hz = {self.rate_hz}, allowed below {1 / self.answer_s:.3g}, as the gripper may take "
                f"answer_s = {self.answer_s} to answer; change one of them"
            )


def connect(host: str, port: int, wait_s: float) -> socket.socket:
    """A connection to the text server; raises OSError."""
    return socket.create_connection((host, port), timeout=wait_s)


class Line:
    """One connection to the text server: GET and SET, each answered before a deadline."""

    def __init__(self, link: socket.socket, where: str) -> None:
        self._link, self._where, self._clock = link, where, SystemClock()
        self._broken: str | None = None  # after an answer that did not come, none can be told from the next

    def get(self, name: str, deadline_s: float) -> int:
        """The number called `name`; a newline after it is tolerated, not needed."""
        self._send(f"GET {name}\n")
        return int(self._until(rf"{name} (\d+)\s*", deadline_s).group(1))

    def set(self, values: Mapping[str, int], deadline_s: float) -> None:
        """Sets numbers at once, in their order."""
        self._send("SET " + " ".join(f"{name} {value}" for name, value in values.items()) + "\n")
        self._until(r"ack\s*", deadline_s)

    def close(self) -> None:
        """Hangs up."""
        self._link.close()

    def _send(self, text: str) -> None:
        if self._broken is not None:
            raise self._gone(self._broken)
        try:
            self._link.sendall(text.encode())
        except OSError as error:
            raise self._gone(str(error)) from error

    def _until(self, pattern: str, deadline_s: float) -> re.Match[str]:
        text = ""
        while (found := re.fullmatch(pattern, text)) is None:
            left_s = deadline_s - self._clock.now_s()
            if left_s <= 0:
                raise self._gone(f"it answered {text!r}" if text else "it does not answer")
            try:
                self._link.settimeout(left_s)
                chunk = self._link.recv(64)
            except OSError as error:
                raise self._gone(str(error)) from error
            if not chunk:
                raise self._gone("it hung up")
            text += chunk.decode("ascii", "replace")
        return found

    def _gone(self, why: str) -> RobotUnreachable:
        self._broken = why
        return RobotUnreachable(
            f"the gripper's server at {self._where}: {why}; look at the UR controller and its URCap, then open again"
        )


class Robotiq:
    """See hal.robot.Robot."""

    def __init__(self, config: RobotiqConfig, *, clock: Clock, connect: Connect = connect) -> None:
        config = replace(config, host=robot_address(config.host, "UR arm that has the gripper"))
        self.config, self.clock, self._connect = config, clock, connect
        self._waits = SystemClock()
        self._line: Line | None = None
        self._spec = RobotSpec(
            model="robotiq",
            state=box("observation.state", [("opening", "", 0.0, 1.0), ("object", "", 0.0, 1.0)]),
            command=box("action", [("opening.target", "", 0.0, 1.0)]),
            rate_hz=config.rate_hz,
            on_silence=OnSilence.OUT_OF_BAND,
            halt_command=(sys.executable, "-m", "hal.robotiq", "halt", config.host, str(config.port)),
        )

    @property
    def spec(self) -> RobotSpec:
        return self._spec

    def open(self) -> None:
        self._line = dial(self.config.host, self.config.port, self.config.connect_s, self._connect)
        try:
            if self._ask("STA")[0] != _ACTIVE:
                self._activate(self._line)
            self._check_fault(*self._ask("FLT"))
            speed, force = (round(_FULL * part) for part in (self.config.speed, self.config.force))
            self._line.set({"GTO": 0, "SPE": speed, "FOR": force}, self._deadline_s())
        except HardwareError:
            self._hang_up()
            raise

    def read(self) -> RobotState:
        stamp_s = self.clock.now_s()
        position, against, fault = self._ask("POS", "OBJ", "FLT")
        self._check_fault(fault)
        values = np.array([1 - position / _FULL, against in _AGAINST], np.float32)
        return RobotState(stamp_s=stamp_s, values=values)

    def command(self, target: Array) -> Array:
        line = self._opened()
        self._spec.command.check(target)
        position = round(_FULL * (1 - float(target[0])))
        line.set({"POS": position, "GTO": 1}, self._deadline_s())
        return np.array([1 - position / _FULL], np.float32)

    def halt(self) -> None:
        if self._line is None:
            return
        try:
            self._line.set({"GTO": 0}, self._deadline_s())
        except RobotUnreachable:
            stop(self.config.host, self.config.port, self._connect)

    def close(self) -> None:
        try:
            self.halt()
        except HardwareError as error:
            log.error("the gripper is closed without a halt: %s", error)
        finally:
            self._hang_up()

    def _activate(self, line: Line) -> None:
        where = f"the gripper at {self.config.host}"
        if not self.config.activate:
            raise RobotFault(
                f"{where} is not activated; activate it at the pendant, or free its fingers and give activate=true"
            )
        deadline_s = self._waits.now_s() + self.config.activate_s
        line.set({"ACT": 0}, self._deadline_s())
        line.set({"ACT": 1}, self._deadline_s())
        while self._ask("STA")[0] != _ACTIVE:
            if self._waits.now_s() > deadline_s:
                raise RobotFault(
                    f"{where} was not active within {self.config.activate_s:.3g} s; look at its lamp, free its fingers"
                )
            self._waits.sleep_until(self._waits.now_s() + 0.05)

    def _ask(self, *names: str) -> list[int]:
        line, deadline_s = self._opened(), self._deadline_s()
        return [line.get(name, deadline_s) for name in names]

    def _check_fault(self, fault: int) -> None:
        if fault:
            why = _FAULTS.get(fault, "see its manual")
            raise RobotFault(
                f"the gripper at {self.config.host} reports fault {fault}: {why}; "
                "look at it, then reset it at the pendant"
            )

    def _deadline_s(self) -> float:
        return self._waits.now_s() + self.config.answer_s

    def _hang_up(self) -> None:
        if self._line is not None:
            self._line.close()
            self._line = None

    def _opened(self) -> Line:
        if self._line is None:
            raise RobotUnreachable(f"the gripper at {self.config.host} is not open; call open() first")
        return self._line


def dial(host: str, port: int, wait_s: float, connect: Connect = connect) -> Line:
    """A connected line; raises RobotUnreachable."""
    try:
        return Line(connect(host, port, wait_s), f"{host}:{port}")
    except OSError as error:
        raise RobotUnreachable(
            f"no gripper's server at {host}:{port}: {error}; look at the UR controller, its address and its URCap"
        ) from error


def stop(host: str, port: int, connect: Connect = connect) -> None:
    """Stops a gripper over a connection of its own; raises RobotUnreachable."""
    with closing(dial(host, port, _STOP_S, connect)) as line:
        line.set({"GTO": 0}, SystemClock().now_s() + _STOP_S)


def main(arguments: list[str]) -> None:
    """What the halt command runs: takes back the permission to move."""
    if len(arguments) not in (2, 3) or arguments[0] != "halt":
        sys.exit("usage: python -m hal.robotiq halt HOST [PORT]")
    port = int(arguments[2]) if len(arguments) == 3 else PORT
    try:
        stop(arguments[1], port)
    except HardwareError as error:
        sys.exit(str(error))


if __name__ == "__main__":
    main(sys.argv[1:])
