"""UFACTORY xArm 5, 6, 7, Lite 6 and 850 in joint space, on xarm-python-sdk (extra `xarm`), in servo mode.

Source: UFACTORY's public manuals of the SDK and of the controller. A command is `set_servo_angle_j`: the controller
goes to it at once and at full speed, so that targets must follow each other closely (see `guard.max_change`); it
answers too long a step with an error. A reading is `get_joint_states`: positions and velocities, as measured.

A halt sets the controller's state to 4 (stop) and sees that it is; the next command makes the arm ready again, unless
it reports an error or a warning, which a person clears in UFACTORY Studio. When commands stop, the arm goes on to its
last target and stays: no watchdog stops it where it is, so the halt is out of band, by `python -m hal.xarm halt HOST
[PORT]`, which needs no SDK. The SDK keeps its command port, and the default timeout of new sockets, for the whole
process; the timeout is put back after connecting.
"""

import logging
import math
import socket
import struct
import sys
import threading
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from hal.address import robot_address
from hal.robot import OnSilence, RobotSpec, RobotState
from user_rl.clock import Clock, SystemClock
from user_rl.errors import ConfigError, HardwareError, RobotFault, RobotUnreachable, SpecError
from user_rl.specs import Array, box

log = logging.getLogger(__name__)

LAST_TRY_S = 2.0  # a dial that is under way may take so long to end
PORT = 502

_SERVO_MODE = 1
_READY, _STOP = 0, 4  # states to set
_STOPPED = (4, 5)  # states to see: stopped, and stopped by a change of mode
_FIRMWARE = (1, 9, 0)
_SETUP_S = 2.0  # for each exchange of opening and making ready, which answer more slowly
_STOP_S = 1.0
_HAS_ERROR, _LATE, _NOT_READY, _OUT_OF_RANGE = 1, 3, 9, -8  # codes of the SDK
_FULL_TURN = (-360.0, 360.0)
_FASTEST_RAD_S = 2 * math.pi  # twice what the joints do


@dataclass(frozen=True, kw_only=True)
class Model:
    """What the controller says of an arm, and its joints' ranges; of two generations, the narrower one's."""

    types: tuple[int, ...]
    degrees: tuple[tuple[float, float], ...]


MODELS = {
    "xarm5": Model(types=(5,), degrees=(_FULL_TURN, (-117, 116), (-219, 10), (-97, 180), _FULL_TURN)),
    "xarm6": Model(types=(6,), degrees=(_FULL_TURN, (-117, 116), (-219, 10), _FULL_TURN, (-97, 180), _FULL_TURN)),
    "xarm7": Model(
        types=(3, 7),
        degrees=(_FULL_TURN, (-117, 116), _FULL_TURN, (-6, 225), _FULL_TURN, (-97, 180), _FULL_TURN),
    ),
    "lite6": Model(types=(9,), degrees=(_FULL_TURN, (-150, 150), (-3.5, 300), _FULL_TURN, (-124, 124), _FULL_TURN)),
    "uf850": Model(types=(12,), degrees=(_FULL_TURN, (-132, 132), (-242, 3.5), _FULL_TURN, (-124, 124), _FULL_TURN)),
}


@dataclass(frozen=True, kw_only=True)
class XArmConfig:
    """Which arm, where, and how long the controller may take."""

    host: str = ""  # empty: the environment variable ROBOT_IP
    model: str = "xarm6"
    rate_hz: float = 30.0
    connect_s: float = 5.0
    answer_s: float = 0.03  # for one exchange: a reading or a command; one that finds an alarm takes two
    lost_s: float = 0.3  # without any answer for so long: unreachable; until then readings keep their age
    port: int = PORT  # of commands: another one for an emulator or a tunnel; reports come from 30002 always

    def __post_init__(self) -> None:
        if self.model not in MODELS:
            raise ValueError(f"model = {self.model!r}, allowed {', '.join(MODELS)}; choose one of these")
        if not 0 < self.rate_hz * self.answer_s < 1:
            raise ValueError(
                f"rate_hz = {self.rate_hz}, allowed below {1 / self.answer_s:.3g}, as a reading may take "
                f"answer_s = {self.answer_s}; change one of them"
            )


Connect = Callable[[XArmConfig], Any]  # gives the SDK's XArmAPI, connected


