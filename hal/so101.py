"""SO-100 and SO-101: six STS3215 servos on one Feetech bus, by position.

Needs pyserial (extra `serial`) and the arm's calibration, a JSON file as LeRobot writes it (homing offset, range and id
per joint). The servos must hold the same numbers; nothing here calibrates, and nothing writes to their EPROM. Angles
are zero in the middle of a joint's range, with 4096 steps to a turn; the gripper is 0 closed to 1 open.

A halt makes the measured position the goal and leaves the torque on: an arm without torque falls on what is below it.
A closed arm holds too, until its power is switched off. When commands stop, each servo goes on to its last target at
`max_speed_rad_s` and stays there: no watchdog stops it where it is, so the halt is out of band, by
`python -m hal.so101 halt PORT`. Without even that, the motion ends at the last target.
"""

import logging
import sys
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import msgspec
import numpy as np

from hal import feetech
from hal.feetech import RAD_PER_STEP, Bus, BusConfig, Port, open_port
from hal.robot import OnSilence, RobotSpec, RobotState
from user_rl.clock import Clock
from user_rl.errors import ConfigError, HardwareError, RobotFault, RobotUnreachable
from user_rl.specs import Array, Box, box

log = logging.getLogger(__name__)

JOINTS = ("shoulder_pan", "shoulder_lift", "elbow_flex", "wrist_flex", "wrist_roll", "gripper")  # the gripper is last
SERVOS = tuple(range(1, len(JOINTS) + 1))

_MEASURABLE = (-4096, 8191)  # steps: a turn beyond either end
_MOST = 254
_FASTEST_STEPS_S = 10_000  # three times what an STS3215 does
_TARGET = (feetech.GOAL_POSITION, feetech.GOAL_TIME, feetech.GOAL_SPEED)
MEASURED = (feetech.PRESENT_POSITION, feetech.PRESENT_SPEED)

Connect = Callable[[str, int], Port]


class Calibration(msgspec.Struct, frozen=True):
    """One joint in LeRobot's calibration file."""

    id: int
    homing_offset: int  # steps
    range_min: int
    range_max: int
    drive_mode: int = 0  # 1: turned round


@dataclass(frozen=True, kw_only=True)
class So101Config:
    """Where the arm is, and how fast and how strong its servos may be."""

    port: str  # such as /dev/serial/by-id/usb-...
    calibration: str  # a file
    rate_hz: float = 30.0
    max_speed_rad_s: float = 3.0  # each servo keeps to it by itself
    torque: float = 1.0  # of what the servo can
    gripper_torque: float = 0.5  # less, for it often stalls on what it holds
    bus: BusConfig = field(default_factory=BusConfig)

    def __post_init__(self) -> None:
        for name in ("torque", "gripper_torque"):
            if not 0 < getattr(self, name) <= 1:
                raise ValueError(f"{name} = {getattr(self, name)}, allowed above 0 to 1; change it")
        if not 0 < self.max_speed_rad_s <= _FASTEST_STEPS_S * RAD_PER_STEP:
            raise ValueError(f"max_speed_rad_s = {self.max_speed_rad_s}, allowed above 0 to 15; change it")
        if not 0 < self.rate_hz * self.bus.longest_s < 1:
            raise ValueError(
                f"rate_hz = {self.rate_hz}, allowed below {1 / self.bus.longest_s:.3g}, which is what the bus may "
                "take to answer; change it, or bus.answer_s and bus.attempts"
            )


@dataclass(frozen=True)
class Scale:
    """Steps of the servos to the joints' units, and back: value = (steps - zero) * per_step."""

    zero: Array  # [6] steps
    per_step: Array  # [6] rad or opening

    def values(self, steps: Array) -> Array:
        """Positions [6] in the joints' units."""
        return (steps - self.zero) * self.per_step

    def rates(self, steps_s: Array) -> Array:
        """Speeds [6] in the joints' units per second."""
        return steps_s * self.per_step

    def steps(self, values: Array) -> Array:
        """The nearest steps [6], int."""
        return np.rint(values / self.per_step + self.zero).astype(int)


