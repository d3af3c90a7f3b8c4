"""A served part as one more Robot, Camera or Teleop.

The spec comes with the first handshake, when the object is made, so the server must be up by then. Stamps are mapped
onto the caller's clock. A server that does not answer within the deadline is unreachable, and stays so until reopened:
its robot stops by itself when commands stop coming (`hal.remote.server`).
"""

import logging
from dataclasses import replace

import numpy as np

from hal.camera import Frame
from hal.remote.config import RemoteConfig
from hal.remote.link import Link
from hal.remote.messages import (
    Begin,
    Close,
    Command,
    Describe,
    Description,
    Done,
    Halt,
    Kind,
    Open,
    Opened,
    Read,
    Reading,
    Sent,
)
from hal.remote.specs import S, decode_spec
from hal.robot import RobotSpec, RobotState
from hal.teleop import TeleopReading
from user_rl.clock import Clock
from user_rl.errors import ConfigError, HardwareError, RobotUnreachable, WireError
from user_rl.specs import Array, Box, Image

log = logging.getLogger(__name__)


class _Remote:
    """What the three have in common: the handshake, opening, reading and closing."""

    def __init__(self, link: Link, clock: Clock) -> None:
        self.link, self._clock = link, clock
        self._stamp_s = -np.inf

    def describe(self, kind: Kind, cls: type[S]) -> S:
        """The part's spec; raises ConfigError when it is of another kind."""
        link = self.link
        link.connect()
        try:
            described, _ = link.ask(
                Description, lambda call: Describe(link.part, 0, call), within_s=link.config.connect_s
            )
        finally:
            link.disconnect(f"{link} is not open; call open() first")
        if described.kind != kind:
            raise ConfigError(f"{link} is a {described.kind}, allowed a {kind}; name another part")
        self._described = described.spec
        return decode_spec(described.spec, cls)

    def open(self) -> None:
        link = self.link
        link.connect()
        try:
            opened, _ = link.ask(Opened, lambda call: Open(link.part, link.session, call), within_s=link.config.open_s)
        except HardwareError as error:
            link.disconnect(str(error))
            raise
        link.hold(opened.session)
        if opened.spec != self._described:
            self.close()
            raise ConfigError(f"{link} has another spec than before; start this process again")

    def read(self) -> tuple[Reading, memoryview]:
        """The newest reading, its stamp on the caller's clock, never before the last one's."""
        link = self.link
        reading, values = link.ask(
            Reading, lambda call: Read(link.part, link.session, call), within_s=link.config.deadline_s
        )
        self._stamp_s = max(self._stamp_s, link.offset.stamp_s(reading.stamp_s, self._clock))
        return reading, memoryview(b"") if values is None else values

    @property
    def stamp_s(self) -> float:
        """Of what was read last."""
        return self._stamp_s

    def close(self) -> None:
        link = self.link
        if link.lost:
            return
        within_s = link.config.open_s if link.reachable() else link.config.deadline_s
        try:
            link.ask(Done, lambda call: Close(link.part, link.session, call), within_s=within_s)
        except HardwareError as error:
            log.warning("%s could not be closed, its server does it: %s", link, error)
        link.disconnect(f"{link} is not open; call open() first")


class RemoteRobot:
    """See hal.robot.Robot."""

    def __init__(self, config: RemoteConfig, *, clock: Clock) -> None:
        self._remote = _Remote(Link(config, config.part or "robot", RobotUnreachable), clock)
        self._spec = self._remote.describe("robot", RobotSpec)

    @property
    def spec(self) -> RobotSpec:
        return self._spec

    def open(self) -> None:
        self._remote.open()

    def read(self) -> RobotState:
        _, values = self._remote.read()
        return RobotState(stamp_s=self._remote.stamp_s, values=_floats(values, self._spec.state))

    def command(self, target: Array) -> Array:
        link = self._remote.link
        self._spec.command.check(target)
        deadline_s = link.config.deadline_s
        expires_s = link.until_s(deadline_s)
        _, values = link.ask(
            Sent, lambda call: Command(link.part, link.session, call, expires_s),
            np.ascontiguousarray(target).data.cast("B"), within_s=deadline_s,
        )  # fmt: skip
        return _floats(memoryview(b"") if values is None else values, self._spec.command)

    def halt(self) -> None:
        """A server that does not answer halts its robot by itself: that is said, not raised."""
        link = self._remote.link
        if link.lost:
            return
        try:
            link.ask(Done, lambda call: Halt(link.part, link.session, call), within_s=link.config.deadline_s)
        except HardwareError as error:
            log.warning("%s was not told to halt, its server does it by itself: %s", link, error)

    def close(self) -> None:
        self._remote.close()


class RemoteCamera:
    """See hal.camera.Camera."""

    blocks = True  # for the answer

    def __init__(self, config: RemoteConfig, *, name: str, clock: Clock) -> None:
        self._remote = _Remote(Link(config, config.part or f"cameras.{name}"), clock)
        served = self._remote.describe("camera", Image)
        self._spec = replace(served, name=f"observation.images.{name}")

    @property
    def spec(self) -> Image:
        return self._spec

    def open(self) -> None:
        self._remote.open()

    def read(self) -> Frame:
        _, values = self._remote.read()
        size = int(np.prod(self._spec.shape))
        if len(values) != size:
            raise _misfit(self._spec.name, len(values), size)
        pixels = np.frombuffer(values, np.uint8).reshape(self._spec.shape).copy()
        return Frame(stamp_s=self._remote.stamp_s, pixels=pixels)

    def close(self) -> None:
        self._remote.close()


class RemoteTeleop:
    """See hal.teleop.Teleop. `poll` waits for the answer at most `deadline_s`."""

    blocks = True

    def __init__(self, config: RemoteConfig, *, clock: Clock) -> None:
        self._remote = _Remote(Link(config, config.part or "teleop"), clock)
        self._action = self._remote.describe("teleop", Box)

    @property
    def action(self) -> Box:
        return self._action

    def open(self) -> None:
        self._remote.open()

    def begin(self, *, demonstrate: bool) -> None:
        link = self._remote.link
        link.ask(Done, lambda call: Begin(link.part, link.session, call, demonstrate), within_s=link.config.deadline_s)

    def poll(self) -> TeleopReading:
        reading, values = self._remote.read()
        return TeleopReading(
            stamp_s=self._remote.stamp_s, action=_floats(values, self._action) if len(values) else None,
            is_intervention=reading.is_intervention, success=reading.success, failure=reading.failure,
            rerecord_episode=reading.rerecord_episode, terminate_episode=reading.terminate_episode,
            is_enabled=reading.is_enabled,
        )  # fmt: skip

    def close(self) -> None:
        self._remote.close()


def _floats(values: memoryview, box: Box) -> Array:
    if len(values) != 4 * len(box.names):
        raise _misfit(box.name, len(values), 4 * len(box.names))
    return np.frombuffer(values, np.float32).copy()


def _misfit(name: str, size: int, wanted: int) -> WireError:
    return WireError(f"{name} came as {size} bytes, allowed {wanted}; bring both sides to one version")
