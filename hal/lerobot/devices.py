"""Devices: a LeRobot robot as a Robot with Cameras, and a LeRobot teleoperator as a Teleop. Needs nothing of LeRobot's.

LeRobot has no halt: what is measured is held where it is, what is not measured goes to the value that `hold` names. Its
calibration asks a person questions, so an uncalibrated device is refused instead. LeRobot converts nothing to SI by
itself: values keep the unit that the bounds name.
"""

import inspect
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import numpy as np

from hal.camera import Frame
from hal.lerobot.config import LeRobotConfig, LeRobotTeleopConfig
from hal.lerobot.features import image_shapes, make_box, number_names, vector
from hal.robot import OnSilence, RobotSpec, RobotState
from hal.teleop import TeleopReading
from user_rl.clock import Clock
from user_rl.errors import ConfigError, HardwareError, RobotFault, RobotUnreachable
from user_rl.specs import Array, Box, Image

EVENTS = ("is_intervention", "success", "failure", "rerecord_episode", "terminate_episode")


class Source:
    """A LeRobot robot, connected while somebody uses it, and its newest observation."""

    def __init__(self, device: Any, clock: Clock) -> None:  # noqa: ANN401  # LeRobot's types are not known here
        self.device, self._clock = device, clock
        self._users = 0
        self._newest: tuple[float, Mapping[str, Any]] | None = None

    def connect(self) -> None:
        if self._users == 0:
            connect(self.device)
            self._newest = None
        self._users += 1

    def disconnect(self) -> None:
        self._users -= 1
        if self._users == 0:
            with translated(self.device):
                self.device.disconnect()

    def observe(self, after_s: float | None = None) -> tuple[float, Mapping[str, Any]]:
        """An observation and its stamp: a new one, or the newest where that is younger than `after_s`."""
        if self._newest is None or after_s is None or self._newest[0] <= after_s:
            stamp_s = self._clock.now_s()
            with translated(self.device):
                self._newest = stamp_s, self.device.get_observation()
        return self._newest


class Arm:
    """See hal.robot.Robot."""

    def __init__(self, source: Source, config: LeRobotConfig) -> None:
        self._source, self._device, self._config = source, source.device, config
        measured = number_names(self._device.observation_features, config.ignore)
        commanded = number_names(self._device.action_features)
        self._hold = {name: _still(name, measured, config) for name in commanded}
        self._spec = RobotSpec(
            model=config.type,
            state=make_box("observation.state", measured, "bounds", config.state_bounds, config.bounds),
            command=make_box("action", commanded, "bounds", config.bounds),
            rate_hz=config.rate_hz,
            on_silence=config.on_silence or _silence(commanded),
        )
        self._is_open = False

    @property
    def spec(self) -> RobotSpec:
        return self._spec

    def open(self) -> None:
        self._source.connect()
        self._is_open = True

    def read(self) -> RobotState:
        self._check_open()
        stamp_s, values = self._source.observe()
        return RobotState(stamp_s=stamp_s, values=vector(values, self._spec.state.names, str(self._device)))

    def command(self, target: Array) -> Array:
        self._check_open()
        self._spec.command.check(target)
        asked = dict(zip(self._spec.command.names, target.tolist(), strict=True))
        with translated(self._device):
            sent = self._device.send_action(asked)
        return vector({**asked, **sent}, self._spec.command.names, str(self._device))

    def halt(self) -> None:
        if not self._is_open:
            return
        _, values = self._source.observe()
        with translated(self._device):
            self._device.send_action(
                {name: float(values[name]) if still is None else still for name, still in self._hold.items()}
            )

    def close(self) -> None:
        if self._is_open:
            self._is_open = False
            self._source.disconnect()

    def _check_open(self) -> None:
        if not self._is_open:
            raise RobotUnreachable(f"{self._device} is not open; call open() first")


