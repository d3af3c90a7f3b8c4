"""The arguments of `user-rl buffer inspect`, `verify` and `compact`; nothing heavy is imported here."""

import argparse
from pathlib import Path


def add_inspect(actions: "argparse._SubParsersAction[argparse.ArgumentParser]") -> argparse.ArgumentParser:
    """The arguments of `user-rl buffer inspect`."""
    inspect = actions.add_parser("inspect", help="segments, streams, gaps, pins and what is gone")
    _add_log(inspect)
    inspect.add_argument("--plot", type=Path, metavar="FILE.png", help="draw every stream's episodes")
    return inspect


def add_verify(actions: "argparse._SubParsersAction[argparse.ArgumentParser]") -> argparse.ArgumentParser:
    """The arguments of `user-rl buffer verify`."""
    verify = actions.add_parser("verify", help="hold every byte against what was written; exit status 1: damage")
    _add_log(verify)
    verify.add_argument("--quarantine", action="store_true", help="set damaged segments aside; no writer may be there")
    verify.add_argument(
        "--unsealed",
        action="store_true",
        help="with --quarantine: also one that is still written, with its newest rows",
    )
    return verify


def add_compact(actions: "argparse._SubParsersAction[argparse.ArgumentParser]") -> argparse.ArgumentParser:
    """The arguments of `user-rl buffer compact`."""
    compact = actions.add_parser("compact", help="few large chunks out of many small ones; the run must stand still")
    _add_log(compact)
    return compact


def _add_log(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("run", help="a run's name, or the folder of a run or a log")
    parser.add_argument("--runs", default="runs", help="folder of the runs (default: %(default)s)")
    parser.add_argument("--json", action="store_true", help="for programs")
