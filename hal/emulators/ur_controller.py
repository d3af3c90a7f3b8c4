"""A UR controller without its sockets: a small arm, its safety system, and the control program of the RTDE SDK.

The arm follows its servo target with a first-order lag, bounded in speed and acceleration; it has no masses and meets
nothing. The URScript that `ur_rtde` uploads is not interpreted: `ControlProgram` plays its part, the protocol of
command and answer in the registers, for the commands below. One that it does not know ends the program, as an error
in a script does. Numbers of modes and bits: Universal Robots' RTDE guide.
"""

import re
from dataclasses import dataclass
from enum import IntEnum, IntFlag

import numpy as np

from hal.emulators.rtde import Value
from user_rl.specs import Array

JOINTS = 6
HOME = (0.0, -1.57, 1.57, -1.57, -1.57, 0.0)  # rad
MAX_SPEED = 3.14  # rad/s, a UR5e's
MAX_ACCELERATION = 20.0  # rad/s^2: what a stop decelerates with
_STILL = 1e-3  # rad/s

_READY, _DONE = 1, 2  # what the program writes into the first output register
_NOTHING, _SERVO_J, _SERVO_STOP, _STOP_J, _WATCHDOG, _STOP_SCRIPT = 0, 11, 16, 34, 35, 255


class RobotMode(IntEnum):
    """What the arm is powered for."""

    POWER_OFF = 3
    IDLE = 5
    RUNNING = 7


class SafetyMode(IntEnum):
    """What the safety system allows."""

    NORMAL = 1
    PROTECTIVE_STOP = 3
    SAFEGUARD_STOP = 5
    ROBOT_EMERGENCY_STOP = 7


class Runtime(IntEnum):
    """What the program does."""

    STOPPED = 1
    PLAYING = 2
    PAUSED = 4


class SafetyBits(IntFlag):
    """The bits of `safety_status_bits`."""

    NORMAL = 1 << 0
    PROTECTIVE_STOPPED = 1 << 2
    SAFEGUARD_STOPPED = 1 << 4
    ROBOT_EMERGENCY_STOPPED = 1 << 6
    EMERGENCY_STOPPED = 1 << 7
    STOPPED_DUE_TO_SAFETY = 1 << 10


_BITS = {
    SafetyMode.NORMAL: SafetyBits.NORMAL,
    SafetyMode.PROTECTIVE_STOP: SafetyBits.PROTECTIVE_STOPPED | SafetyBits.STOPPED_DUE_TO_SAFETY,
    SafetyMode.SAFEGUARD_STOP: SafetyBits.SAFEGUARD_STOPPED | SafetyBits.STOPPED_DUE_TO_SAFETY,
    SafetyMode.ROBOT_EMERGENCY_STOP: (
        SafetyBits.ROBOT_EMERGENCY_STOPPED | SafetyBits.EMERGENCY_STOPPED | SafetyBits.STOPPED_DUE_TO_SAFETY
    ),
}