class ArmCamera:
    """See hal.camera.Camera. What the robot has observed last, unless this camera has shown that already."""

    def __init__(self, source: Source, key: str, height: int, width: int) -> None:
        self._source, self._key = source, key
        self._spec = Image(name=f"observation.images.{key}", height=height, width=width)
        self._is_open = False
        self._shown_s = -np.inf

    @property
    def spec(self) -> Image:
        return self._spec

    def open(self) -> None:
        self._source.connect()
        self._is_open = True

    def read(self) -> Frame:
        if not self._is_open:
            raise HardwareError(f"{self._spec.name} is not open; call open() first")
        self._shown_s, values = self._source.observe(self._shown_s)
        return Frame(stamp_s=self._shown_s, pixels=np.asarray(values[self._key]))

    def close(self) -> None:
        if self._is_open:
            self._is_open = False
            self._source.disconnect()


class Hand:
    """See hal.teleop.Teleop."""

    def __init__(self, device: Any, config: LeRobotTeleopConfig, clock: Clock) -> None:  # noqa: ANN401
        self._device, self._clock = device, clock
        self._action = make_box("action", number_names(device.action_features), "bounds", config.bounds)
        self._events: Callable[[], Mapping[Any, Any]] | None = getattr(device, "get_teleop_events", None)
        self._is_open = self._demonstrates = False

    @property
    def action(self) -> Box:
        return self._action

    def open(self) -> None:
        connect(self._device)
        self._is_open = True

    def begin(self, *, demonstrate: bool) -> None:
        self._demonstrates = demonstrate

    def poll(self) -> TeleopReading:
        if not self._is_open:
            raise HardwareError(f"{self._device} is not open; call open() first")
        with translated(self._device):
            given = {} if self._events is None else self._events()
            values = self._device.get_action()
        named = {str(getattr(event, "value", event)): bool(says) for event, says in given.items()}
        says = {event: named.get(event, False) for event in EVENTS}
        drives = self._demonstrates or says["is_intervention"]
        action = self._action.clip(vector(values, self._action.names, str(self._device))) if drives else None
        return TeleopReading(stamp_s=self._clock.now_s(), action=action, **says)

    def close(self) -> None:
        if self._is_open:
            self._is_open = False
            with translated(self._device):
                self._device.disconnect()


def make_cameras(source: Source) -> dict[str, ArmCamera]:
    """The cameras in what the robot observes, by LeRobot's names."""
    shapes = image_shapes(source.device.observation_features)
    return {key: ArmCamera(source, key, height, width) for key, (height, width) in shapes.items()}


def connect(device: Any) -> None:  # noqa: ANN401
    """Connects without calibrating; raises RobotUnreachable when it is not calibrated."""
    known = "calibrate" in inspect.signature(device.connect).parameters  # a gamepad's connect takes nothing
    with translated(device):
        device.connect(**({"calibrate": False} if known else {}))
        calibrated = device.is_calibrated
        if calibrated() if callable(calibrated) else calibrated:
            return
        device.disconnect()
    raise RobotUnreachable(
        f"{device} is not calibrated; run lerobot-calibrate with its type, port and id in LeRobot's environment"
    )


@contextmanager
def translated(device: Any) -> Iterator[None]:  # noqa: ANN401
    """LeRobot's errors as ours: what connects, waits or does I/O is unreachable, anything else is a fault."""
    try:
        yield
    except OSError as error:  # ConnectionError, TimeoutError and serial's errors among them
        raise RobotUnreachable(f"{device}: {_line(error)}; look at its power and cable") from error
    except (RuntimeError, ValueError, LookupError) as error:
        raise RobotFault(f"{device}: {_line(error)}; look at the robot, start it again") from error


def _line(error: Exception) -> str:
    """LeRobot's errors fill paragraphs."""
    return f"{type(error).__name__}: {' '.join(str(error).split())}"


def _still(name: str, measured: list[str], config: LeRobotConfig) -> float | None:
    """What keeps this command still; None: the value that is measured then."""
    if name in config.hold:
        return float(config.hold[name])
    if name in measured:
        return None
    if name.endswith(".vel"):
        return 0.0
    raise ConfigError(
        f"hold.{name}: not set; it is commanded and not measured, give hold={{{name}: VALUE}} that halts it"
    )


def _silence(commanded: list[str]) -> OnSilence:
    return OnSilence.STOPS if all(name.endswith(".pos") for name in commanded) else OnSilence.NONE
