"""The gripper's driver over TCP, against the emulator of the URCap's text server."""

import subprocess
import sys
from collections.abc import Iterator

import numpy as np
import pytest

from hal.emulators.robotiq import ACTIVATION_S, RobotiqEmulator, robotiq_emulator
from hal.guard import Guarded
from hal.kits import check_robot
from hal.robotiq import Robotiq, RobotiqConfig
from user_rl.clock import FakeClock, SystemClock
from user_rl.errors import RobotFault, RobotUnreachable
from user_rl.specs import Array


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


@pytest.fixture
def emulator(clock: FakeClock) -> Iterator[RobotiqEmulator]:
    with robotiq_emulator(clock=clock) as running:
        yield running


def make(emulator: RobotiqEmulator, answer_s: float = 5.0, **more: float) -> Robotiq:
    config = RobotiqConfig(host="127.0.0.1", port=emulator.port, answer_s=answer_s, rate_hz=0.9 / answer_s, **more)  # type: ignore[arg-type]
    return Robotiq(config, clock=SystemClock())


@pytest.fixture
def gripper(emulator: RobotiqEmulator) -> Iterator[Robotiq]:
    gripper = make(emulator)
    gripper.open()
    yield gripper
    gripper.close()


def to(opening: float) -> Array:
    return np.array([opening], np.float32)


@pytest.mark.parametrize("newline", [True, False])
def test_the_gripper_keeps_the_contract_bare_and_guarded(newline: bool) -> None:
    with robotiq_emulator(newline=newline) as emulator:
        gripper = make(emulator)
        check_robot(lambda: gripper)
        guarded = Guarded(gripper, clock=FakeClock())
        check_robot(lambda: guarded, harmless=to(1))


def test_it_closes_at_its_speed_and_holds_what_it_meets(
    gripper: Robotiq, emulator: RobotiqEmulator, clock: FakeClock
) -> None:
    np.testing.assert_allclose(gripper.read().values, [1, 0])
    gripper.command(to(0))
    clock.advance(0.1)
    np.testing.assert_allclose(gripper.read().values, [1 - 35 / 255, 0], atol=1e-6)
    emulator.gripper.between = 100
    clock.advance(1)
    np.testing.assert_allclose(gripper.read().values, [1 - 100 / 255, 1], atol=1e-6)
    emulator.gripper.between = None
    clock.advance(1)
    np.testing.assert_allclose(gripper.read().values, [0, 0])


def test_what_was_sent_is_what_the_gripper_can_resolve(gripper: Robotiq, emulator: RobotiqEmulator) -> None:
    sent = gripper.command(to(0.3))
    assert emulator.gripper.registers["POS"] == round(255 * 0.7)
    assert sent[0] == pytest.approx(1 - round(255 * 0.7) / 255)


def test_speed_and_force_are_set_before_anything_moves(emulator: RobotiqEmulator) -> None:
    gripper = make(emulator, speed=0.5, force=0.2)
    emulator.gripper.registers["GTO"] = 1
    gripper.open()
    assert emulator.gripper.registers["GTO"] == 0
    assert (emulator.gripper.registers["SPE"], emulator.gripper.registers["FOR"]) == (128, 51)
    gripper.close()


@pytest.mark.parametrize("stop", ["halt", "close"])
def test_a_stop_stops_the_fingers(gripper: Robotiq, emulator: RobotiqEmulator, clock: FakeClock, stop: str) -> None:
    gripper.command(to(0))
    clock.advance(0.1)
    getattr(gripper, stop)()
    clock.advance(5)
    emulator.answer(["GET", "POS"])
    assert emulator.gripper.position == pytest.approx(35)


@pytest.mark.slow
def test_the_halt_command_stops_a_gripper_whose_process_is_gone(
    gripper: Robotiq, emulator: RobotiqEmulator, clock: FakeClock
) -> None:
    gripper.command(to(0))
    clock.advance(0.1)
    subprocess.run(gripper.spec.halt_command, check=True, timeout=60)
    clock.advance(5)
    emulator.answer(["GET", "POS"])
    assert emulator.gripper.position == pytest.approx(35)


@pytest.mark.slow
def test_the_halt_command_says_what_went_wrong() -> None:
    def run(*arguments: str) -> str:
        command = [sys.executable, "-m", "hal.robotiq", *arguments]
        return subprocess.run(command, capture_output=True, text=True, timeout=60, check=False).stderr.strip()

    assert run("stop") == "usage: python -m hal.robotiq halt HOST [PORT]"
    assert run("halt", "127.0.0.1", "1").startswith("no gripper's server at 127.0.0.1:1: ")