class Controller:
    """The state of arm, safety and program, advanced by `step`. Not for several threads at once."""

    def __init__(self, home: tuple[float, ...] = HOME) -> None:
        self.time_s = 0.0
        self.position, self.velocity = np.array(home), np.zeros(JOINTS)
        self.servo: Servo | None = None
        self.robot_mode, self.safety = RobotMode.RUNNING, SafetyMode.NORMAL
        self.is_remote = True  # the pendant's switch from Local to Remote Control
        self.program: ControlProgram | None = None
        self.is_paused = False
        self.log: list[str] = []  # what the controller's log tab would show
        self.inputs: dict[str, Value] = {}
        self.registers: dict[str, Value] = {}  # of the outputs
        self._updated_s: dict[str, float] = {}

    def step(self, period_s: float) -> None:
        """Lets one period pass: the program reads its registers, then the arm moves."""
        self.time_s += period_s
        if self.program is not None and not self.is_paused:
            self.program.step(self)
        wanted = np.zeros(JOINTS) if self.servo is None else self.servo.speed(self.position)
        change = MAX_ACCELERATION * period_s
        self.velocity += np.clip(wanted - self.velocity, -change, change)
        self.position += self.velocity * period_s

    @property
    def is_moving(self) -> bool:
        return bool(np.abs(self.velocity).max() > _STILL)

    @property
    def runtime(self) -> Runtime:
        if self.program is None:
            return Runtime.STOPPED
        return Runtime.PAUSED if self.is_paused else Runtime.PLAYING

    @property
    def outputs(self) -> dict[str, Value]:
        """Every output field by its RTDE name."""
        is_powered, runs = self.robot_mode is not RobotMode.POWER_OFF, self.runtime is Runtime.PLAYING
        target = self.position if self.servo is None else self.servo.target
        return self.registers | {
            "timestamp": self.time_s,
            "target_q": tuple(target),
            "actual_q": tuple(self.position),
            "actual_qd": tuple(self.velocity),
            "robot_mode": self.robot_mode,
            "safety_mode": self.safety,
            "runtime_state": self.runtime,
            "robot_status_bits": is_powered | runs << 1,
            "safety_status_bits": _BITS[self.safety],
        }

    def take(self, values: dict[str, Value]) -> None:
        """Input fields arrive."""
        self.inputs |= values
        self._updated_s |= dict.fromkeys(values, self.time_s)

    def silent_s(self, name: str) -> float:
        """How long ago the input field was last written."""
        return self.time_s - self._updated_s.get(name, 0.0)

    def play(self, script: str) -> None:
        """Somebody uploads a script: the SDK's control program replaces whatever runs; anything else is refused."""
        offset = re.search(r"reg_offset_int =(?:\s*#.*\n)?\s*(\d+)", script)
        if offset is None or "rtde_cmd" not in script:
            self.log.append("the emulator plays the RTDE control script only; another one was refused")
        elif self.robot_mode is not RobotMode.RUNNING or self.safety is not SafetyMode.NORMAL or not self.is_remote:
            why = f"{self.robot_mode.name}, {self.safety.name}, {'remote' if self.is_remote else 'local'} control"
            self.log.append(f"no program runs in {why}")
        else:
            self.stop_program("replaced")
            self.program = ControlProgram(int(offset[1]))

    def stop_program(self, why: str) -> None:
        """Ends the program; the arm decelerates."""
        if self.program is not None:
            self.log.append(f"program stopped: {why}")
        self.program, self.servo, self.is_paused = None, None, False

    def protective_stop(self) -> None:
        """What a collision does: the arm stops, the program waits."""
        self.safety, self.servo, self.is_paused = SafetyMode.PROTECTIVE_STOP, None, True

    def safeguard_stop(self) -> None:
        """What an open gate does."""
        self.safety, self.servo, self.is_paused = SafetyMode.SAFEGUARD_STOP, None, True

    def emergency_stop(self) -> None:
        """Somebody presses the button: power goes, the program ends."""
        self.stop_program("emergency stop")
        self.safety, self.robot_mode = SafetyMode.ROBOT_EMERGENCY_STOP, RobotMode.POWER_OFF

    def clear(self) -> None:
        """A person has looked, cleared the stop and powered the arm; the program does not run on."""
        self.stop_program("stop cleared")
        self.safety, self.robot_mode = SafetyMode.NORMAL, RobotMode.RUNNING


@dataclass(frozen=True, kw_only=True)
class Servo:
    """What `servoj` pursues."""

    target: Array  # [6] rad
    lookahead_s: float

    def speed(self, position: Array) -> Array:
        """The speed wanted at `position`."""
        return np.clip((self.target - position) / self.lookahead_s, -MAX_SPEED, MAX_SPEED)


class ControlProgram:
    """The part of the uploaded control script. Registers begin at `offset`, as the script says."""

    def __init__(self, offset: int) -> None:
        self._offset = offset
        self._silence_s: float | None = None  # after which the watchdog ends the program

    def step(self, controller: Controller) -> None:
        """One turn of the script's loop."""
        if self._silence_s is not None and controller.silent_s(self._name("int", 0)) > self._silence_s:
            controller.stop_program("watchdog: no command came in time")
            return
        command = int(self._input(controller, "int", 0))
        if command in (_NOTHING, _SERVO_J):
            if command == _SERVO_J:
                target = np.array([self._input(controller, "double", i) for i in range(JOINTS)])
                controller.servo = Servo(target=target, lookahead_s=self._input(controller, "double", 9))
            self._answer(controller, _READY)
        elif self._carry_out(controller, command):
            self._answer(controller, _DONE)

    def _carry_out(self, controller: Controller, command: int) -> bool:
        """Begins or goes on with a command; whether it is done."""
        if command in (_SERVO_STOP, _STOP_J):
            controller.servo = None
            return not controller.is_moving
        if command == _WATCHDOG:
            self._silence_s = 1.0 / self._input(controller, "double", 0)
            return True
        controller.stop_program("by its client" if command == _STOP_SCRIPT else f"unknown command {command}")
        return False

    def _name(self, kind: str, number: int) -> str:
        return f"input_{kind}_register_{number + self._offset}"

    def _input(self, controller: Controller, kind: str, number: int) -> float:
        value = controller.inputs.get(self._name(kind, number), 0)
        assert not isinstance(value, tuple)
        return value

    def _answer(self, controller: Controller, answer: int) -> None:
        controller.registers[f"output_int_register_{self._offset}"] = answer
