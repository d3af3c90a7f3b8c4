"""A Feetech servo bus on a pseudo-terminal: STS3215 servos that move, and what goes wrong on such a wire.

`python -m hal.emulators.feetech` prints the path of the port and serves until it is ended; `--calibration FILE` writes
the file that fits. Source: Feetech's public manuals; packets and registers are `hal.feetech`'s, whose bytes its tests
hold against the manuals' examples. Servos go to their goal at the speed in their table, without inertia.
"""

import argparse
import json
import os
import pty
import select
import sys
import threading
import tty
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

from hal import feetech
from hal.feetech import BROADCAST, Instruction, Packet, Register, take_packet
from user_rl.clock import Clock, SystemClock

FASTEST_STEPS_S = 3000.0  # of an STS3215 at 12 V without load
_TABLE_BYTES = 90


@dataclass
class Servo:
    """One servo: its table of registers, where it is, and how fast it goes."""

    position: float = 2048.0  # steps, after the homing offset
    alarms: int = 0  # error bits of its answers
    table: bytearray = field(default_factory=lambda: bytearray(_TABLE_BYTES))
    speed: float = 0.0  # steps/s

    def __post_init__(self) -> None:
        self.set(feetech.MODEL, feetech.STS3215)
        self.set(feetech.MAX_POSITION, feetech.STEPS_PER_TURN - 1)
        self.set(feetech.TORQUE_LIMIT, 1000)
        self.set(feetech.GOAL_POSITION, round(self.position))

    def get(self, register: Register) -> int:
        """A number of the table."""
        return register.decode(bytes(self.table[register.address : register.address + register.size]))

    def set(self, register: Register, value: int) -> None:
        """Sets a number of the table."""
        self.table[register.address : register.address + register.size] = register.encode(value)

    def pass_time(self, by_s: float) -> None:
        """Moves towards the goal, where there is torque, and writes down what is measured."""
        way = self._goal() - self.position if self.get(feetech.TORQUE_ENABLE) else 0.0
        limit = float(self.get(feetech.GOAL_SPEED)) or FASTEST_STEPS_S
        step = max(-limit * by_s, min(limit * by_s, way))
        self.speed = 0.0 if step == way else limit * (1 if way > 0 else -1)
        self.position += step
        self.set(feetech.PRESENT_POSITION, round(self.position))
        self.set(feetech.PRESENT_SPEED, round(self.speed))

    def _goal(self) -> float:
        goal = self.get(feetech.GOAL_POSITION)
        return min(max(goal, self.get(feetech.MIN_POSITION)), self.get(feetech.MAX_POSITION))


@dataclass
class Faults:
    """What goes wrong on the wire; tests and the command line set it, also while it runs."""

    missing: set[int] = field(default_factory=set)  # servos that do not answer
    corrupt: int = 0  # so many answers with a wrong checksum to come
    cut: int = 0  # so many answers to come without their last byte
    noise: bytes = b""  # before every answer
    echo: bool = False  # the adapter returns what is sent


