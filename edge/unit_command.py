"""The command line of `user-rl-edge unit`."""

import argparse
from collections.abc import Callable
from pathlib import Path

from edge.config import EdgeConfig
from edge.process import Exit
from edge.unit import install, make_unit
from user_rl.config import Tree, build


def add_unit(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Its arguments."""
    parser = commands.add_parser("unit", help="the daemon as a systemd service: printed, or with --install written")
    parser.add_argument("--config", type=Path, required=True, help="a JSON file with the whole configuration")
    parser.add_argument("--user", default="", metavar="NAME", help="whose account runs it (default: this one)")
    parser.add_argument("--install", action="store_true", help="write it into /etc/systemd/system, as root")
    parser.add_argument("--yes", action="store_true", help="do not ask")


def run_unit(
    args: argparse.Namespace, tree: Tree, *, ask: Callable[[str], str] | None, say: Callable[[str], None]
) -> int:
    """Prints the unit, or installs it; returns an `Exit`."""
    unit = make_unit(build(EdgeConfig, tree), args.config, user=args.user)
    if not args.install:
        say(unit.text.rstrip("\n"))
        return Exit.CLEAN
    path = install(unit, ask=ask)
    if path is None:
        say("nothing was written")
        return Exit.CRASH
    say(f"{path} is written; then: systemctl daemon-reload && systemctl enable --now {unit.name}")
    return Exit.CLEAN
