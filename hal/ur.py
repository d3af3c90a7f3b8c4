"""A Universal Robots arm in joint space: `robot=ur robot.host=192.168.1.10`, over RTDE with `ur_rtde` (extra `ur`).

Needs PolyScope 5 with the arm powered, brakes released, and the pendant in Remote Control. The SDK uploads a program
that follows the newest target with `servoj`. Limits are `Guarded`'s and the arm's own safety settings.

Silence: the program has RTDE's watchdog on the register that every command writes; `silence_s` without a command and
the controller ends the program, which stops the arm, whatever became of this process or the cable. The first command
after a silence uploads the program anew (about 0.1 s). A program that ends while commands flow was ended by somebody.

The SDK answers a lost link by connecting anew without end, and may crash doing so. So a link that is seen lost is not
used again: close, and start the process anew, as the edge does.
"""

import logging
import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np

from hal.address import check_answers, robot_address
from hal.bounded import bounded
from hal.dh import UR_LINKS
from hal.end_effector import EndEffectorConfig
from hal.robot import OnSilence, RobotSpec, RobotState
from hal.stamps import StampMapper
from user_rl.clock import Clock
from user_rl.errors import ConfigError, RobotFault, RobotUnreachable
from user_rl.specs import Array, box

T = TypeVar("T")
log = logging.getLogger(__name__)

_RTDE_PORT = 30004
_PROTOCOL_VERSION = b"\x00\x05V\x00\x02"  # RTDE's first question; the SDK would wait for its answer for ever
_JOINTS = ("shoulder_pan", "shoulder_lift", "elbow", "wrist_1", "wrist_2", "wrist_3")
_RANGE = 6.28  # rad, both ways: of every joint but a UR3's last, which turns on
_FASTEST = 2 * math.pi  # rad/s: beyond what any joint of any model does
_RUNNING = 7  # robot_mode: powered, brakes released
_STOPS = {  # bits of safety_status_bits, the ones with a name of their own first
    1 << 6: "emergency stop at the arm", 1 << 5: "emergency stop of the system", 1 << 4: "safeguard stop",
    1 << 2: "protective stop", 1 << 8: "safety violation", 1 << 9: "safety fault", 1 << 10: "stop for safety",
}  # fmt: skip
_EMERGENCY = 1 << 6 | 1 << 5  # of them
_FIELDS = ("timestamp", "actual_q", "actual_qd", "robot_mode", "safety_status_bits")
_POLL_S = 0.01
_DISCONNECT_S = 8.0  # the SDK's own sleeps and timeouts

Sdk = tuple[Callable[..., Any], Callable[..., Any], Callable[..., Any]]  # receive, control, dashboard


@dataclass(frozen=True, kw_only=True)
class UrConfig:
    """Where the arm is, how it follows its targets, and what it takes for silence."""

    host: str = ""  # empty: the environment variable ROBOT_IP
    model: str = "ur5e"
    rate_hz: float = 10.0
    stream_hz: float = 125.0  # of the controller's readings
    lookahead_s: float = 0.1  # 0.03 to 0.2: longer is smoother
    gain: float = 300.0  # 100 to 2000: higher is stiffer
    stop_acceleration: float = 10.0  # m/s^2 of the tool
    silence_s: float = 0.5
    timeout_s: float = 2.0  # of opening and of each stop
    hand: EndEffectorConfig | None = None  # set: commanded by steps of the tip
    tool_m: float = 0.0  # from the flange to the tip

    def __post_init__(self) -> None:
        for name, low, high in (("lookahead_s", 0.03, 0.2), ("gain", 100.0, 2000.0)):
            if not low <= getattr(self, name) <= high:
                raise ValueError(f"{name} = {getattr(self, name)}, allowed {low} to {high}; change it")
        if self.model not in UR_LINKS:
            raise ValueError(f"model = {self.model!r}, allowed {', '.join(UR_LINKS)}; choose one of these")
        if self.silence_s < 4 / self.rate_hz:
            raise ValueError(f"silence_s = {self.silence_s}, allowed {4 / self.rate_hz:g} or more; make it longer")