class So101:
    """See hal.robot.Robot."""

    def __init__(self, config: So101Config, *, clock: Clock, connect: Connect = open_port) -> None:
        self.config, self.clock, self._connect = config, clock, connect
        self.calibration = load_calibration(Path(config.calibration))
        self.scale = scale_of(self.calibration)
        self._bus: Bus | None = None
        self._speed_steps_s = max(1, round(config.max_speed_rad_s / RAD_PER_STEP))
        self._spec = RobotSpec(
            model="so101",
            state=_state_box(self.scale),
            command=_command_box(self.scale, self.calibration),
            rate_hz=config.rate_hz,
            on_silence=OnSilence.OUT_OF_BAND,
            halt_command=(sys.executable, "-m", "hal.so101", "halt", config.port, str(config.bus.baud_rate)),
        )

    @property
    def spec(self) -> RobotSpec:
        return self._spec

    def open(self) -> None:
        self._bus = open_bus(self.config.port, self.config.bus, self._connect)
        try:
            check_servos(self._bus, self.calibration, self.config.calibration)
            self._hold_with_torque(self._bus)
        except HardwareError:
            self._let_go()
            raise

    def read(self) -> RobotState:
        bus, stamp_s = self._opened(), self.clock.now_s()
        measured = bus.sync_read(SERVOS, MEASURED)
        steps, steps_s = np.array([measured[servo] for servo in SERVOS], float).T
        values = np.concatenate((self.scale.values(steps), self.scale.rates(steps_s)))
        return RobotState(stamp_s=stamp_s, values=values.astype(np.float32))

    def command(self, target: Array) -> Array:
        bus = self._opened()
        self._spec.command.check(target)
        steps = self.scale.steps(target)
        bus.sync_write(
            _TARGET, {servo: (int(at), 0, self._speed_steps_s) for servo, at in zip(SERVOS, steps, strict=True)}
        )
        return self._spec.command.clip(self.scale.values(steps))

    def halt(self) -> None:
        if self._bus is not None:
            self._bus.hold(SERVOS)

    def close(self) -> None:
        try:
            self.halt()
        except HardwareError as error:
            log.error("%s is closed without a halt: %s", self.config.port, error)
        finally:
            self._let_go()

    def _hold_with_torque(self, bus: Bus) -> None:
        bus.hold(SERVOS)  # first of all: a servo goes to its old goal when its torque comes on
        for name, servo in zip(JOINTS, SERVOS, strict=True):
            torque = self.config.gripper_torque if name == "gripper" else self.config.torque
            bus.write(servo, feetech.ACCELERATION, _MOST)  # with 0, some firmware does not move
            bus.write(servo, feetech.GOAL_SPEED, self._speed_steps_s)
            bus.write(servo, feetech.TORQUE_LIMIT, round(1000 * torque))
            bus.write(servo, feetech.TORQUE_ENABLE, 1)

    def _let_go(self) -> None:
        if self._bus is not None:
            self._bus.close()
            self._bus = None

    def _opened(self) -> Bus:
        if self._bus is None:
            raise RobotUnreachable(f"the SO-101 at {self.config.port} is not open; call open() first")
        return self._bus


def load_calibration(path: Path) -> tuple[Calibration, ...]:
    """The six joints of LeRobot's calibration file, in the order of JOINTS; raises ConfigError."""
    try:
        joints = msgspec.json.decode(path.read_bytes(), type=dict[str, Calibration])
        found = tuple(joints[name] for name in JOINTS)
    except (OSError, msgspec.MsgspecError, KeyError) as error:
        raise ConfigError(
            f"calibration = {path}: {error}; give the JSON file that LeRobot's calibration of this arm wrote "
            f"(with {', '.join(JOINTS)})"
        ) from error
    if [c.id for c in found] != list(SERVOS):
        raise ConfigError(
            f"calibration = {path}: ids {[c.id for c in found]}, allowed {list(SERVOS)} for {', '.join(JOINTS)}; "
            "give the servos these ids with LeRobot's set-up and calibrate again"
        )
    for name, joint in zip(JOINTS, found, strict=True):
        if not 0 <= joint.range_min < joint.range_max < feetech.STEPS_PER_TURN:
            raise ConfigError(
                f"calibration = {path}: {name} ranges from {joint.range_min} to {joint.range_max}, allowed rising "
                f"within 0 to {feetech.STEPS_PER_TURN - 1}; calibrate the arm again"
            )
    return found


