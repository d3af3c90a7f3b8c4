"""franky's surface without an arm: what `hal.franka` uses of it, over a simulated arm that moves in real time.

FCI is Franka's own and needs a real arm, so the boundary that is faked here is the SDK's, not the wire. The names,
arguments and errors are those of franky 2.0; a test holds each against the package that is installed. Give an
instance of `FakeFranky` where the module would stand: `Franka(config, clock=clock, sdk=FakeFranky(clock))`.
"""

from dataclasses import dataclass, field
from enum import Enum

import numpy as np

from hal.dh import FRANKA_HOME
from user_rl.clock import Clock
from user_rl.specs import Array

JOINTS = 7
_FASTEST = 2.62  # rad/s: an FR3's slowest joint at its limit, for all of them


class RealtimeConfig(Enum):
    """Whether a real-time kernel is asked for."""

    Enforce = 0
    Ignore = 1


class RobotMode(Enum):
    """What the arm is doing."""

    Other = 0
    Idle = 1
    Move = 2
    Guiding = 3
    Reflex = 4
    UserStopped = 5
    AutomaticErrorRecovery = 6


class NetworkException(Exception):  # franky's names
    """No connection, or a timeout."""


class ControlException(Exception):
    """A motion was ended by the arm."""


class CommandException(Exception):
    """A command was refused."""


class RealtimeException(Exception):
    """The control thread may not run in real time."""


class IncompatibleVersionException(Exception):
    """The arm's firmware speaks another version."""


@dataclass(frozen=True)
class JointMotion:
    """To `target` [7] rad."""

    target: Array
    return_when_finished: bool = True


@dataclass(frozen=True)
class JointStopMotion:
    """To a standstill."""


@dataclass(frozen=True)
class Duration:
    """The arm's own time."""

    seconds: float

    def to_sec(self) -> float:
        return self.seconds


@dataclass
class Errors:
    """The few that tests raise."""

    joint_reflex: bool = False
    communication_constraints_violation: bool = False


@dataclass(frozen=True)
class RobotState:
    """One reading."""

    q: Array
    dq: Array
    time: Duration
    robot_mode: RobotMode
    current_errors: Errors


@dataclass
class FakeArm:
    """The arm behind the SDK; whoever tests breaks it here."""

    clock: Clock
    position: Array = field(default_factory=lambda: np.array(FRANKA_HOME))
    velocity: Array = field(default_factory=lambda: np.zeros(JOINTS))
    target: Array | None = None  # None: no motion
    speed: float = _FASTEST
    is_reachable: bool = True
    mode: RobotMode | None = None  # None: Idle or Move
    errors: Errors = field(default_factory=Errors)
    refusal: Exception | None = None  # raised by the next motion, or while one runs
    will_stop: bool = True
    seen_s: float = 0.0

    def reflex(self) -> None:
        """What a collision does."""
        self.advance()
        self.mode, self.errors, self.target = RobotMode.Reflex, Errors(joint_reflex=True), None
        self.refusal = ControlException("libfranka: Move command aborted: motion aborted by reflex!")

    def advance(self) -> None:
        """Moves the arm up to now."""
        now_s = self.clock.now_s()
        passed_s, self.seen_s = now_s - self.seen_s, now_s
        self.velocity = np.zeros(JOINTS)
        if self.target is not None and passed_s > 0:
            way = np.clip(self.target - self.position, -self.speed * passed_s, self.speed * passed_s)
            self.position, self.velocity = self.position + way, way / passed_s


class FakeFranky:
    """Stands for the module `franky`."""

    RealtimeConfig, RobotMode, JointMotion, JointStopMotion = RealtimeConfig, RobotMode, JointMotion, JointStopMotion
    NetworkException, ControlException, CommandException = NetworkException, ControlException, CommandException
    RealtimeException, IncompatibleVersionException = RealtimeException, IncompatibleVersionException

    def __init__(self, clock: Clock) -> None:
        self.arm = FakeArm(clock, seen_s=clock.now_s())
        self.opened: list[dict[str, object]] = []  # how robots were made
        self.motions: list[JointMotion | JointStopMotion] = []
        self.stops = 0

    def Robot(
        self, fci_hostname: str, relative_dynamics_factor: float = 1.0, realtime_config: Enum = RealtimeConfig.Enforce
    ) -> "Robot":
        if not self.arm.is_reachable:
            raise NetworkException("libfranka: Connection timeout")
        self.opened.append({"host": fci_hostname, "dynamics": relative_dynamics_factor, "realtime": realtime_config})
        self.arm.speed = _FASTEST * relative_dynamics_factor
        return Robot(self)


class Robot:
    """See franky.Robot."""

    def __init__(self, sdk: FakeFranky) -> None:
        self._sdk = sdk

    def move(self, motion: JointMotion | JointStopMotion, asynchronous: bool = False) -> None:
        arm = self._arm()
        assert asynchronous, "the fake moves in the background only"
        self._raise_refusal()
        self._sdk.motions.append(motion)
        if isinstance(motion, JointMotion):
            arm.target = np.array(motion.target)
        elif arm.will_stop:
            arm.target = None

    def poll_motion(self) -> bool:
        self._arm()
        self._raise_refusal()
        return self.is_in_control

    def join_motion(self, timeout_s: float | None = None) -> bool:
        assert timeout_s is not None, "a wait without an end"
        self._raise_refusal()
        return self._arm().target is None

    def stop(self) -> None:
        self._sdk.stops += 1
        self._arm().target = None

    @property
    def is_in_control(self) -> bool:
        return self._sdk.arm.target is not None

    @property
    def has_errors(self) -> bool:
        return self._sdk.arm.errors != Errors()

    @property
    def state(self) -> RobotState:
        arm = self._arm()
        mode = arm.mode or (RobotMode.Move if self.is_in_control else RobotMode.Idle)
        return RobotState(
            q=arm.position.copy(), dq=arm.velocity.copy(), time=Duration(arm.seen_s + 1000.0), robot_mode=mode,
            current_errors=arm.errors,
        )  # fmt: skip

    def _arm(self) -> FakeArm:
        if not self._sdk.arm.is_reachable:
            raise NetworkException("libfranka: UDP receive: Timeout")
        self._sdk.arm.advance()
        return self._sdk.arm

    def _raise_refusal(self) -> None:
        refusal, self._sdk.arm.refusal = self._sdk.arm.refusal, None
        if refusal is not None:
            raise refusal
