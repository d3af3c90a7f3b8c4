"""A Franka arm (FR3, Panda) in joint space: `robot=franka robot.host=172.16.0.2`, with franky (extra `franka`).

Needs the arm unlocked, FCI activated, and a real-time kernel, or `robot.realtime=false`. franky's control thread plans
from the newest target at 1 kHz, within the arm's own limits times `dynamics`; a new target replaces the old one at
once. Limits of the task are `Guarded`'s.

Silence: the control thread stops at the last target and holds it; without this process, or without the cable, FCI
misses its packets and the arm stops itself. Its errors are reflexes, which a person clears; nothing here does.
Not yet run on an arm.
"""

import logging
from dataclasses import dataclass
from typing import Any

import numpy as np

from hal.address import check_answers, robot_address
from hal.dh import FRANKA_LINKS
from hal.end_effector import EndEffectorConfig
from hal.robot import OnSilence, RobotSpec, RobotState
from hal.stamps import StampMapper
from user_rl.clock import Clock
from user_rl.errors import ConfigError, RobotFault, RobotUnreachable
from user_rl.specs import Array, box

log = logging.getLogger(__name__)

_FCI_PORT = 1337
_FASTEST = 5.3  # rad/s: an FR3's fastest joint
_BEYOND = 0.2  # rad: a reading may be that far outside what is commanded
_TO_DO = "look at the arm, clear it in Franka Desk, then start again"


@dataclass(frozen=True, kw_only=True)
class FrankaConfig:
    """Where the arm is and how fast it may go to its targets."""

    host: str = ""  # empty: the environment variable ROBOT_IP
    model: str = "fr3"
    rate_hz: float = 10.0
    dynamics: float = 0.2  # of the arm's own limits of speed, acceleration and jerk
    realtime: bool = True  # false: also on a kernel that is not; the arm may stop for packets that come late
    timeout_s: float = 2.0  # of opening and of each stop
    hand: EndEffectorConfig | None = None  # set: commanded by steps of the tip
    tool_m: float = 0.1034  # from the flange to the tip: Franka's own hand

    def __post_init__(self) -> None:
        if not 0 < self.dynamics <= 1:
            raise ValueError(f"dynamics = {self.dynamics}, allowed above 0 to 1; change it")


class Franka:
    """See hal.robot.Robot. Commands are joint targets; velocities are the arm's own measurement. `sdk`: franky."""

    def __init__(self, config: FrankaConfig, *, clock: Clock, sdk: Any = None) -> None:  # noqa: ANN401
        self.config, self.clock = config, clock
        self.host = robot_address(config.host, "Franka arm")
        self._sdk = _franky() if sdk is None else sdk
        self._robot: Any = None
        self._stamps = StampMapper()
        joints = FRANKA_LINKS
        state = [(f"{j.name}.position", "rad", j.low - _BEYOND, j.high + _BEYOND) for j in joints]
        state += [(f"{j.name}.velocity", "rad/s", -_FASTEST, _FASTEST) for j in joints]
        self._spec = RobotSpec(
            model=f"{config.model}_joints",
            state=box("observation.state", state),
            command=box("action", [(f"{j.name}.target", "rad", j.low, j.high) for j in joints]),
            rate_hz=config.rate_hz,
            on_silence=OnSilence.STOPS,
        )

    @property
    def spec(self) -> RobotSpec:
        return self._spec

    def open(self) -> None:
        sdk, config = self._sdk, self.config
        check_answers(self.host, _FCI_PORT, "Franka control interface", timeout_s=config.timeout_s)
        realtime = sdk.RealtimeConfig.Enforce if config.realtime else sdk.RealtimeConfig.Ignore
        try:
            robot = sdk.Robot(self.host, relative_dynamics_factor=config.dynamics, realtime_config=realtime)
        except sdk.NetworkException as error:
            raise RobotUnreachable(f"no control of the Franka arm at {self.host}: {error}; activate FCI") from error
        except sdk.IncompatibleVersionException as error:
            raise ConfigError(f"the Franka arm at {self.host}: {error}; install franky for its firmware") from error
        self._robot, self._stamps = robot, StampMapper()
        try:
            self._state()
        except (RobotFault, RobotUnreachable):
            self._robot = None
            raise

    def read(self) -> RobotState:
        state = self._state()
        stamp_s = self._stamps.stamp_s(state.time.to_sec(), self.clock.now_s())
        return RobotState(stamp_s=stamp_s, values=self._spec.state.clip(np.concatenate((state.q, state.dq))))

    def command(self, target: Array) -> Array:
        self._state()
        self._spec.command.check(target)
        motion = self._sdk.JointMotion(target.astype(np.float64), return_when_finished=False)
        try:
            self._robot.move(motion, asynchronous=True)
        except self._sdk.NetworkException as error:
            raise self._unreachable(error) from error
        except (self._sdk.ControlException, self._sdk.CommandException, self._sdk.RealtimeException) as error:
            raise RobotFault(f"the Franka arm at {self.host} refused a motion: {error}; {_TO_DO}") from error
        return target

    def halt(self) -> None:
        """Decelerates as fast as the arm may; where that is not seen to end, FCI's own stop."""
        if self._robot is None or not self._robot.is_in_control:
            return
        sdk = self._sdk
        try:
            self._robot.move(sdk.JointStopMotion(), asynchronous=True)
            if self._robot.join_motion(self.config.timeout_s):
                return
            self._robot.stop()
        except sdk.ControlException as error:
            log.warning("the Franka arm at %s had stopped by itself: %s", self.host, error)
        except (sdk.NetworkException, sdk.CommandException) as error:
            raise self._unreachable(error) from error

    def close(self) -> None:
        try:
            self.halt()
        except RobotUnreachable as error:
            log.error("%s", error)
        self._robot = None

    def _state(self) -> Any:  # noqa: ANN401  # franky.RobotState
        """The newest state; raises when it is not one to act on, or when the last motion went wrong."""
        if self._robot is None:
            raise RobotUnreachable(f"the Franka arm at {self.host} is not open; call open() first")
        sdk = self._sdk
        try:
            self._robot.poll_motion()
            state = self._robot.state
        except sdk.NetworkException as error:
            raise self._unreachable(error) from error
        except sdk.ControlException as error:
            raise RobotFault(f"the Franka arm at {self.host} stopped: {error}; {_TO_DO}") from error
        if state.robot_mode not in (sdk.RobotMode.Idle, sdk.RobotMode.Move) or self._robot.has_errors:
            errors = [name for name in dir(state.current_errors) if getattr(state.current_errors, name) is True]
            mode = f"{state.robot_mode.name} ({', '.join(errors) or 'no error'})"
            raise RobotFault(f"the Franka arm at {self.host} is in mode {mode}, allowed Idle or Move; {_TO_DO}")
        return state

    def _unreachable(self, error: Exception) -> RobotUnreachable:
        return RobotUnreachable(f"the Franka arm at {self.host}: {error}; look at the cable, activate FCI, open again")


def _franky() -> Any:  # noqa: ANN401  # the module
    try:
        import franky
    except ImportError as error:
        raise ConfigError(f"robot=franka needs franky; pip install 'user-rl[franka]' ({error})") from error
    return franky
