"""The arguments of `user-rl weights list`, `rollback` and `release`; nothing heavy is imported here."""

import argparse

Parser = argparse.ArgumentParser


def add_weights(commands: "argparse._SubParsersAction[Parser]") -> Parser:
    """`weights list RUN`, `weights rollback RUN N`, `weights release RUN`."""
    parser = commands.add_parser("weights", help="the versions of a run: which there are, and going back to one")
    actions = parser.add_subparsers(dest="action", required=True, metavar="ACTION")
    list_ = actions.add_parser("list", help="which versions there are, and which one edges are offered")
    rollback = actions.add_parser(
        "rollback", help="publish version N's content again and offer nothing else until it is released"
    )
    release = actions.add_parser("release", help="end a rollback: the newest version is offered again")
    for action in (list_, rollback, release):
        action.add_argument("run", help="its name")
        if action is rollback:
            action.add_argument("number", type=int, metavar="N", help="a version of user-rl weights list")
        action.add_argument("--runs", default="runs", help="folder of the runs (default: %(default)s)")
        action.add_argument("--json", action="store_true", help="for programs")
    return parser
