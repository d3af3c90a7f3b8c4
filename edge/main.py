"""user-rl-edge: the daemon on a robot's controller, and the evaluation of weights on its cell.

user-rl-edge run [--config FILE.json] [KEY=VALUE ...]
user-rl-edge eval --weights FOLDER --episodes N --seed S [--json FILE] [--config FILE.json] [KEY=VALUE ...]
user-rl-edge join FILE [--out BUNDLE]
user-rl-edge clear --home FOLDER [--yes]
user-rl-edge timings --home FOLDER [--json] [--last N]
user-rl-edge status [--home FOLDER] [--json]
user-rl-edge unit [--user NAME] [--install [--yes]] --config FILE.json
user-rl-edge tunnel --learn-host [--config FILE.json] [KEY=VALUE ...]
user-rl-edge discover [--json] [--config FILE.json] [KEY=VALUE ...]
user-rl-edge doctor [--json] [--move] [--config FILE.json] [KEY=VALUE ...]
"""

import argparse
import json
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path

import edge.daemon
from edge import status_command, unit_command
from edge.config import EdgeConfig
from edge.doctor.config import DoctorConfig
from edge.fault import CLEARED, clear, read_fault
from edge.join import add_join, run_join
from edge.process import Exit, StopFlag, become_child, set_up_logging
from edge.table import terminal_width
from edge.timings_command import timings_arguments, timings_text
from user_rl.config import Tree, build, compose, defaults
from user_rl.errors import ConfigError, UserRlError
from user_rl.tunnels.ssh import SshConfig

CELL_KEYS = ("robot", "task", "cameras", "teleop", "guard", "layout")
GROUPS = ({"robot": "panda_sim"}, {"task": "peg_insertion"}, {"cameras": "none"}, {"teleop": "none"})
BAR = 30  # characters
DISCOVERY_S = 5.0
COMMANDS = {
    "run": "run the daemon until SIGTERM or ^C",
    "eval": "evaluate a weight version",
    "discover": "what hardware this controller has and reaches",
    "tunnel": "let a person confirm the jump host's key (--learn-host)",
    "doctor": "check a real cell before it runs, and say what to fix",
}


def main(argv: list[str] | None = None) -> int:
    """The command line; returns an `Exit`."""
    args = _parser().parse_args(argv)
    set_up_logging("halt" if args.command == "run" else args.command)
    if args.command == "run" and args.parent:
        become_child(args.parent)
    try:
        if args.command in WITHOUT_A_TREE:
            return WITHOUT_A_TREE[args.command](args)
        return OF_A_TREE[args.command](args, configuration(args.config, args.overrides))
    except UserRlError as error:
        print(f"user-rl-edge: {error}", file=sys.stderr)
        return Exit.CONFIG if isinstance(error, ConfigError) else Exit.CRASH


def configuration(file: Path | None, overrides: list[str]) -> Tree:
    """The whole tree: of `file`, else of the defaults, with the overrides over it; raises ConfigError."""
    if file is None:
        from hal.make import cell_store

        root: Tree = {**defaults(EdgeConfig), "defaults": ["_self_", *GROUPS]}
        tree = compose("edge", overrides, store={**cell_store(overrides), "": {"edge": root}}, package="configs")
        return {key: value for key, value in tree.items() if value != "???"}  # not set: `build` names it
    try:
        tree = json.loads(file.read_text())
    except (OSError, ValueError) as error:
        raise ConfigError(f"--config {file}: {error}; give a JSON file that holds one tree of keys") from error
    if not isinstance(tree, dict):
        raise ConfigError(f"--config {file} holds a {type(tree).__name__}, allowed one tree of keys")
    return compose("file", overrides, store={"": {"file": tree}}, package="configs") if overrides else tree


def _clear(args: argparse.Namespace) -> int:
    root: Path = args.home.expanduser()
    fault = read_fault(root)
    print(f"{root}: {fault or 'no fault is latched'}")
    if fault is None:
        return Exit.CLEAN
    if not args.yes and not _sure("The robot is opened again and may move. Have you looked at it? [y/N] "):
        print("nothing was cleared")
        return Exit.FAULT
    clear(root)
    print(f"cleared; it is written down in {root / CLEARED}")
    return Exit.CLEAN


def _timings(args: argparse.Namespace) -> int:
    print(timings_text(args))
    return Exit.CLEAN


def _asked(question: str) -> str:
    if not sys.stdin.isatty():
        raise ConfigError("this asks a person, and there is no terminal; look at what it does, then add --yes")
    return input(question)


def _join(args: argparse.Namespace) -> int:
    print(run_join(args))
    return Exit.CLEAN