def scale_of(calibration: tuple[Calibration, ...]) -> Scale:
    """Joints turn about the middle of their range; the gripper opens from its lower end."""
    zero = [(c.range_min + c.range_max) / 2 for c in calibration]
    per_step = [RAD_PER_STEP * (-1 if c.drive_mode else 1) for c in calibration]
    gripper = calibration[-1]
    zero[-1] = gripper.range_max if gripper.drive_mode else gripper.range_min
    per_step[-1] = (-1 if gripper.drive_mode else 1) / (gripper.range_max - gripper.range_min)
    return Scale(np.array(zero, float), np.array(per_step))


def open_bus(port: str, config: BusConfig, connect: Connect) -> Bus:
    """The bus at `port`, its servos called as the joints are."""
    return Bus(connect(port, config.baud_rate), config, names=dict(zip(SERVOS, JOINTS, strict=True)))


def check_servos(bus: Bus, calibration: tuple[Calibration, ...], path: str) -> None:
    """Raises RobotUnreachable for a servo that is not there, RobotFault for one that is not as calibrated."""
    for name, joint in zip(JOINTS, calibration, strict=True):
        expected = {
            "model number": (feetech.MODEL, feetech.STS3215),
            "operating mode": (feetech.OPERATING_MODE, 0),
            "homing offset": (feetech.HOMING_OFFSET, joint.homing_offset),
            "lower end": (feetech.MIN_POSITION, joint.range_min),
            "upper end": (feetech.MAX_POSITION, joint.range_max),
        }
        for what, (register, value) in expected.items():
            held = bus.read(joint.id, register)
            if held != value:
                raise RobotFault(
                    f"{name} (id {joint.id}) holds {what} {held}, allowed {value} by {path}; "
                    "give this arm's own calibration, or calibrate it again"
                )


def command_names() -> tuple[str, ...]:
    """The elements of the command, which a leader arm speaks too."""
    return tuple(f"{name}.target" for name in JOINTS)


def _state_box(scale: Scale) -> Box:
    """A servo may be pushed beyond its range: what it can measure is allowed, not what it may be told."""
    low, high = _ordered(*(scale.values(np.full(6, steps)) for steps in _MEASURABLE))
    speed = np.abs(scale.rates(np.full(6, _FASTEST_STEPS_S)))
    positions = [(f"{name}.position", "rad", low[i], high[i]) for i, name in enumerate(JOINTS[:-1])]
    rates = [(f"{name}.velocity", "rad/s", -speed[i], speed[i]) for i, name in enumerate(JOINTS[:-1])]
    opening, rate = ("gripper.opening", "", low[-1], high[-1]), ("gripper.opening_rate", "1/s", -speed[-1], speed[-1])
    return box("observation.state", [*positions, opening, *rates, rate])


def _command_box(scale: Scale, calibration: tuple[Calibration, ...]) -> Box:
    ends = np.array([(c.range_min, c.range_max) for c in calibration]).T
    low, high = _ordered(scale.values(ends[0]), scale.values(ends[1]))
    units = ["rad"] * (len(JOINTS) - 1) + [""]
    return box("action", list(zip(command_names(), units, low, high, strict=True)))


def _ordered(one: Array, other: Array) -> tuple[Array, Array]:
    return np.minimum(one, other), np.maximum(one, other)


def main(arguments: list[str]) -> None:
    """What the halt command runs: holds whatever servos of an SO-101 are at a port."""
    if len(arguments) not in (2, 3) or arguments[0] != "halt":
        sys.exit("usage: python -m hal.so101 halt PORT [BAUD_RATE]")
    baud_rate = int(arguments[2]) if len(arguments) == 3 else BusConfig().baud_rate
    patient = BusConfig(baud_rate=baud_rate, answer_s=0.1, attempts=5)
    try:
        bus = open_bus(arguments[1], patient, partial(open_port, exclusive=False))  # whoever had it is gone or hangs
        with closing(bus):
            bus.hold(SERVOS)
    except HardwareError as error:
        sys.exit(str(error))


if __name__ == "__main__":
    main(sys.argv[1:])
