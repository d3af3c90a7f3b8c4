"""The bridge: `python -m hal.lerobot.bridge`, started by hal.lerobot.driver with LeRobot's own interpreter.

It makes one robot (with its cameras) or one teleoperator and serves it like any other part (`hal.remote.server`).
"""

import argparse
import json
import logging
import sys
from pathlib import Path
from typing import Any

from hal.lerobot import library
from hal.lerobot.config import LeRobotConfig, LeRobotTeleopConfig
from hal.lerobot.devices import Arm, Hand, Source, make_cameras
from hal.remote.door import Door
from hal.remote.parts import CameraPart, Part, RobotPart, TeleopPart
from hal.remote.server import Server
from user_rl.clock import Clock, SystemClock
from user_rl.config import build
from user_rl.errors import UserRlError
from user_rl.process import StopFlag, become_child, set_up_logging

log = logging.getLogger(__name__)


def main(argv: list[str] | None = None) -> int:
    """Serves until its parent ends it; the last line on stderr says why it could not."""
    parser = argparse.ArgumentParser(prog="python -m hal.lerobot.bridge")
    parser.add_argument("kind", choices=["robot", "teleop"])
    parser.add_argument("home", type=Path, help="the folder with config.json, and of the server")
    parser.add_argument("--parent", type=int, required=True, help="process id of the driver")
    args = parser.parse_args(argv)
    set_up_logging("lerobot")
    stopping = StopFlag()
    become_child(args.parent)
    try:
        serve(args.kind, args.home, stopping)
    except UserRlError as error:
        log.error("%s", error)
        return 2
    return 0


def serve(kind: str, home: Path, stopping: StopFlag) -> None:
    """Makes the device, says where it is, and serves it."""
    clock = SystemClock()
    parts = make_parts(kind, json.loads((home / "config.json").read_text()), clock)
    door = Door(home)
    try:
        server = Server(parts, door, clock=clock)
        door.invite(server.address)
        log.info("LeRobot %s serves %s", library.version(), ", ".join(parts))
        server.run(stopping)
    finally:
        door.close()


def make_parts(kind: str, tree: dict[str, Any], clock: Clock) -> dict[str, Part]:
    """The robot and its cameras, or the teleoperator; raises ConfigError."""
    if kind == "teleop":
        hand = build(LeRobotTeleopConfig, tree)
        return {"teleop": TeleopPart(Hand(library.make_teleoperator(hand.type, hand.options), hand, clock))}
    config = build(LeRobotConfig, tree)
    source = Source(library.make_robot(config.type, config.options), clock)
    cameras = {f"cameras.{key}": CameraPart(camera) for key, camera in make_cameras(source).items()}
    return {"robot": RobotPart(Arm(source, config)), **cameras}


if __name__ == "__main__":
    sys.exit(main())
