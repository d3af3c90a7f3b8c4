"""Where a robot is: its configured address, or the environment variable ROBOT_IP, and whether anybody answers there."""

import os
import socket

from user_rl.errors import ConfigError, RobotUnreachable

VARIABLE = "ROBOT_IP"


def robot_address(host: str, name: str) -> str:
    """`host`, else what the environment says; raises ConfigError when neither does."""
    found = host or os.environ.get(VARIABLE, "")
    if not found:
        raise ConfigError(
            f"robot.host = {host!r}, allowed the address of the {name}; give robot.host=ADDRESS or set {VARIABLE}"
        )
    return found


def check_answers(host: str, port: int, name: str, *, timeout_s: float, question: bytes = b"") -> None:
    """Raises RobotUnreachable when nobody listens, or answers the `question`: vendors' own waits may have no end."""
    try:
        with socket.create_connection((host, port), timeout=timeout_s) as connection:
            if question:
                connection.sendall(question)
                if not connection.recv(1):
                    raise ConnectionResetError("it hung up")
    except OSError as error:
        raise RobotUnreachable(
            f"no {name} at {host}, port {port}: {error}; look at its power, the cable and robot.host"
        ) from error
