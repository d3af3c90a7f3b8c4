"""Driver: starts the bridge in LeRobot's environment, and stands for the robot, its cameras or the teleoperator here.

A bridge runs while somebody uses it, ends with this process whatever happens to it, and says why it ended: the last
line that it wrote is in the error.
"""

import os
import shutil
import subprocess
import tempfile
import weakref
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

import msgspec

import hal
import user_rl
from hal.camera import Frame
from hal.lerobot.config import LeRobotCameraConfig, LeRobotConfig, LeRobotTeleopConfig
from hal.remote.client import RemoteCamera, RemoteRobot, RemoteTeleop
from hal.remote.config import RemoteConfig
from hal.remote.door import INVITATION
from hal.robot import RobotSpec, RobotState
from hal.teleop import TeleopReading
from user_rl.clock import Clock, SystemClock
from user_rl.errors import ConfigError, HardwareError, RobotUnreachable
from user_rl.specs import Array, Box, Image

T = TypeVar("T")

POLL_S = 0.02
STOP_S = 10.0
NEEDS = "lerobot, numpy, msgspec and pyzmq"


class Bridge:
    """The bridge's process and its folder, which lives as long as this object."""

    def __init__(self, kind: str, config: LeRobotConfig | LeRobotTeleopConfig) -> None:
        self.kind, self.config = kind, config
        self._home = Path(tempfile.mkdtemp(prefix="user-rl-lerobot-"))
        (self._home / "config.json").write_bytes(msgspec.json.encode(config))
        _link_packages(self._home / "path")
        self._users, self._process = 0, _Process()
        self._finalizer = weakref.finalize(self, _clear, self._process, self._home)

    @property
    def remote(self) -> RemoteConfig:
        """How to reach it."""
        config = self.config
        return RemoteConfig(invitation=str(self._home / INVITATION), deadline_s=config.deadline_s, open_s=config.open_s)

    def start(self) -> None:
        """Starts it, if it does not run, and waits until it serves; raises ConfigError with its last line."""
        if self._process.runs():
            return
        (self._home / INVITATION).unlink(missing_ok=True)
        command = [self.config.python, "-P", "-m", "hal.lerobot.bridge", self.kind, str(self._home)]
        try:
            self._process.start([*command, "--parent", str(os.getpid())], self._home)
        except OSError as error:
            raise ConfigError(f"python = {self.config.python}: {error.strerror}; give LeRobot's interpreter") from error
        clock = SystemClock()
        until_s = clock.now_s() + self.config.start_s
        while not (self._home / INVITATION).exists():
            if not self._process.runs():
                why = self._last_line()
                needs = f"; {self.config.python} needs {NEEDS}" if "No module named" in why else ""
                raise ConfigError(f"{self} does not start: {why}{needs}")
            if clock.now_s() > until_s:
                self._process.stop()
                raise RobotUnreachable(f"{self} is not there after {self.config.start_s:.3g} s: {self._last_line()}")
            clock.sleep_until(clock.now_s() + POLL_S)

    def use(self) -> None:
        """One more uses it."""
        self.start()
        self._users += 1

    def leave(self) -> None:
        """One less; nobody: it ends."""
        self._users = max(0, self._users - 1)
        if self._users == 0:
            self._process.stop()

    def explain(self, call: Callable[[], T]) -> T:
        """What `call` returns; when it fails and the bridge has ended, the error says why that was."""
        try:
            return call()
        except HardwareError as error:
            if self._users == 0 or self._process.runs():
                raise
            raise RobotUnreachable(f"{self} has ended: {self._last_line()}") from error

    def __str__(self) -> str:
        return f"the bridge to LeRobot's {self.config.type}"

    def _last_line(self) -> str:
        lines = (self._home / "log").read_text(errors="replace").split("\n")
        return next((line.strip() for line in reversed(lines) if line.strip()), "it said nothing")