class FeetechEmulator:
    """Servos behind a pseudo-terminal, served by a thread between `open` and `close`."""

    def __init__(self, servos: Sequence[int] = (1, 2, 3, 4, 5, 6), *, clock: Clock | None = None) -> None:
        self.servos = {servo: Servo() for servo in servos}
        self.faults = Faults()
        self.lock = threading.Lock()  # hold it to look at several servos at one instant
        self.path = ""
        self._clock = clock or SystemClock()
        self._then_s = self._clock.now_s()
        self._thread: threading.Thread | None = None

    def open(self) -> None:
        """Makes the pseudo-terminal, `path`, and serves it."""
        self._master, self._slave = pty.openpty()
        tty.setraw(self._slave)
        self.path = os.ttyname(self._slave)
        self._stop_read, self._stop_write = os.pipe()
        self._thread = threading.Thread(target=self._serve, name="feetech-emulator", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Pulls the plug; safe to call twice."""
        if self._thread is not None:
            os.write(self._stop_write, b".")
            self._thread.join()
            self._thread = None
            for end in (self._master, self._slave, self._stop_read, self._stop_write):
                os.close(end)

    def pass_time(self) -> None:
        """Brings every servo to this instant."""
        with self.lock:
            self._pass_time()

    def _pass_time(self) -> None:
        now_s = self._clock.now_s()
        for servo in self.servos.values():
            servo.pass_time(now_s - self._then_s)
        self._then_s = now_s

    def _serve(self) -> None:
        buffer = bytearray()
        while True:
            ready, _, _ = select.select([self._master, self._stop_read], [], [])
            if self._stop_read in ready:
                return
            data = os.read(self._master, 4096)
            if self.faults.echo:
                os.write(self._master, data)
            buffer += data
            while (request := take_packet(buffer)) is not None:
                with self.lock:
                    self._pass_time()
                    answers = self._answers(request)
                for status in answers:
                    os.write(self._master, self._spoiled(status.encoded()))

    def _answers(self, request: Packet) -> list[Packet]:
        asked = self._asked(request)
        return [
            Packet(servo, self.servos[servo].alarms, self._carry_out(servo, request))
            for servo in asked
            if servo in self.servos and servo not in self.faults.missing and request.code != Instruction.SYNC_WRITE
        ]

    def _asked(self, request: Packet) -> list[int]:
        if request.code == Instruction.SYNC_READ:
            return list(request.parameters[2:])
        if request.code == Instruction.SYNC_WRITE:
            self._write_many(request.parameters)
        return [request.servo] if request.servo != BROADCAST else []

    def _carry_out(self, servo: int, request: Packet) -> bytes:
        table = self.servos[servo].table
        if request.code in (Instruction.READ, Instruction.SYNC_READ):
            address, size = request.parameters[:2]
            return bytes(table[address : address + size])
        if request.code == Instruction.WRITE:
            self._write(servo, request.parameters[0], request.parameters[1:])
        return b""

    def _write_many(self, parameters: bytes) -> None:
        address, size = parameters[:2]
        for at in range(2, len(parameters), size + 1):
            self._write(parameters[at], address, parameters[at + 1 : at + 1 + size])

    def _write(self, servo: int, address: int, data: bytes) -> None:
        if servo in self.servos and servo not in self.faults.missing:
            self.servos[servo].table[address : address + len(data)] = data

    def _spoiled(self, answer: bytes) -> bytes:
        if self.faults.corrupt:
            self.faults.corrupt -= 1
            answer = answer[:-1] + bytes((answer[-1] ^ 0x55,))
        elif self.faults.cut:
            self.faults.cut -= 1
            answer = answer[:-1]
        return self.faults.noise + answer


@contextmanager
def feetech_emulator(
    servos: Sequence[int] = (1, 2, 3, 4, 5, 6), *, clock: Clock | None = None
) -> Iterator[FeetechEmulator]:
    """A running emulator."""
    emulator = FeetechEmulator(servos, clock=clock)
    emulator.open()
    try:
        yield emulator
    finally:
        emulator.close()


def calibration(names: Sequence[str]) -> dict[str, dict[str, int]]:
    """What LeRobot's calibration file says of an arm whose servos are as the emulator makes them."""
    ends = {"homing_offset": 0, "range_min": 0, "range_max": feetech.STEPS_PER_TURN - 1}
    return {name: {"id": i, "drive_mode": 0, **ends} for i, name in enumerate(names, start=1)}


def main(arguments: Sequence[str]) -> None:
    """Serves until it is interrupted."""
    from hal.so101 import JOINTS

    parser = argparse.ArgumentParser(prog="python -m hal.emulators.feetech", description="A servo bus for dry runs.")
    parser.add_argument("--missing", type=int, nargs="*", default=[], help="servos that do not answer")
    parser.add_argument("--echo", action="store_true", help="the adapter returns what is sent")
    parser.add_argument("--calibration", type=Path, help="write a calibration file that fits")
    options = parser.parse_args(arguments)
    with feetech_emulator() as emulator:
        emulator.faults = Faults(missing=set(options.missing), echo=options.echo)
        if options.calibration is not None:
            options.calibration.write_text(json.dumps(calibration(JOINTS)))
        sys.stdout.write(f"{emulator.path}\n")
        sys.stdout.flush()
        with suppress(KeyboardInterrupt):
            threading.Event().wait()


if __name__ == "__main__":
    main(sys.argv[1:])
