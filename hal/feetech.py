"""The Feetech STS servo bus: packets, registers, and a master whose every exchange has a deadline.

Source: Feetech's public manuals of the STS/SMS protocol and of the STS3215's memory table. A request is FF FF, id,
length, instruction, parameters, checksum; a status has error bits in the instruction's place. Numbers are
little-endian, signed ones a magnitude and a sign bit. One wire serves both ways: an adapter may echo what is sent.
Needs pyserial (extra `serial`) for a real port. Leaves out: registers in EPROM, which are a set-up tool's to write.
"""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from enum import IntEnum, IntFlag
from typing import Protocol

from user_rl.clock import Clock, SystemClock
from user_rl.errors import ConfigError, RobotFault, RobotUnreachable

BROADCAST = 0xFE
STEPS_PER_TURN = 4096
RAD_PER_STEP = 2 * math.pi / STEPS_PER_TURN
STS3215 = 777  # the model number that the servo keeps

_HEADER = b"\xff\xff"
_OVERHEAD = 6  # header, id, length, instruction, checksum


class Instruction(IntEnum):
    """What a request asks for."""

    PING = 0x01
    READ = 0x02
    WRITE = 0x03
    SYNC_READ = 0x82
    SYNC_WRITE = 0x83


class Alarm(IntFlag):
    """The error bits of a status packet."""

    VOLTAGE = 1
    ANGLE_SENSOR = 2
    OVERHEATING = 4
    OVERCURRENT = 8
    OVERLOAD = 32

    @property
    def words(self) -> str:
        """The bits as an operator reads them."""
        return ", ".join(str(bit.name).lower().replace("_", " ") for bit in self) or f"error bits {self:#x}"


@dataclass(frozen=True)
class Register:
    """Where a number lies in a servo's table; `sign_bit` None: it is never negative."""

    address: int
    size: int
    sign_bit: int | None = None

    def decode(self, raw: bytes) -> int:
        """The number in `raw`."""
        value = int.from_bytes(raw, "little")
        if self.sign_bit is not None and value >> self.sign_bit & 1:
            return -(value & ~(1 << self.sign_bit))
        return value

    def encode(self, value: int) -> bytes:
        """`value` as the servo keeps it."""
        sign = 1 << self.sign_bit if self.sign_bit is not None and value < 0 else 0
        return (abs(value) | sign).to_bytes(self.size, "little")


MODEL = Register(3, 2)
MIN_POSITION, MAX_POSITION = Register(9, 2), Register(11, 2)
HOMING_OFFSET = Register(31, 2, sign_bit=11)
OPERATING_MODE = Register(33, 1)  # 0: position
TORQUE_ENABLE = Register(40, 1)
ACCELERATION = Register(41, 1)  # hundreds of steps/s²
GOAL_POSITION, GOAL_TIME = Register(42, 2, sign_bit=15), Register(44, 2)
GOAL_SPEED = Register(46, 2, sign_bit=15)  # steps/s; in position mode the limit, 0: none
TORQUE_LIMIT = Register(48, 2)  # thousandths
PRESENT_POSITION, PRESENT_SPEED = Register(56, 2, sign_bit=15), Register(58, 2, sign_bit=15)  # steps, steps/s


@dataclass(frozen=True)
class Packet:
    """A request (`code` is an instruction) or a status (`code` holds error bits)."""

    servo: int
    code: int
    parameters: bytes = b""

    def encoded(self) -> bytes:
        """The packet as it goes over the wire."""
        body = bytes((self.servo, len(self.parameters) + 2, self.code)) + self.parameters
        return _HEADER + body + bytes((checksum(body),))


def checksum(body: bytes) -> int:
    """The last byte of a packet: what is between header and it, summed and inverted."""
    return ~sum(body) & 0xFF


def take_packet(buffer: bytearray) -> Packet | None:
    """The first whole packet of `buffer`, taken out with what is before it; None: more bytes are needed."""
    while (start := buffer.find(_HEADER)) >= 0:
        del buffer[:start]
        if len(buffer) < _OVERHEAD:
            return None
        servo, size = buffer[2], buffer[3] + 4
        if servo == 0xFF or size < _OVERHEAD:  # one FF too many, or no packet at all
            del buffer[:1]
            continue
        if len(buffer) < size:
            return None
        body, end = bytes(buffer[2 : size - 1]), buffer[size - 1]
        if checksum(body) != end:
            del buffer[:1]
            continue
        del buffer[:size]
        return Packet(servo, body[2], body[3:])
    return None


