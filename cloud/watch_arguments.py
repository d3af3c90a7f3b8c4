"""The arguments of `user-rl watch`."""

import argparse


def add_watch(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> argparse.ArgumentParser:
    """Adds the command."""
    watch = commands.add_parser("watch", help="what a run's robots do now: state, link, pictures; ends with Ctrl-C")
    watch.add_argument("run")
    watch.add_argument("cell", nargs="?", help="only this one, with larger pictures")
    watch.add_argument("--runs", default="runs", help="folder of the runs (default: %(default)s)")
    watch.add_argument("--once", action="store_true", help="show it once")
    watch.add_argument("--json", action="store_true", help="once, for programs")
    return watch