class Ur:
    """See hal.robot.Robot. Commands are joint targets; velocities are the controller's own measurement."""

    def __init__(self, config: UrConfig, *, clock: Clock) -> None:
        self.config, self.clock = config, clock
        self.host = robot_address(config.host, "UR arm")
        self._receive_sdk, self._control_sdk, self._dashboard_sdk = _sdk()
        self._receive: Any = None
        self._control: Any = None
        self._is_lost = False
        self._stamps = StampMapper()
        self._moved_s = 0.0  # when the controller's clock was last seen to move, and where to
        self._tick_s = -1.0
        self._fed_s = self._late_s = -math.inf  # the last command (none: the arm is idle), and the last late one
        state = [(f"{name}.position", "rad", -_RANGE, _RANGE) for name in _JOINTS]
        state += [(f"{name}.velocity", "rad/s", -_FASTEST, _FASTEST) for name in _JOINTS]
        self._spec = RobotSpec(
            model=f"{config.model}_joints",
            state=box("observation.state", state),
            command=box("action", [(f"{name}.target", "rad", -_RANGE, _RANGE) for name in _JOINTS]),
            rate_hz=config.rate_hz,
            on_silence=OnSilence.STOPS,
        )

    @property
    def spec(self) -> RobotSpec:
        return self._spec

    def open(self) -> None:
        if self._is_lost:
            raise RobotUnreachable(f"the link to the UR arm at {self.host} was lost; start the process again")
        timeout_s = self.config.timeout_s
        check_answers(self.host, _RTDE_PORT, "UR controller", timeout_s=timeout_s, question=_PROTOCOL_VERSION)
        try:
            self._receive = self._receive_sdk(self.host, self.config.stream_hz, list(_FIELDS))
            self._stamps, self._moved_s = StampMapper(), self.clock.now_s()
            self._fed_s = -math.inf
            self._check_safety()
            self._control = self._control_sdk(self.host, self.config.stream_hz)
        except RuntimeError as error:
            self.close()
            raise RobotUnreachable(f"no control of the UR arm at {self.host}: {error}; look at the pendant") from error
        except RobotFault:
            self.close()
            raise

    def read(self) -> RobotState:
        self._check()
        values = np.array(self._receive.getActualQ() + self._receive.getActualQd())
        stamp_s = self._stamps.stamp_s(self._tick_s, self._moved_s)
        return RobotState(stamp_s=stamp_s, values=self._spec.state.clip(values))

    def command(self, target: Array) -> Array:
        self._check()
        self._spec.command.check(target)
        if self._fed_s == -math.inf:
            self._begin()
        if not self._follows(target):
            self._check()  # a stop has its own name
            self._begin_anew()
            if not self._follows(target):
                raise RobotFault(f"the UR arm at {self.host} refused servoJ; look at the pendant, then start again")
        now_s = self.clock.now_s()
        if self._is_late(now_s):
            self._late_s = now_s
        self._fed_s = now_s
        return target

    def halt(self) -> None:
        """A servo stop; where that is not confirmed, the end of the program over the dashboard's own connection."""
        if self._control is None:
            return
        self._fed_s = -math.inf
        if self._is_lost or not self._servo_stops():
            self._end_program()

    def emergency_stop_pressed(self) -> bool:
        """See hal.robot.TellsEmergencyStop: the arm's own button, or the system's."""
        if self._receive is None:
            raise RobotUnreachable(f"the UR arm at {self.host} is not open; call open() first")
        return bool(self._receive.getSafetyStatusBits() & _EMERGENCY)

    def close(self) -> None:
        receive, control = self._receive, self._control
        if control is not None:
            try:
                self.halt()
            except RobotUnreachable as error:
                log.error("%s", error)
        self._receive = self._control = None
        if self._is_lost:
            _LOST.extend((receive, control))
            return
        for link in (control, receive):
            if link is not None:
                self._let_go(link)

    def _let_go(self, link: Any) -> None:  # noqa: ANN401
        try:
            bounded(link.disconnect, f"letting go of the UR arm at {self.host}", timeout_s=_DISCONNECT_S)
        except RobotUnreachable as error:
            log.error("%s", error)

    def _check(self) -> None:
        if self._control is None:
            raise RobotUnreachable(f"the UR arm at {self.host} is not open; call open() first")
        now_s, tick_s = self.clock.now_s(), self._receive.getTimestamp()
        if tick_s != self._tick_s:
            self._moved_s, self._tick_s = now_s, tick_s
        quiet_s = now_s - self._moved_s
        if self._is_lost or quiet_s > self.config.silence_s or not self._receive.isConnected():
            self._is_lost = True
            raise RobotUnreachable(
                f"the UR arm at {self.host} was last heard {quiet_s:.3g} s ago, allowed {self.config.silence_s:g} s; "
                "look at its power and cable, then start the process again"
            )
        self._check_safety()

    def _check_safety(self) -> None:
        bits, mode = self._receive.getSafetyStatusBits(), self._receive.getRobotMode()
        stop = next((name for bit, name in _STOPS.items() if bits & bit), None)
        if stop is not None:
            raise RobotFault(
                f"{stop} of the UR arm at {self.host}; look at the arm, clear the stop at the pendant, then start again"
            )
        if mode != _RUNNING:
            raise RobotFault(
                f"the UR arm at {self.host} is in robot mode {mode}, allowed {_RUNNING} (running); "
                "power it and release its brakes at the pendant, then start again"
            )

    def _begin(self) -> None:
        """Has a program that runs and is watched: the one that is there, else a new one."""
        if self._control.isProgramRunning() and self._is_watched():
            return
        self._asked(self._upload, "uploading the program")
        if not self._is_watched():
            self._is_lost = True
            raise RobotUnreachable(
                f"the UR arm at {self.host} took no watchdog, and silence would not stop it; look at the pendant, "
                "then start the process again"
            )

    def _begin_anew(self) -> None:
        """After a silence of ours, now or a moment ago; a program that was being fed has been ended by somebody."""
        now_s = self.clock.now_s()
        if not self._is_late(now_s) and now_s - self._late_s > self.config.silence_s:
            raise RobotFault(
                f"the program on the UR arm at {self.host} was ended from elsewhere; look at the pendant, start again"
            )
        self._begin()

    def _follows(self, target: Array) -> bool:
        joints, config = target.astype(np.float64).tolist(), self.config
        servo = (joints, 0.0, 0.0, 1.0 / config.stream_hz, config.lookahead_s, config.gain)
        return self._asked(lambda: bool(self._control.servoJ(*servo)), "servoJ")

    def _is_late(self, now_s: float) -> bool:
        """Whether a command comes so late that the watchdog may have been faster."""
        return now_s - self._fed_s > self.config.silence_s / 2 and self._fed_s != -math.inf

    def _is_watched(self) -> bool:
        return self._asked(lambda: bool(self._control.setWatchdog(1.0 / self.config.silence_s)), "setting the watchdog")

    def _upload(self) -> None:
        self._control.stopScript()  # it clears the command register, from which a new program would take the old target
        self._control.reuploadScript()
        while self._control is not None and not self._control.isProgramRunning():
            self.clock.sleep_until(self.clock.now_s() + _POLL_S)

    def _asked(self, call: Callable[[], T], what: str) -> T:
        """What the SDK answers; a link on which it fails or hangs is lost."""
        try:
            return bounded(call, f"{what}, of the UR arm at {self.host}", timeout_s=self.config.timeout_s)
        except RobotUnreachable:
            self._is_lost = True
            raise

    def _servo_stops(self) -> bool:
        """Whether the arm is known to follow nothing any more."""
        try:
            stopped = self._asked(lambda: self._control.servoStop(self.config.stop_acceleration), "the servo stop")
        except RobotUnreachable as error:
            log.warning("%s", error)
            return False
        return bool(stopped) or not self._control.isProgramRunning()

    def _end_program(self) -> None:
        timeout_s = self.config.timeout_s
        dashboard = self._dashboard_sdk(self.host)

        def stop() -> bool:
            dashboard.connect(round(timeout_s * 1e3))
            dashboard.stop()
            dashboard.disconnect()
            return True

        what = f"the UR arm at {self.host} could not be told to stop and does so after {self.config.silence_s:g} s"
        bounded(stop, what, timeout_s=2 * timeout_s)


_LOST: list[Any] = []  # links that were lost: the SDK's threads still use them, and to delete them would wait for those


def _sdk() -> Sdk:
    try:
        from dashboard_client import DashboardClient
        from rtde_control import RTDEControlInterface
        from rtde_receive import RTDEReceiveInterface
    except ImportError as error:
        raise ConfigError(f"robot=ur needs ur_rtde; pip install 'user-rl[ur]' ({error})") from error
    return RTDEReceiveInterface, RTDEControlInterface, DashboardClient