class Port(Protocol):
    """What is used of a pyserial port."""

    timeout: float | None

    @property
    def in_waiting(self) -> int: ...

    def read(self, size: int, /) -> bytes: ...

    def write(self, data: bytes, /) -> int | None: ...

    def close(self) -> None: ...


@dataclass(frozen=True, kw_only=True)
class BusConfig:
    """How fast the wire is, and how long and how often a servo is asked."""

    baud_rate: int = 1_000_000
    answer_s: float = 0.01  # for all answers to one request: at 1 Mbit/s six servos need 1 ms, and the adapter its own
    attempts: int = 2

    def __post_init__(self) -> None:
        for name in ("baud_rate", "answer_s", "attempts"):
            if getattr(self, name) <= 0:
                raise ValueError(f"{name} = {getattr(self, name)}, allowed above 0; change it")

    @property
    def longest_s(self) -> float:
        """After which an exchange has succeeded or failed."""
        return self.answer_s * self.attempts


def open_port(path: str, baud_rate: int, *, exclusive: bool = True) -> Port:
    """The serial port at `path`; raises RobotUnreachable."""
    try:
        import serial
    except ImportError as error:
        raise ConfigError("the Feetech bus needs pyserial; pip install 'user-rl[serial]'") from error
    try:
        return serial.Serial(path, baud_rate, timeout=0, write_timeout=0.1, exclusive=exclusive)
    except (OSError, ValueError) as error:
        raise RobotUnreachable(
            f"the serial port {path} does not open: {error}; look at cable and power, and who else has it open"
        ) from error


