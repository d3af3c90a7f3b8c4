"""The arguments of `user-rl estop`; nothing heavy is imported here."""

import argparse
from pathlib import Path

Parser = argparse.ArgumentParser
WAIT_S = 3.0


def add_estop(commands: "argparse._SubParsersAction[Parser]", *, home: str) -> Parser:
    """`estop ROBOT ...` or `estop --all`."""
    parser = commands.add_parser("estop", help="halt robots now; never in place of their emergency stop buttons")
    which = parser.add_mutually_exclusive_group(required=True)
    which.add_argument("robot", nargs="*", default=[], metavar="ROBOT", help="cells by name")
    which.add_argument("--all", action="store_true", help="every robot of the fleet")
    parser.add_argument("--reason", default="", help="what others should know; it is written down with the fault")
    parser.add_argument("--wait-s", type=float, default=WAIT_S, help="for confirmations (default: %(default)s)")
    parser.add_argument("--json", action="store_true", help="for programs")
    parser.add_argument("--home", default=home, help="keys, to ask the fleet of this machine with")
    parser.add_argument("--bundle", type=Path, help="an admin's or a run's, to ask any fleet with")
    return parser