class XArm:
    """See hal.robot.Robot."""

    def __init__(self, config: XArmConfig, *, clock: Clock, connect: Connect | None = None) -> None:
        config = replace(config, host=robot_address(config.host, "xArm"))
        self.config, self.clock, self._connect = config, clock, connect or _connect
        self._waits = SystemClock()
        self._joints = len(MODELS[config.model].degrees)
        self._arm: Any = None
        self._is_halted = False
        self._heard_s = -math.inf  # when an answer came last, and the last reading
        self._last: RobotState | None = None
        self._where = f"the {config.model} at {config.host}"
        self._spec = _spec(config)

    @property
    def spec(self) -> RobotSpec:
        return self._spec

    def open(self) -> None:
        self._arm, self._last = self._connect(self.config), None
        try:
            self._check_model(self._arm)
            self._check_alarms(self._arm)
            self._make_ready(self._arm)
            self._check_alarms(self._arm)
        except HardwareError:
            self._let_go()
            raise

    def read(self) -> RobotState:
        arm, stamp_s = self._opened(), self.clock.now_s()
        code, joints = arm.get_joint_states(is_radian=True, num=2)
        if self._is_late(code) and self._last is not None:
            return self._last
        self._check_code(arm, code, "the state of its joints")
        if arm.has_err_warn:
            self._check_alarms(arm)
        positions, velocities = (np.array(numbers[: self._joints], np.float32) for numbers in joints)
        self._last = RobotState(stamp_s=stamp_s, values=np.concatenate((positions, velocities)))
        return self._last

    def command(self, target: Array) -> Array:
        arm = self._opened()
        self._spec.command.check(target)
        if self._is_halted:
            self._check_alarms(arm)
            self._make_ready(arm)
        code = arm.set_servo_angle_j([float(angle) for angle in target], is_radian=True)
        if not self._is_late(code):
            self._check_code(arm, code, "a joint target")
        return target

    def halt(self) -> None:
        if self._arm is None:
            return
        self._is_halted = True
        if self._arm.set_state(_STOP) != 0 or self._arm.state not in _STOPPED:
            stop(self.config.host, self.config.port)

    def close(self) -> None:
        try:
            self.halt()
        except HardwareError as error:
            log.error("%s is closed without a halt: %s", self._where, error)
        finally:
            self._let_go()

    def _make_ready(self, arm: Any) -> None:  # noqa: ANN401  # the SDK has no types
        """Motors on, servo mode, state ready; returns when the controller says so."""
        arm.set_timeout(_SETUP_S)
        self._check_code(arm, arm.motion_enable(enable=True), "its motors to be enabled")
        self._check_code(arm, arm.set_mode(_SERVO_MODE), "servo mode")
        self._check_code(arm, arm.set_state(_READY), "to be made ready")
        deadline_s = self._waits.now_s() + _SETUP_S
        while arm.mode != _SERVO_MODE or arm.state in _STOPPED:
            if self._waits.now_s() > deadline_s:
                self._check_alarms(arm)
                raise RobotFault(
                    f"{self._where} is in mode {arm.mode} and state {arm.state} after {_SETUP_S:.3g} s, allowed mode "
                    f"{_SERVO_MODE} and ready; look at UFACTORY Studio: does somebody else drive it?"
                )
            self._waits.sleep_until(self._waits.now_s() + 0.01)
        arm.set_timeout(self.config.answer_s)
        self._is_halted = False

    def _is_late(self, code: int) -> bool:
        """Whether an answer is only late: what was sent arrives, and the controller was heard of shortly before."""
        now_s = self._waits.now_s()
        if code == _LATE:
            return now_s - self._heard_s < self.config.lost_s
        self._heard_s = now_s
        return False

    def _check_model(self, arm: Any) -> None:  # noqa: ANN401
        model = MODELS[self.config.model]
        if (arm.axis, arm.device_type) not in {(self._joints, kind) for kind in model.types}:
            raise RobotFault(
                f"the arm at {self.config.host} has {arm.axis} joints and is of type {arm.device_type}, allowed "
                f"{self._joints} and {model.types} as robot.model = {self.config.model}; give its own model"
            )
        if tuple(arm.version_number) < _FIRMWARE:
            raise RobotFault(
                f"{self._where} has firmware {arm.version}, allowed {'.'.join(map(str, _FIRMWARE))} or newer, "
                "which measures velocities; update it in UFACTORY Studio"
            )

    def _check_code(self, arm: Any, code: int, what: str) -> None:  # noqa: ANN401
        if code == 0:
            return
        if code in (_HAS_ERROR, _NOT_READY):
            self._check_alarms(arm)
            raise RobotFault(
                f"{self._where} refuses {what}: it is not ready to move (state {arm.state}); "
                "look at UFACTORY Studio: who stopped it? Then start again"
            )
        if code == _OUT_OF_RANGE:
            raise SpecError(f"{self._where} refuses {what}: out of its own range; mend what produced it")
        raise RobotUnreachable(
            f"{self._where} was asked for {what} and did not answer in time (code {code}); "
            "look at its power and cable, then open again"
        )

    def _check_alarms(self, arm: Any) -> None:  # noqa: ANN401
        """Raises RobotFault for an error or a warning, which only a person clears."""
        from xarm.core.config.x_code import ControllerError, ControllerWarn

        code, alarms = arm.get_err_warn_code()
        if code != 0:
            self._check_code(arm, code, "its alarms")
        error, warning = alarms
        if error or warning:
            name = f"error C{error}" if error else f"warning W{warning}"
            known = ControllerError(error) if error else ControllerWarn(warning)
            raise RobotFault(
                f"{self._where} reports {name}: {known.title['en']}; "
                "look at the arm, clear it in UFACTORY Studio, start again"
            )

    def _let_go(self) -> None:
        if self._arm is not None:
            self._arm.disconnect()
            self._arm = None

    def _opened(self) -> Any:  # noqa: ANN401
        if self._arm is None:
            raise RobotUnreachable(f"{self._where} is not open; call open() first")
        if not self._arm.connected:
            raise RobotUnreachable(f"{self._where} hung up; look at its power and cable, then open again")
        return self._arm


