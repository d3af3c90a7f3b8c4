import numpy as np
import pytest

from hal.emulators.rtde import Value
from hal.emulators.ur_controller import (
    HOME,
    MAX_ACCELERATION,
    MAX_SPEED,
    Controller,
    Runtime,
    SafetyMode,
)

PERIOD_S = 0.002
SCRIPT = "def rtde_control():\nglobal reg_offset_int = # int register offset\n{}\n def rtde_cmd():\n end\nend\n"
SERVO_J, SERVO_STOP, STOP_J, WATCHDOG, STOP_SCRIPT = 11, 16, 34, 35, 255


def playing(offset: int = 0) -> Controller:
    controller = Controller()
    controller.play(SCRIPT.format(offset))
    controller.step(PERIOD_S)
    return controller


def tell(controller: Controller, command: int, *doubles: float, offset: int = 0) -> None:
    registers: dict[str, Value] = {f"input_double_register_{i + offset}": x for i, x in enumerate(doubles)}
    registers[f"input_int_register_{offset}"] = command
    controller.take(registers)


def servo(controller: Controller, turn: float, *, offset: int = 0, lookahead_s: float = 0.1) -> None:
    target = (HOME[0] + turn, *HOME[1:])
    tell(controller, SERVO_J, *target, 0.0, 0.0, 0.008, lookahead_s, 300.0, offset=offset)


def run(controller: Controller, for_s: float) -> None:
    for _ in range(round(for_s / PERIOD_S)):
        controller.step(PERIOD_S)


def answer(controller: Controller, offset: int = 0) -> object:
    return controller.outputs[f"output_int_register_{offset}"]


@pytest.mark.parametrize("offset", [0, 24])
def test_the_arm_follows_its_servo_target_in_either_range_of_registers(offset: int) -> None:
    controller = playing(offset)
    assert answer(controller, offset) == 1
    servo(controller, 0.5, offset=offset)
    run(controller, 2.0)
    np.testing.assert_allclose(controller.position, (0.5, *HOME[1:]), atol=1e-3)
    assert controller.outputs["actual_q"] == tuple(controller.position)
    assert not controller.is_moving


def test_speed_and_acceleration_are_bounded_and_velocity_is_what_moves_the_arm() -> None:
    controller = playing()
    servo(controller, 6.0)
    fastest = hardest = 0.0
    for _ in range(150):
        before, speed = controller.position.copy(), controller.velocity.copy()
        controller.step(PERIOD_S)
        np.testing.assert_allclose(controller.position - before, controller.velocity * PERIOD_S, atol=1e-12)
        fastest = max(fastest, np.abs(controller.velocity).max())
        hardest = max(hardest, np.abs(controller.velocity - speed).max() / PERIOD_S)
    assert fastest == pytest.approx(MAX_SPEED)
    assert hardest == pytest.approx(MAX_ACCELERATION)
    assert controller.outputs["actual_qd"] == tuple(controller.velocity)


@pytest.mark.parametrize("command", [SERVO_STOP, STOP_J])
def test_a_stop_is_done_when_the_arm_stands(command: int) -> None:
    controller = playing()
    servo(controller, 3.0)
    run(controller, 0.2)
    assert controller.is_moving
    tell(controller, command, 10.0)
    controller.step(PERIOD_S)
    waited = 0
    while answer(controller) == 1:
        waited += 1
        controller.step(PERIOD_S)
    assert waited > 50  # a tenth of a second from 2 rad/s
    assert (answer(controller), controller.is_moving) == (2, False)
    assert controller.position[0] < 1.0
    tell(controller, 0)
    controller.step(PERIOD_S)
    assert answer(controller) == 1


def test_the_watchdog_ends_the_program_on_silence_alone() -> None:
    controller = playing()
    tell(controller, WATCHDOG, 4.0)  # Hz
    controller.step(PERIOD_S)
    assert answer(controller) == 2
    for _ in range(10):
        servo(controller, 6.0)
        run(controller, 0.2)
        assert controller.runtime is Runtime.PLAYING
    run(controller, 0.1)
    assert controller.runtime is Runtime.STOPPED
    assert controller.log == ["program stopped: watchdog: no command came in time"]
    run(controller, 0.5)
    assert not controller.is_moving


def test_a_new_program_finds_the_old_command_in_the_register() -> None:
    """As at the arm: the inputs outlive a program, so that a client must clear its command first."""
    controller = playing()
    servo(controller, 0.5)
    controller.stop_program("test")
    run(controller, 0.1)
    assert controller.position[0] == HOME[0]
    controller.play(SCRIPT.format(0))
    run(controller, 2.0)
    assert controller.position[0] == pytest.approx(0.5, abs=1e-3)


def test_the_client_ends_the_program_and_an_unknown_command_does_too() -> None:
    for command, line in ((STOP_SCRIPT, "program stopped: by its client"), (6, "program stopped: unknown command 6")):
        controller = playing()
        tell(controller, command)
        controller.step(PERIOD_S)
        assert (controller.runtime, controller.log) == (Runtime.STOPPED, [line])


def test_a_protective_stop_holds_the_program_and_the_arm() -> None:
    controller = playing()
    servo(controller, 3.0)
    run(controller, 0.2)
    controller.protective_stop()
    run(controller, 0.5)
    assert not controller.is_moving
    outputs = controller.outputs
    assert (outputs["safety_mode"], outputs["safety_status_bits"]) == (3, 1 << 2 | 1 << 10)
    assert (outputs["runtime_state"], outputs["robot_status_bits"], outputs["robot_mode"]) == (4, 1, 7)


def test_an_emergency_stop_cuts_the_power_and_no_program_runs_until_it_is_cleared() -> None:
    controller = playing()
    controller.emergency_stop()
    outputs = controller.outputs
    assert (outputs["robot_mode"], outputs["robot_status_bits"], outputs["runtime_state"]) == (3, 0, 1)
    assert outputs["safety_status_bits"] == 1 << 6 | 1 << 7 | 1 << 10
    controller.play(SCRIPT.format(0))
    assert controller.program is None
    assert controller.log[-1] == "no program runs in POWER_OFF, ROBOT_EMERGENCY_STOP, remote control"
    controller.clear()
    controller.play(SCRIPT.format(0))
    assert controller.runtime is Runtime.PLAYING


def test_a_safeguard_stop_has_its_own_bit() -> None:
    controller = playing()
    controller.safeguard_stop()
    assert controller.safety is SafetyMode.SAFEGUARD_STOP
    assert controller.outputs["safety_status_bits"] == 1 << 4 | 1 << 10


def test_in_local_control_and_of_another_kind_scripts_are_refused() -> None:
    controller = Controller()
    controller.play("def other():\nend\n")
    controller.is_remote = False
    controller.play(SCRIPT.format(0))
    assert controller.program is None
    assert controller.log == [
        "the emulator plays the RTDE control script only; another one was refused",
        "no program runs in RUNNING, NORMAL, local control",
    ]