class _Process:
    """The child; apart from Bridge, so that it can be ended when that is gone."""

    def __init__(self) -> None:
        self._child: subprocess.Popen[bytes] | None = None

    def runs(self) -> bool:
        return self._child is not None and self._child.poll() is None

    def start(self, command: list[str], home: Path) -> None:
        kept = {key: value for key, value in os.environ.items() if key not in ("PYTHONHOME", "VIRTUAL_ENV")}
        with (home / "log").open("wb") as file:
            self._child = subprocess.Popen(
                command, env=kept | {"PYTHONPATH": str(home / "path")}, cwd=home, stdin=subprocess.DEVNULL,
                stdout=file, stderr=file,
            )  # fmt: skip

    def stop(self) -> None:
        if self._child is None:
            return
        self._child.terminate()
        try:
            self._child.wait(STOP_S)
        except subprocess.TimeoutExpired:
            self._child.kill()
            self._child.wait()


class LeRobotRobot:
    """See hal.robot.Robot."""

    def __init__(self, config: LeRobotConfig, *, clock: Clock) -> None:
        self.bridge, self._clock = Bridge("robot", config), clock
        self.bridge.start()
        self._remote = RemoteRobot(self.bridge.remote, clock=clock)
        self._is_open = False

    @property
    def spec(self) -> RobotSpec:
        return self._remote.spec

    def camera(self, config: LeRobotCameraConfig, name: str) -> "LeRobotCamera":
        """The camera of the robot that `config` names, as camera `name` here."""
        return LeRobotCamera(self.bridge, config.key or name, name=name, clock=self._clock)

    def open(self) -> None:
        self.bridge.use()
        self._is_open = True
        self.bridge.explain(self._remote.open)

    def read(self) -> RobotState:
        return self.bridge.explain(self._remote.read)

    def command(self, target: Array) -> Array:
        return self.bridge.explain(lambda: self._remote.command(target))

    def halt(self) -> None:
        self._remote.halt()

    def close(self) -> None:
        self._remote.close()
        if self._is_open:
            self._is_open = False
            self.bridge.leave()


class LeRobotCamera:
    """See hal.camera.Camera."""

    def __init__(self, bridge: Bridge, key: str, *, name: str, clock: Clock) -> None:
        self._bridge = bridge
        config = bridge.remote
        part = RemoteConfig(
            invitation=config.invitation, part=f"cameras.{key}", deadline_s=config.deadline_s, open_s=config.open_s
        )
        bridge.start()
        self._remote = RemoteCamera(part, name=name, clock=clock)
        self._is_open = False

    @property
    def spec(self) -> Image:
        return self._remote.spec

    def open(self) -> None:
        self._bridge.use()
        self._is_open = True
        self._bridge.explain(self._remote.open)

    def read(self) -> Frame:
        return self._bridge.explain(self._remote.read)

    def close(self) -> None:
        self._remote.close()
        if self._is_open:
            self._is_open = False
            self._bridge.leave()


class LeRobotTeleop:
    """See hal.teleop.Teleop."""

    def __init__(self, config: LeRobotTeleopConfig, *, clock: Clock) -> None:
        self._bridge = Bridge("teleop", config)
        self._bridge.start()
        self._remote = RemoteTeleop(self._bridge.remote, clock=clock)
        self._is_open = False

    @property
    def action(self) -> Box:
        return self._remote.action

    def open(self) -> None:
        self._bridge.use()
        self._is_open = True
        self._bridge.explain(self._remote.open)

    def begin(self, *, demonstrate: bool) -> None:
        self._bridge.explain(lambda: self._remote.begin(demonstrate=demonstrate))

    def poll(self) -> TeleopReading:
        return self._bridge.explain(self._remote.poll)

    def close(self) -> None:
        self._remote.close()
        if self._is_open:
            self._is_open = False
            self._bridge.leave()


def _link_packages(folder: Path) -> None:
    """A folder through which another environment sees our two packages, and nothing of ours beside them."""
    folder.mkdir()
    for package in (hal, user_rl):
        (folder / package.__name__).symlink_to(Path(package.__file__ or "").parent)


def _clear(process: _Process, home: Path) -> None:
    process.stop()
    shutil.rmtree(home, ignore_errors=True)
