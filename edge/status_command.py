"""The command line of `user-rl-edge status`.

Exit status: 0 well, 1 something is wrong (each in a line of its own), 3 the daemon does not run.
"""

import argparse
import os
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

if TYPE_CHECKING:
    from edge.status import Look


def add_status(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Its arguments."""
    parser = commands.add_parser("status", help="what the daemon is doing now; exit status 1: trouble, 3: not running")
    parser.add_argument("--home", type=Path, default=Path("~/edge"), help="the daemon's folder (default: %(default)s)")
    parser.add_argument("--json", action="store_true", help="for programs")


def run_status(args: argparse.Namespace, *, say: Callable[[str], None]) -> int:
    """Shows it; returns the exit status."""
    from edge.status import look  # these need the log, and `run`, whose parser this is too, starts at once
    from edge.status_view import as_text

    found = look(args.home.expanduser(), now_s=time.monotonic())
    colour = sys.stdout.isatty() and "NO_COLOR" not in os.environ
    say(as_json(found) if args.json else as_text(found, colour=colour))
    return found.code


def as_json(found: "Look") -> str:
    """One JSON object, for programs."""
    return msgspec.json.format(msgspec.json.encode(msgspec.to_builtins(found) | {"exit": found.code})).decode()
