"""hal.serve: serves a robot, cameras or a teleop to one client at a time, here or on another machine.

python -m hal.serve home=FOLDER [address=tcp://HOST:PORT] [robot=NAME] [cameras=NAME] [teleop=NAME] [KEY=VALUE ...]

FOLDER/invitation.json lets the client in: `robot=remote robot.invitation=FOLDER/invitation.json`. On one machine the
address may be left out: it is then a socket inside FOLDER, which only its owner may enter.
"""

import logging
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from hal.driver import Parts
from hal.make import cell_store
from hal.remote.door import Door
from hal.remote.parts import CameraPart, Part, RobotPart, TeleopPart
from hal.remote.server import Server, ServerConfig
from hal.remote.watch import Pulse, watch
from hal.robot import OnSilence, Robot
from hal.tables.cameras import make_camera
from hal.tables.robots import make_robot
from hal.tables.teleops import make_teleop
from user_rl.clock import Clock, SystemClock
from user_rl.config import Tree, build, compose, defaults
from user_rl.errors import ConfigError, UserRlError
from user_rl.process import StopFlag, set_up_logging

log = logging.getLogger(__name__)

GROUPS = ({"robot": "none"}, {"cameras": "none"}, {"teleop": "none"})
CLEAN, CRASH, CONFIG = 0, 1, 2


@dataclass(frozen=True, kw_only=True)
class ServeConfig:
    """What is served, and where."""

    home: str  # folder of this server alone: keys, invitation
    address: str = ""  # tcp://HOST:PORT; empty: a socket inside home
    robot: dict[str, Any] = field(default_factory=dict)
    cameras: dict[str, dict[str, Any]] = field(default_factory=dict)
    teleop: dict[str, Any] = field(default_factory=dict)
    server: ServerConfig = field(default_factory=ServerConfig)
    seed: int = 0  # of what is simulated
    allow_no_silence_stop: bool = False  # serve a robot that nothing stops when this process is killed


def main(argv: list[str] | None = None) -> int:
    """The command line; returns 0, 2 when the configuration is to be changed, else 1."""
    set_up_logging("serve")
    overrides = sys.argv[1:] if argv is None else argv
    return watch(lambda pulse, stopping: _serve(overrides, pulse, stopping))


def _serve(overrides: list[str], pulse: Pulse, stopping: StopFlag) -> int:
    try:
        config = configuration(overrides)
        serve(config, pulse, stopping)
    except UserRlError as error:
        log.error("%s", error)
        return CONFIG if isinstance(error, ConfigError) else CRASH
    return CLEAN


def configuration(overrides: list[str]) -> ServeConfig:
    """What the overrides make of the defaults; raises ConfigError."""
    root: Tree = {**defaults(ServeConfig), "defaults": ["_self_", *GROUPS]}
    nodes = cell_store(overrides)
    store = {group: {"none": {}, **nodes[group]} for group in ("robot", "cameras", "teleop")}
    tree = compose("serve", overrides, store={**store, "": {"serve": root}}, package="configs")
    return build(ServeConfig, {key: value for key, value in tree.items() if value != "???"})


def serve(config: ServeConfig, pulse: Pulse, stopping: StopFlag) -> None:
    """Serves until told to stop."""
    clock = SystemClock()
    door = Door(Path(config.home).expanduser().absolute())
    try:
        parts = make_parts(config, clock, pulse)
        server = Server(parts, door, address=config.address, config=config.server, clock=clock, promise=pulse.promise)
        invitation = door.invite(server.address)
        log.info("%s at %s; the invitation is %s", ", ".join(parts), server.address, invitation)
        server.run(stopping)
    finally:
        door.close()


def make_parts(config: ServeConfig, clock: Clock, pulse: Pulse) -> dict[str, Part]:
    """What is served, by name; tells the watch how the robot is halted without this process."""
    robot = make_robot(config.robot, Parts(clock=clock, seed=config.seed)) if config.robot else None
    made = Parts(clock=clock, seed=config.seed, robot=robot)
    parts: dict[str, Part] = {}
    if robot is not None:
        check_silence(robot, config)
        pulse.name(robot.spec.halt_command)
        parts["robot"] = RobotPart(robot)
    for name, tree in config.cameras.items():
        parts[f"cameras.{name}"] = CameraPart(make_camera(name, tree, made))
    if config.teleop:
        parts["teleop"] = TeleopPart(make_teleop(config.teleop, made))
    if not parts:
        raise ConfigError("nothing to serve; give robot=NAME, cameras=NAME or teleop=NAME")
    return parts


def check_silence(robot: Robot, config: ServeConfig) -> None:
    """Refuses a robot that goes on moving when this process is killed, unless the configuration says it is known."""
    if robot.spec.on_silence is OnSilence.NONE and not config.allow_no_silence_stop:
        raise ConfigError(
            f"{robot.spec.model} goes on moving when its process is killed (on_silence = none), allowed stops or "
            "out_of_band; set allow_no_silence_stop=true beside an emergency stop within reach"
        )


if __name__ == "__main__":
    sys.exit(main())
