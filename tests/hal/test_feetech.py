"""The bus against golden bytes from Feetech's manual, and against the emulator through a real pyserial port."""

import sys
from collections.abc import Iterator
from dataclasses import replace

import pytest

from hal import feetech
from hal.emulators.feetech import FeetechEmulator, feetech_emulator
from hal.feetech import BROADCAST, Alarm, Bus, BusConfig, Instruction, Packet, open_port, take_packet
from tests.hal.arm_files import PATIENT
from user_rl.clock import FakeClock
from user_rl.errors import ConfigError, RobotFault, RobotUnreachable

POSITION_AND_SPEED = (feetech.PRESENT_POSITION, feetech.PRESENT_SPEED)
GOLDEN = {  # the manual's examples
    "FF FF 01 02 01 FB": Packet(1, Instruction.PING),
    "FF FF 01 02 00 FC": Packet(1, 0),
    "FF FF 01 04 02 38 02 BE": Packet(1, Instruction.READ, bytes((0x38, 2))),
    "FF FF 01 04 00 18 05 DD": Packet(1, 0, bytes((0x18, 0x05))),
    "FF FF FE 04 03 05 01 F4": Packet(BROADCAST, Instruction.WRITE, bytes((5, 1))),
    "FF FF FE 06 82 38 08 01 02 36": Packet(BROADCAST, Instruction.SYNC_READ, bytes((0x38, 8, 1, 2))),
}


@pytest.fixture
def emulator() -> Iterator[FeetechEmulator]:
    with feetech_emulator((1, 2, 3), clock=FakeClock()) as running:
        yield running


@pytest.fixture
def bus(emulator: FeetechEmulator) -> Iterator[Bus]:
    bus = Bus(open_port(emulator.path, 1_000_000), PATIENT, names={1: "shoulder", 2: "elbow", 3: "wrist"})
    yield bus
    bus.close()


@pytest.mark.parametrize("text", GOLDEN)
def test_packets_are_byte_for_byte_the_manuals(text: str) -> None:
    data = bytes.fromhex(text)
    assert GOLDEN[text].encoded() == data
    assert take_packet(bytearray(data)) == GOLDEN[text]


def test_four_goals_in_one_packet_are_the_manuals_bytes() -> None:
    port = Recorder()
    goal = (feetech.GOAL_POSITION, feetech.GOAL_TIME, feetech.GOAL_SPEED)
    Bus(port).sync_write(goal, dict.fromkeys((1, 2, 3, 4), (2048, 0, 1000)))
    each = "{:02X} 00 08 00 00 E8 03 "
    assert port.sent == bytes.fromhex(f"FF FF FE 20 83 2A 06 {''.join(each.format(i) for i in (1, 2, 3, 4))} 58")


class Recorder:
    """A port that keeps what is written to it, and gives `answers` one by one."""

    timeout: float | None = None
    in_waiting = 0

    def __init__(self, *answers: bytes) -> None:
        self.sent, self.answers = b"", list(answers)

    def read(self, size: int, /) -> bytes:
        return self.answers.pop(0) if self.answers else b""

    def write(self, data: bytes, /) -> int:
        self.sent += data
        return len(data)

    def close(self) -> None: ...


@pytest.mark.parametrize(
    ("register", "value", "raw"),
    [
        (feetech.PRESENT_SPEED, 300, "2C 01"),
        (feetech.PRESENT_SPEED, -300, "2C 81"),
        (feetech.HOMING_OFFSET, -14, "0E 08"),
        (feetech.GOAL_POSITION, 4095, "FF 0F"),
        (feetech.TORQUE_ENABLE, 1, "01"),
    ],
)
def test_a_sign_is_a_bit_beside_the_magnitude(register: feetech.Register, value: int, raw: str) -> None:
    assert register.encode(value) == bytes.fromhex(raw)
    assert register.decode(bytes.fromhex(raw)) == value