def test_a_gripper_that_is_not_activated_is_not_moved_unasked(emulator: RobotiqEmulator) -> None:
    emulator.gripper.active = False
    gripper = make(emulator)
    with pytest.raises(RobotFault, match=r"is not activated; activate it at the pendant, or free its fingers"):
        gripper.open()
    with pytest.raises(RobotUnreachable, match="is not open"):
        gripper.read()


@pytest.mark.slow
def test_a_gripper_is_activated_where_that_is_allowed() -> None:
    with robotiq_emulator() as emulator:
        emulator.gripper.active = False
        gripper = make(emulator, activate=True)
        gripper.open()
        assert emulator.gripper.active
        gripper.close()


@pytest.mark.slow
def test_an_activation_that_does_not_end_is_a_fault(emulator: RobotiqEmulator, clock: FakeClock) -> None:
    emulator.gripper.active = False  # and its clock stands still
    gripper = make(emulator, activate=True, activate_s=ACTIVATION_S)
    with pytest.raises(RobotFault, match=r"was not active within 0.2 s; look at its lamp"):
        gripper.open()


@pytest.mark.parametrize(
    ("fault", "why"), [(8, "it is too hot"), (14, "its current is too high"), (99, "see its manual")]
)
def test_a_fault_is_named_and_stays(gripper: Robotiq, emulator: RobotiqEmulator, fault: int, why: str) -> None:
    emulator.gripper.fault = fault
    for _ in range(2):
        with pytest.raises(RobotFault, match=f"reports fault {fault}: {why}; look at it, then reset it"):
            gripper.read()
    again = make(emulator)
    with pytest.raises(RobotFault, match=f"fault {fault}"):
        again.open()


@pytest.mark.slow
def test_a_server_that_says_nothing_is_unreachable_after_its_time(emulator: RobotiqEmulator) -> None:
    gripper = make(emulator, answer_s=0.3)
    gripper.open()
    emulator.mute = True
    start_s = SystemClock().now_s()
    with pytest.raises(RobotUnreachable, match=r"timed out|it does not answer"):
        gripper.read()
    assert SystemClock().now_s() - start_s < 3
    emulator.mute = False
    with pytest.raises(RobotUnreachable):  # its late answer is nobody's
        gripper.read()
    emulator.gripper.registers["GTO"] = 1
    gripper.halt()  # by a line of its own
    assert emulator.gripper.registers["GTO"] == 0
    gripper.close()


def test_a_server_that_hangs_up_is_unreachable(
    gripper: Robotiq, emulator: RobotiqEmulator, caplog: pytest.LogCaptureFixture
) -> None:
    emulator.close()
    for call in (gripper.read, lambda: gripper.command(to(1)), gripper.halt):
        with pytest.raises(RobotUnreachable, match=r"server at 127.0.0.1:\d+: "):
            call()
    gripper.close()
    assert "the gripper is closed without a halt" in caplog.text


def test_another_answer_than_asked_for_is_not_taken_for_a_number(gripper: Robotiq, emulator: RobotiqEmulator) -> None:
    emulator.answer = lambda words: "?"  # type: ignore[method-assign]
    gripper.config = RobotiqConfig(host="127.0.0.1", answer_s=0.05)
    with pytest.raises(RobotUnreachable, match=r"timed out|it answered '\?"):
        gripper.read()


def test_nobody_there_is_unreachable() -> None:
    gripper = Robotiq(RobotiqConfig(host="127.0.0.1", port=1), clock=SystemClock())
    with pytest.raises(RobotUnreachable, match=r"^no gripper's server at 127.0.0.1:1: .*its URCap$"):
        gripper.open()


@pytest.mark.parametrize(
    ("change", "line"),
    [
        ({"speed": 1.5}, "speed = 1.5, allowed 0 to 1"),
        ({"force": -0.1}, "force = -0.1, allowed 0 to 1"),
        ({"rate_hz": 20.0}, "rate_hz = 20.0, allowed below 12.5"),
    ],
)
def test_settings_that_cannot_be_are_refused(change: dict[str, float], line: str) -> None:
    with pytest.raises(ValueError, match=line):
        RobotiqConfig(host="x", **change)  # type: ignore[arg-type]
