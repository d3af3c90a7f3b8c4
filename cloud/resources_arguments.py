"""The arguments of `user-rl resources`; nothing heavy is imported here."""

import argparse
from pathlib import Path

Parser = argparse.ArgumentParser


def add_resources(commands: "argparse._SubParsersAction[Parser]", *, home: str) -> Parser:
    """`resources`, `resources quarantine ID`, `resources admit ID`."""
    parser = commands.add_parser("resources", help="the fleet's robots and accelerators: state, health, who has them")
    parser.add_argument("--json", action="store_true", help="for programs")
    parser.add_argument("--watch", action="store_true", help="go on until interrupted")
    parser.set_defaults(action="show")
    actions = parser.add_subparsers(metavar="ACTION")
    take = actions.add_parser("quarantine", help="take something out of use; a lease on a cell ends at once")
    take.add_argument("--reason", default="", help="what others should know")
    admit = actions.add_parser("admit", help="bring something back from quarantine")
    for name, action in (("quarantine", take), ("admit", admit)):
        action.add_argument("id", nargs="+", metavar="ID", help="a cell's name or an accelerator's id")
        action.set_defaults(action=name)
        _add_whose(action, home=argparse.SUPPRESS, bundle=argparse.SUPPRESS)
    _add_whose(parser, home=home, bundle=None)
    return parser


def _add_whose(parser: Parser, *, home: str, bundle: str | None) -> None:
    parser.add_argument("--home", default=home, help="keys, to ask the fleet of this machine with")
    parser.add_argument("--bundle", type=Path, default=bundle, help="an admin's or a run's, to ask any fleet with")