def test_a_packet_is_found_behind_noise_and_a_damaged_one() -> None:
    good, bad = bytes.fromhex("FF FF 01 04 00 18 05 DD"), bytes.fromhex("FF FF 01 04 00 18 05 DE")
    buffer = bytearray(b"\x00\xff\x12" + bad + b"\xff" + good + good[:3])
    assert take_packet(buffer) == Packet(1, 0, b"\x18\x05")
    assert take_packet(buffer) is None
    assert bytes(buffer) == good[:3]


def test_alarms_are_named() -> None:
    assert Alarm(0b100100).words == "overheating, overload"
    assert "0x40" in Alarm(0x40).words


def test_numbers_go_there_and_back(bus: Bus, emulator: FeetechEmulator) -> None:
    bus.ping(2)
    bus.write(2, feetech.GOAL_POSITION, 1234)
    assert bus.read(2, feetech.GOAL_POSITION) == 1234
    assert emulator.servos[2].get(feetech.GOAL_POSITION) == 1234
    assert bus.read(2, feetech.MODEL) == feetech.STS3215


def test_positions_and_speeds_of_all_come_in_one_exchange(bus: Bus, emulator: FeetechEmulator) -> None:
    clock = emulator._clock
    assert isinstance(clock, FakeClock)
    for servo, goal in {1: 3000, 2: 1000}.items():
        bus.write(servo, feetech.GOAL_SPEED, 500)
        bus.write(servo, feetech.GOAL_POSITION, goal)
        bus.write(servo, feetech.TORQUE_ENABLE, 1)
    clock.advance(0.5)
    assert bus.sync_read((1, 2, 3), POSITION_AND_SPEED) == {1: (2298, 500), 2: (1798, -500), 3: (2048, 0)}
    clock.advance(10)
    assert bus.sync_read((1, 2), POSITION_AND_SPEED) == {1: (3000, 0), 2: (1000, 0)}


@pytest.mark.slow
@pytest.mark.parametrize("fault", [{"echo": True}, {"corrupt": 1}, {"cut": 1}, {"noise": b"\xff\x00\xff\xff"}])
def test_a_spoiled_answer_is_asked_for_again(bus: Bus, emulator: FeetechEmulator, fault: dict[str, object]) -> None:
    emulator.faults = replace(emulator.faults, **fault)  # type: ignore[arg-type]
    assert bus.read(1, feetech.PRESENT_POSITION) == 2048
    emulator.faults = replace(emulator.faults, **fault)  # type: ignore[arg-type]
    assert bus.sync_read((1, 2, 3), POSITION_AND_SPEED) == dict.fromkeys((1, 2, 3), (2048, 0))


def test_only_the_servo_whose_answer_was_spoiled_is_asked_again() -> None:
    here = bytes((0x00, 0x08))
    port = Recorder(Packet(1, 0, here).encoded(), b"", Packet(2, 0, here).encoded())
    assert Bus(port).sync_read((1, 2), (feetech.PRESENT_POSITION,)) == {1: (2048,), 2: (2048,)}
    first = Packet(BROADCAST, Instruction.SYNC_READ, bytes((56, 2, 1, 2))).encoded()
    assert port.sent == first + Packet(BROADCAST, Instruction.SYNC_READ, bytes((56, 2, 2))).encoded()


def test_an_answer_of_another_size_is_no_answer() -> None:
    port = Recorder(Packet(1, 0, b"\x01").encoded(), b"", Packet(1, 0, b"\x02\x00").encoded())
    assert Bus(port).read(1, feetech.PRESENT_POSITION) == 2


def test_the_late_answer_to_an_earlier_request_is_thrown_away() -> None:
    class Late(Recorder):
        in_waiting = 8

        def read(self, size: int, /) -> bytes:
            self.in_waiting = 0
            return super().read(size)

    port = Late(Packet(1, 0, b"\x01\x00").encoded(), Packet(1, 0, b"\x02\x00").encoded())
    assert Bus(port).read(1, feetech.PRESENT_POSITION) == 2


@pytest.mark.slow
def test_answers_that_stay_spoiled_are_no_answers(bus: Bus, emulator: FeetechEmulator) -> None:
    emulator.faults.corrupt = 2
    with pytest.raises(RobotUnreachable, match=r"^shoulder \(id 1\) did not answer within 400 ms; look at power"):
        bus.read(1, feetech.PRESENT_POSITION)


