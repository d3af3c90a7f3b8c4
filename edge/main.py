"""user-rl-edge: the daemon on a robot's controller, and the evaluation of weights on its cell.

user-rl-edge run [--config FILE.json] [KEY=VALUE ...]
user-rl-edge eval --weights FOLDER --episodes N --seed S [--json FILE] [--config FILE.json] [KEY=VALUE ...]
user-rl-edge discover [--json] [--config FILE.json] [KEY=VALUE ...]
user-rl-edge doctor [--json] [--move] [--config FILE.json] [KEY=VALUE ...]
"""

import argparse
import json
import signal
import sys
from pathlib import Path

import edge.daemon
import edge.discover
from edge.config import EdgeConfig
from edge.process import Exit, StopFlag, become_child, set_up_logging
from edge.table import terminal_width
from hal.discovery import DEADLINE_S
from hal.make import STORE as CELL_STORE
from hal.make import CellConfig
from user_rl.config import Tree, build, compose, defaults
from user_rl.errors import ConfigError, UserRlError

CELL_KEYS = ("robot", "task", "cameras", "teleop", "guard")
GROUPS = ({"robot": "panda_sim"}, {"task": "peg_insertion"}, {"cameras": "none"}, {"teleop": "none"})
BAR = 30  # characters
COMMANDS = {
    "run": "run the daemon until SIGTERM or ^C",
    "eval": "evaluate a weight version",
    "discover": "what hardware this controller has and reaches",
}


def main(argv: list[str] | None = None) -> int:
    """The command line; returns an `Exit`."""
    args = _parser().parse_args(argv)
    set_up_logging("halt" if args.command == "run" else args.command)
    if args.command == "run" and args.parent:
        become_child(args.parent)
    try:
        if args.command == "discover":
            return _discover(args)
        tree = configuration(args.config, args.overrides)
        if args.command == "run":
            return edge.daemon.run(tree, stopping=StopFlag(signal.SIGTERM, signal.SIGINT))
        return _evaluate(args, tree)
    except UserRlError as error:
        print(f"user-rl-edge: {error}", file=sys.stderr)
        return Exit.CONFIG if isinstance(error, ConfigError) else Exit.CRASH


def configuration(file: Path | None, overrides: list[str]) -> Tree:
    """The whole tree: of `file`, else of the defaults, with the overrides over it; raises ConfigError."""
    if file is None:
        root: Tree = {**defaults(EdgeConfig), "defaults": ["_self_", *GROUPS]}
        tree = compose("edge", overrides, store={**CELL_STORE, "": {"edge": root}}, package="configs")
        return {key: value for key, value in tree.items() if value != "???"}  # not set: `build` names it
    try:
        tree = json.loads(file.read_text())
    except (OSError, ValueError) as error:
        raise ConfigError(f"--config {file}: {error}; give a JSON file that holds one tree of keys") from error
    if not isinstance(tree, dict):
        raise ConfigError(f"--config {file} holds a {type(tree).__name__}, allowed one tree of keys")
    return compose("file", overrides, store={"": {"file": tree}}, package="configs") if overrides else tree


def _evaluate(args: argparse.Namespace, tree: Tree) -> int:
    from edge.evaluate import evaluate

    config = build(CellConfig, {key: tree[key] for key in CELL_KEYS if key in tree})
    result = evaluate(
        config, args.weights, episodes=args.episodes, seed=args.seed, progress=_progress, record=args.record,
        recorded=args.recorded,
    )  # fmt: skip
    text = json.dumps(result)
    if args.json is None:
        print(text)
    else:
        args.json.write_text(text + "\n")
    return Exit.CLEAN


def _discover(args: argparse.Namespace) -> int:
    tree = configuration(args.config, args.overrides) if args.config or args.overrides else {}
    findings = edge.discover.look(tree, deadline_s=args.deadline_s)
    print(edge.discover.as_json(findings) if args.json else edge.discover.as_text(findings, width=terminal_width()))
    return Exit.CLEAN


def _progress(done: int, episodes: int, success_rate: float) -> None:
    if sys.stderr.isatty():
        bar = "█" * (BAR * done // episodes)
        end = "\n" if done == episodes else ""
        print(f"\r{bar:░<{BAR}} {done}/{episodes} success {success_rate:.0%}", end=end, file=sys.stderr, flush=True)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="user-rl-edge", description=__doc__.splitlines()[0])
    commands = parser.add_subparsers(dest="command", required=True)
    for name, what in COMMANDS.items():
        command = commands.add_parser(name, help=what)
        command.add_argument("--config", type=Path, help="a JSON file with the whole configuration")
        command.add_argument("overrides", nargs="*", metavar="KEY=VALUE")
        if name == "eval":
            _evaluation_arguments(command)
        elif name == "discover":
            _discovery_arguments(command)
        else:
            command.add_argument("--parent", type=int, metavar="PID", help="stop when this process, its parent, ends")
    return parser


def _discovery_arguments(command: argparse.ArgumentParser) -> None:
    command.add_argument("--json", action="store_true", help="as one JSON object")
    command.add_argument("--deadline-s", type=float, default=DEADLINE_S, help="of each probe (default: %(default)s)")


def _evaluation_arguments(command: argparse.ArgumentParser) -> None:
    command.add_argument("--weights", type=Path, required=True, help="the folder of a version")
    command.add_argument("--episodes", type=int, default=50)
    command.add_argument("--seed", type=int, default=0)
    command.add_argument("--json", type=Path, help="where to write the result; else it is printed")
    command.add_argument("--record", type=Path, metavar="FOLDER", help="a new log, for the rows of the first episodes")
    command.add_argument("--recorded", type=int, default=1, help="how many of them (default: %(default)s)")


if __name__ == "__main__":
    sys.exit(main())