def stop(host: str, port: int = PORT) -> None:
    """Stops an arm over a connection of its own, without the SDK; raises RobotUnreachable."""
    where = f"the xArm at {host}:{port}"
    try:
        with socket.create_connection((host, port), timeout=_STOP_S) as link, link.makefile("rb") as answers:
            link.sendall(_SET_STATE_STOP)
            answer = answers.read(len(_STOP_ACCEPTED))
    except OSError as error:
        raise RobotUnreachable(
            f"{where} cannot be stopped: {error}; it may still move, use the emergency stop"
        ) from error
    if answer != _STOP_ACCEPTED:
        raise RobotUnreachable(f"{where} does not take a stop; it may still move, use the emergency stop")


def _spec(config: XArmConfig) -> RobotSpec:
    ranges = [(math.radians(low), math.radians(high)) for low, high in MODELS[config.model].degrees]
    names = [f"joint{i}" for i in range(1, len(ranges) + 1)]
    positions = [(f"{n}.position", "rad", -2 * math.pi - 0.1, 2 * math.pi + 0.1) for n in names]
    velocities = [(f"{n}.velocity", "rad/s", -_FASTEST_RAD_S, _FASTEST_RAD_S) for n in names]
    targets = [(f"{n}.target", "rad", low, high) for n, (low, high) in zip(names, ranges, strict=True)]
    return RobotSpec(
        model=config.model,
        state=box("observation.state", positions + velocities),
        command=box("action", targets),
        rate_hz=config.rate_hz,
        on_silence=OnSilence.OUT_OF_BAND,
        halt_command=(sys.executable, "-m", "hal.xarm", "halt", config.host, str(config.port)),
    )


def _connect(config: XArmConfig) -> Any:  # noqa: ANN401
    """The SDK's own object, connected within `connect_s`; it would try for minutes by itself."""
    try:
        from xarm.core.config.x_config import XCONF
        from xarm.core.utils.log import logger
        from xarm.wrapper import XArmAPI
    except ImportError as error:
        raise ConfigError("robot=xarm needs xarm-python-sdk; pip install 'user-rl[xarm]'") from error
    XCONF.SocketConf.TCP_CONTROL_PORT = config.port
    logger.setLevel(logging.CRITICAL)  # it writes to standard output what its codes say already
    timeout_s = socket.getdefaulttimeout()
    api = XArmAPI(is_radian=True, do_not_open=True, forbid_uds=True)
    failures: list[str] = []

    def dial() -> None:
        try:
            api.connect(port=socket.gethostbyname(config.host))  # the SDK takes no name
        except Exception as error:  # noqa: BLE001  # the SDK raises nothing narrower
            failures.append(str(error))

    dialling = threading.Thread(target=dial, name="xarm-connect", daemon=True)
    dialling.start()
    dialling.join(config.connect_s)
    answered = not (dialling.is_alive() or failures)
    if not (answered and api.connected):
        api.disconnect()
        dialling.join(LAST_TRY_S)
    socket.setdefaulttimeout(timeout_s)  # the SDK sets it for the whole process with each try
    if not (answered and api.connected):
        why = failures[0] if failures else f"it did not answer within {config.connect_s:.3g} s"
        raise RobotUnreachable(
            f"no xArm at {config.host}:{config.port}: {why}; look at its power, its cable and robot.host"
        )
    return api


# one frame of the controller's protocol: number, protocol 2, length, function 12 (set state), the state; its answer
_SET_STATE_STOP = struct.pack(">HHHBB", 1, 2, 2, 12, _STOP)
_STOP_ACCEPTED = struct.pack(">HHHB", 1, 2, 2, 12)


def main(arguments: list[str]) -> None:
    """What the halt command runs."""
    if len(arguments) not in (2, 3) or arguments[0] != "halt":
        sys.exit("usage: python -m hal.xarm halt HOST [PORT]")
    try:
        stop(arguments[1], int(arguments[2]) if len(arguments) == 3 else PORT)
    except HardwareError as error:
        sys.exit(str(error))


if __name__ == "__main__":
    main(sys.argv[1:])