def test_a_babbling_wire_ends_at_the_deadline() -> None:
    class Babble(Recorder):
        def read(self, size: int, /) -> bytes:
            clock.advance(0.001)
            return b"\x00" * size

    clock = FakeClock()
    with pytest.raises(RobotUnreachable, match="within 20 ms"):
        Bus(Babble(), BusConfig(answer_s=0.01, attempts=2), clock=clock).ping(1)
    assert clock.now_s() <= 0.021


@pytest.mark.slow
def test_a_missing_servo_is_named(bus: Bus, emulator: FeetechEmulator) -> None:
    emulator.faults.missing = {2}
    with pytest.raises(RobotUnreachable, match=r"^elbow \(id 2\) did not answer"):
        bus.sync_read((1, 2, 3), POSITION_AND_SPEED)


def test_an_alarm_is_a_fault_that_names_it(bus: Bus, emulator: FeetechEmulator) -> None:
    emulator.servos[3].alarms = Alarm.OVERLOAD
    for ask in (lambda: bus.ping(3), lambda: bus.sync_read((1, 2, 3), POSITION_AND_SPEED)):
        with pytest.raises(RobotFault, match=r"^wrist \(id 3\) reports overload; look at the arm, free it"):
            ask()


def test_holding_makes_every_place_a_goal_also_under_an_alarm(bus: Bus, emulator: FeetechEmulator) -> None:
    for place, servo in enumerate(emulator.servos.values()):
        servo.position = 1000.0 + place
        servo.alarms = Alarm.OVERLOAD
    bus.hold((1, 2, 3))
    assert [s.get(feetech.GOAL_POSITION) for s in emulator.servos.values()] == [1000, 1001, 1002]


@pytest.mark.slow
def test_holding_goes_on_past_a_servo_that_is_gone(bus: Bus, emulator: FeetechEmulator) -> None:
    emulator.faults.missing = {1}
    emulator.servos[3].position = 700.0
    with pytest.raises(RobotUnreachable, match=r"^shoulder \(id 1\) cannot be held and may still move"):
        bus.hold((1, 2, 3))
    assert emulator.servos[3].get(feetech.GOAL_POSITION) == 700


def test_a_hold_that_did_not_arrive_is_sent_again() -> None:
    """Nobody acknowledges a sync write, so the goals are read back."""
    here, other = Packet(1, 0, bytes((0x00, 0x08))).encoded(), Packet(1, 0, bytes((0x00, 0x01))).encoded()
    port = Recorder(here, other, here, here)
    Bus(port).hold((1,))
    assert port.sent.count(Packet(BROADCAST, Instruction.SYNC_WRITE, bytes((42, 2, 1, 0x00, 0x08))).encoded()) == 2


def test_an_unplugged_bus_is_unreachable(bus: Bus, emulator: FeetechEmulator) -> None:
    emulator.close()
    with pytest.raises(RobotUnreachable, match="the servo bus is gone"):
        bus.ping(1)


def test_no_port_is_unreachable_and_two_owners_are_refused(emulator: FeetechEmulator, bus: Bus) -> None:
    with pytest.raises(RobotUnreachable, match=r"^the serial port /dev/nowhere does not open: "):
        open_port("/dev/nowhere", 1_000_000)
    with pytest.raises(RobotUnreachable, match="who else has it open"):
        open_port(emulator.path, 1_000_000)
    open_port(emulator.path, 1_000_000, exclusive=False).close()


def test_without_pyserial_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "serial", None)
    with pytest.raises(ConfigError, match=r"needs pyserial; pip install 'user-rl\[serial\]'"):
        open_port("/dev/nowhere", 1_000_000)


@pytest.mark.parametrize("name", ["baud_rate", "answer_s", "attempts"])
def test_a_bus_without_time_is_refused(name: str) -> None:
    with pytest.raises(ValueError, match=f"^{name} = 0, allowed above 0"):
        BusConfig(**{name: 0})