def _status(args: argparse.Namespace) -> int:
    return status_command.run_status(args, say=print)


def _unit(args: argparse.Namespace) -> int:
    ask = None if args.yes else _asked
    return unit_command.run_unit(args, configuration(args.config, []), ask=ask, say=print)


def _run(args: argparse.Namespace, tree: Tree) -> int:
    return edge.daemon.run(tree, stopping=StopFlag(signal.SIGTERM, signal.SIGINT))


def _sure(question: str) -> bool:
    if not sys.stdin.isatty():
        raise ConfigError("clear asks a person, and there is no terminal; look at the robot, then add --yes")
    return input(question).strip().lower() in ("y", "yes")


def _learn_host(_args: argparse.Namespace, tree: Tree) -> int:
    from user_rl.tunnels.learning import learn_host

    ssh = build(SshConfig, tree.get("tunnel", {}).get("ssh", {}), "tunnel.ssh.")
    return Exit.CLEAN if learn_host(ssh.via, ssh.known_hosts, ask=input, say=print) else Exit.CONFIG


def _evaluate(args: argparse.Namespace, tree: Tree) -> int:
    from edge.evaluate import evaluate
    from hal.make import CellConfig

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
    from edge.discover import as_json, as_text, look

    tree = configuration(args.config, args.overrides) if args.config or args.overrides else {}
    findings = look(tree, deadline_s=args.deadline_s)
    print(as_json(findings) if args.json else as_text(findings, width=terminal_width()))
    return Exit.CLEAN


def _doctor(args: argparse.Namespace, tree: Tree) -> int:
    from edge.doctor.diagnosis import as_json, as_text, failed
    from edge.doctor.visit import visit

    began_s = time.monotonic()
    rows = visit(tree, DoctorConfig(move=args.move, for_s=args.for_s, deadline_s=args.deadline_s))
    took_s = time.monotonic() - began_s
    print(as_json(rows, took_s) if args.json else as_text(rows, took_s, width=terminal_width()))
    return Exit.CRASH if failed(rows) else Exit.CLEAN


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
        elif name == "tunnel":
            command.add_argument("--learn-host", action="store_true", required=True, help="show it, ask, write it down")
        elif name == "discover":
            _discovery_arguments(command)
        elif name == "doctor":
            _doctor_arguments(command)
        else:
            command.add_argument("--parent", type=int, metavar="PID", help="stop when this process, its parent, ends")
    add_join(commands)
    status_command.add_status(commands)
    unit_command.add_unit(commands)
    cleared = commands.add_parser("clear", help="clear a latched fault, by the person who has looked at the robot")
    cleared.add_argument("--home", type=Path, required=True, help="the folder that the daemon has")
    cleared.add_argument("--yes", action="store_true", help="do not ask")
    timings_arguments(commands.add_parser("timings", help="where the time of its steps went, and how late they began"))
    return parser


def _discovery_arguments(command: argparse.ArgumentParser) -> None:
    command.add_argument("--json", action="store_true", help="as one JSON object")
    command.add_argument("--deadline-s", type=float, default=DISCOVERY_S, help="of each probe (%(default)s)")


def _doctor_arguments(command: argparse.ArgumentParser) -> None:
    command.add_argument("--json", action="store_true", help="as one JSON object")
    command.add_argument("--move", action="store_true", help="move one axis by the smallest size that it answers to")
    command.add_argument("--for-s", type=float, default=DoctorConfig.for_s, help="of measuring a part (%(default)s)")
    command.add_argument("--deadline-s", type=float, default=DoctorConfig.deadline_s, help="of a stage (%(default)s)")


def _evaluation_arguments(command: argparse.ArgumentParser) -> None:
    command.add_argument("--weights", type=Path, required=True, help="the folder of a version")
    command.add_argument("--episodes", type=int, default=50)
    command.add_argument("--seed", type=int, default=0)
    command.add_argument("--json", type=Path, help="where to write the result; else it is printed")
    command.add_argument("--record", type=Path, metavar="FOLDER", help="a new log, for the rows of the first episodes")
    command.add_argument("--recorded", type=int, default=1, help="how many of them (default: %(default)s)")


WITHOUT_A_TREE: dict[str, Callable[[argparse.Namespace], int]] = {
    "clear": _clear, "discover": _discover, "join": _join, "status": _status, "timings": _timings, "unit": _unit,
}  # fmt: skip
OF_A_TREE: dict[str, Callable[[argparse.Namespace, Tree], int]] = {
    "doctor": _doctor, "eval": _evaluate, "run": _run, "tunnel": _learn_host,
}  # fmt: skip


if __name__ == "__main__":
    sys.exit(main())