class Bus:
    """The master of one wire. `names` says what an operator calls each servo."""

    def __init__(
        self, port: Port, config: BusConfig = BusConfig(), *, names: Mapping[int, str] = {}, clock: Clock | None = None
    ) -> None:
        self._port, self._config, self._names = port, config, names
        self._clock = clock or SystemClock()

    def close(self) -> None:
        """Lets go of the port."""
        self._port.close()

    def ping(self, servo: int) -> None:
        """Raises RobotUnreachable when the servo is not there, RobotFault when it reports an alarm."""
        self._ask(Packet(servo, Instruction.PING), (servo,), 0)

    def read(self, servo: int, register: Register) -> int:
        """One number of one servo."""
        where = bytes((register.address, register.size))
        status = self._ask(Packet(servo, Instruction.READ, where), (servo,), register.size)[servo]
        return register.decode(status.parameters)

    def write(self, servo: int, register: Register, value: int) -> None:
        """Sets one number of one servo, which acknowledges it."""
        data = bytes((register.address,)) + register.encode(value)
        self._ask(Packet(servo, Instruction.WRITE, data), (servo,), 0)

    def sync_read(self, servos: Sequence[int], registers: Sequence[Register]) -> dict[int, tuple[int, ...]]:
        """Neighbouring numbers of several servos in one exchange."""
        size = _size(registers)
        answers = self._collect(servos, registers[0].address, size)
        self._check(answers, servos)
        return {servo: _split(answers[servo].parameters, registers) for servo in servos}

    def sync_write(self, registers: Sequence[Register], values: Mapping[int, Sequence[int]]) -> None:
        """Sets neighbouring numbers of several servos at once; nobody acknowledges it."""
        data = bytes((registers[0].address, _size(registers)))
        for servo, numbers in values.items():
            data += bytes((servo,))
            data += b"".join(r.encode(number) for r, number in zip(registers, numbers, strict=True))
        self._send(Packet(BROADCAST, Instruction.SYNC_WRITE, data).encoded())

    def hold(self, servos: Sequence[int]) -> None:
        """Makes where each servo is its goal, and sees that it is.

        Servos that report an alarm are held like the others. Raises RobotUnreachable for those that do not answer,
        after the others are held.
        """
        left = set(servos)
        for _ in range(self._config.attempts):
            here = self._collect(sorted(left), PRESENT_POSITION.address, PRESENT_POSITION.size)
            goals = {servo: (PRESENT_POSITION.decode(status.parameters),) for servo, status in here.items()}
            if goals:
                self.sync_write((GOAL_POSITION,), goals)
                held = self._collect(sorted(goals), GOAL_POSITION.address, GOAL_POSITION.size)
                left -= {s for s, status in held.items() if (GOAL_POSITION.decode(status.parameters),) == goals[s]}
            if not left:
                return
        raise RobotUnreachable(f"{self._named(left)} cannot be held and may still move; use the power switch")

    def _ask(self, request: Packet, servos: Sequence[int], size: int) -> dict[int, Packet]:
        answers: dict[int, Packet] = {}
        for _ in range(self._config.attempts):
            answers |= self._once(request, servos, size)
            if len(answers) == len(servos):
                break
        self._check(answers, servos)
        return answers

    def _collect(self, servos: Sequence[int], address: int, size: int) -> dict[int, Packet]:
        """The answers of those that answer: whoever is missing after one attempt is asked again."""
        answers: dict[int, Packet] = {}
        for _ in range(self._config.attempts):
            missing = [servo for servo in servos if servo not in answers]
            if missing:
                request = Packet(BROADCAST, Instruction.SYNC_READ, bytes((address, size, *missing)))
                answers |= self._once(request, missing, size)
        return answers

    def _once(self, request: Packet, servos: Sequence[int], size: int) -> dict[int, Packet]:
        """One request and what is answered to it in time; what is damaged, late or of another size does not count."""
        sent = request.encoded()
        deadline_s = self._clock.now_s() + self._config.answer_s
        self._send(sent)
        answers: dict[int, Packet] = {}
        buffer = bytearray()
        while len(answers) < len(servos):
            wanted = (len(servos) - len(answers)) * (size + _OVERHEAD) - len(buffer)
            chunk = self._receive(max(1, wanted), deadline_s - self._clock.now_s())
            if not chunk:
                break
            buffer += chunk
            while (packet := take_packet(buffer)) is not None:
                if packet.encoded() != sent and packet.servo in servos and len(packet.parameters) == size:
                    answers[packet.servo] = packet
        return answers

    def _send(self, data: bytes) -> None:
        try:
            if self._port.in_waiting:  # the late end of an earlier exchange
                self._port.timeout = 0
                self._port.read(self._port.in_waiting)
            self._port.write(data)
        except OSError as error:
            raise RobotUnreachable(
                f"the servo bus is gone: {error}; look at cable and power, then open again"
            ) from error

    def _receive(self, size: int, left_s: float) -> bytes:
        if left_s <= 0:
            return b""
        try:
            self._port.timeout = left_s
            return self._port.read(size)
        except OSError as error:
            raise RobotUnreachable(
                f"the servo bus is gone: {error}; look at cable and power, then open again"
            ) from error

    def _check(self, answers: Mapping[int, Packet], servos: Sequence[int]) -> None:
        missing = [servo for servo in servos if servo not in answers]
        if missing:
            raise RobotUnreachable(
                f"{self._named(missing)} did not answer within {self._config.longest_s * 1e3:.0f} ms; "
                "look at power and the cable to it, then open again"
            )
        for servo, status in answers.items():
            if status.code:
                raise RobotFault(
                    f"{self._named([servo])} reports {Alarm(status.code).words}; "
                    "look at the arm, free it, let it cool, switch its power off and on"
                )

    def _named(self, servos: Iterable[int]) -> str:
        return ", ".join(f"{self._names.get(servo, 'servo')} (id {servo})" for servo in sorted(servos))


def _size(registers: Sequence[Register]) -> int:
    ends = [register.address + register.size for register in registers]
    assert [register.address for register in registers[1:]] == ends[:-1], "registers that are no neighbours"
    return ends[-1] - registers[0].address


def _split(raw: bytes, registers: Sequence[Register]) -> tuple[int, ...]:
    first = registers[0].address
    return tuple(r.decode(raw[r.address - first : r.address - first + r.size]) for r in registers)
