"""user-rl: the cloud's command line. The only module of this package that prints and that sets logging up."""

import argparse
import dataclasses
import json
import logging
import sys
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

from rich.console import Console

from cloud.estop_arguments import add_estop
from cloud.inference.arguments import add_serve
from cloud.resources_arguments import add_resources
from cloud.trust_arguments import add_trust
from cloud.tunnel_arguments import add_tunnel
from cloud.watch_arguments import add_watch
from cloud.weights_arguments import add_weights
from user_rl.errors import UserRlError

HOME = "~/.user-rl"
PIPED_WIDTH = 160  # of a table that no terminal shows: nothing in it is folded


def main(argv: Sequence[str] | None = None) -> int:
    """Runs one command; an error of ours ends in one line and exit status 1."""
    args = _parser().parse_args(argv)
    logging.basicConfig(level=logging.WARNING, format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    try:
        status: int = args.command(args)
    except UserRlError as error:
        print(f"user-rl: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130
    return status


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="user-rl", description="Robots learn in the real world.")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    launch = commands.add_parser("launch", help="start a run, or go on with it: run=NAME experiment=NAME key=value ...")
    launch.add_argument("overrides", nargs="*", metavar="key=value")
    launch.set_defaults(command=_launch)
    resume = commands.add_parser("resume", help="go on with a run where it stopped")
    resume.add_argument("run")
    resume.add_argument("overrides", nargs="*", metavar="key=value")
    resume.add_argument("--runs", default="runs", help="folder of the runs (default: %(default)s)")
    resume.set_defaults(command=_resume)
    status = commands.add_parser("status", help="how a run stands, or which runs there are")
    status.add_argument("run", nargs="?")
    status.add_argument("--runs", default="runs", help="folder of the runs (default: %(default)s)")
    status.add_argument("--json", action="store_true", help="for programs")
    status.set_defaults(command=_status)
    evaluate = commands.add_parser("eval", help="deterministic episodes with a run's newest weights, in simulation")
    evaluate.add_argument("run")
    evaluate.add_argument("--runs", default="runs", help="folder of the runs (default: %(default)s)")
    evaluate.add_argument("--episodes", type=int, default=50)
    evaluate.add_argument("--seed", type=int, default=20_000)
    evaluate.set_defaults(command=_eval)
    _add_backup(commands)
    _add_videos(commands)
    _add_buffer(commands)
    _add_label(commands)
    _add_fleet(commands)
    add_resources(commands, home=HOME).set_defaults(command=_resources)
    add_estop(commands, home=HOME).set_defaults(command=_estop)
    add_weights(commands).set_defaults(command=_weights)
    add_serve(commands, home=HOME).set_defaults(command=_serve_inference)
    for added in add_trust(commands, home=HOME):
        added.set_defaults(command=_trust)
    add_tunnel(commands).set_defaults(command=_tunnel)
    add_watch(commands).set_defaults(command=_watch)
    return parser


def _add_videos(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    videos = commands.add_parser("videos", help="episodes of a run's log as MP4 files, one for each")
    videos.add_argument("run")
    videos.add_argument("--runs", default="runs", help="folder of the runs (default: %(default)s)")
    which = videos.add_mutually_exclusive_group()
    which.add_argument("--last", type=int, default=1, metavar="N", help="the last N whole episodes (default: 1)")
    which.add_argument(
        "--episode", nargs="+", default=[], metavar="CELL/BOOT/EPISODE", help="the beginning of BOOT is enough"
    )
    videos.add_argument("--to", type=Path, metavar="FOLDER", help="where they are written (default: RUN/videos)")
    videos.add_argument("--camera", action="append", default=[], metavar="NAME", help="only this one; may be repeated")
    videos.add_argument("--json", action="store_true", help="for programs")
    videos.set_defaults(command=_videos)


def _add_buffer(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    from cloud.buffer_arguments import add_compact, add_inspect, add_verify
    from cloud.datasets.arguments import add_export, add_import

    buffer = commands.add_parser("buffer", help="the experience log of a run: datasets out of it and into it")
    actions = buffer.add_subparsers(required=True, metavar="ACTION")
    add_export(actions).set_defaults(command=_buffer_export)
    add_import(actions).set_defaults(command=_buffer_import)
    add_inspect(actions).set_defaults(command=_buffer_inspect)
    add_verify(actions).set_defaults(command=_buffer_verify)
    add_compact(actions).set_defaults(command=_buffer_compact)


def _add_label(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    label = commands.add_parser("label", help="rewards, successes, notes for rows and episodes, any time after them")
    label.add_argument("run")
    label.add_argument("--runs", default="runs", help="folder of the runs (default: %(default)s)")
    label.add_argument("--home", default=HOME, help="keys, to ask a running gateway with (default: %(default)s)")
    label.add_argument("--column", metavar="NAME", help="such as reward; needs --writer, --version and --from")
    label.add_argument("--writer", metavar="NAME", help="who or what says so, such as classifier (default: you)")
    label.add_argument("--version", type=int, metavar="N", help="of the writer; another opinion is another version")
    label.add_argument(
        "--from", dest="path", type=Path, metavar="FILE", help="csv, jsonl, parquet or npz with stream, step, value"
    )
    label.add_argument("--unit", default="", help="of the values")
    label.add_argument("--episode", metavar="CELL/BOOT/EPISODE", help="the beginning of BOOT is enough")
    what = label.add_mutually_exclusive_group()
    for word in ("keep", "discard", "success", "failure"):
        what.add_argument(f"--{word}", dest="what", action="store_const", const=word)
    label.add_argument("--list", action="store_true", help="which columns there are")
    label.add_argument("--json", action="store_true", help="for programs")
    label.set_defaults(command=_label)


def _add_backup(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    backup = commands.add_parser(
        "backup", help="copy a run, also while it goes on; again to the same folder: what is new"
    )
    backup.add_argument("run")
    backup.add_argument("--to", required=True, metavar="FOLDER", help="where it is kept; one folder for each run")
    backup.set_defaults(command=_backup)
    restore = commands.add_parser("restore", help="bring a run back from its backup, every byte checked")
    restore.add_argument("folder", help="the backup's")
    restore.add_argument("--as", dest="name", metavar="RUN", help="the run's new name (default: the one it had)")
    restore.set_defaults(command=_restore)
    for parser in (backup, restore):
        parser.add_argument("--runs", default="runs", help="folder of the runs (default: %(default)s)")
        parser.add_argument("--json", action="store_true", help="for programs")


def _add_fleet(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    fleet = commands.add_parser("fleet", help="serve the fleet: enrolment, heartbeats, leases; outlives every run")
    fleet.add_argument("--home", default=HOME, help="keys and the fleet's state (default: %(default)s)")
    fleet.add_argument("--listen", default="0.0.0.0:50051", help="host:port (default: %(default)s)")
    fleet.add_argument("--site", default="", help="where this machine is, for its accelerators")
    fleet.set_defaults(command=_fleet)


def _launch(args: argparse.Namespace) -> int:
    from cloud.launcher import launch

    return launch(args.overrides)


def _resume(args: argparse.Namespace) -> int:
    from cloud.launcher import resume

    return resume(Path(args.runs), args.run, args.overrides)


def _fleet(args: argparse.Namespace) -> int:
    from cloud.fleet.__main__ import main as serve

    return serve(["--home", str(Path(args.home).expanduser()), "--listen", args.listen, "--site", args.site])


def _serve_inference(args: argparse.Namespace) -> int:
    from cloud.inference.serve import serve

    return serve(args)


def _resources(args: argparse.Namespace) -> int:
    from cloud.resources import run_resources

    return run_resources(args, _console())


def _estop(args: argparse.Namespace) -> int:
    from cloud.estop import run_estop

    return run_estop(args, _console())


def _watch(args: argparse.Namespace) -> int:
    from cloud.watch import run_watch

    return run_watch(args, Console())


def _tunnel(args: argparse.Namespace) -> int:
    from cloud.tunnel_command import run_tunnel

    return run_tunnel(args, ask=input, say=lambda line: print(line, flush=True))


def _trust(args: argparse.Namespace) -> int:
    from cloud.trust_command import ACTIONS

    said = ACTIONS[args.action](args)
    print(said.text)
    return said.status


def _backup(args: argparse.Namespace) -> int:
    from cloud.backup import back_up, size_bytes
    from cloud.bar import bar
    from cloud.run import find_run

    folder = find_run(Path(args.runs), args.run)
    with bar(f"backup of {folder.name}", size_bytes(folder)) as tell:
        done = back_up(folder, Path(args.to), tell=tell)
    if args.json:
        print(json.dumps(asdict(done), indent=2))
        return 0
    print(
        f"{done.backup}: run {done.run} at update {done.updates:,}, {done.bytes / 1e6:,.1f} MB in {done.files} files, "
        f"{done.copied_bytes / 1e6:,.1f} MB of it new; bring it back with user-rl restore {args.to}"
    )
    return 0


def _restore(args: argparse.Namespace) -> int:
    from cloud.bar import bar
    from cloud.restore import index_of, restore

    source = Path(args.folder)
    with bar(f"restore of {source.name}", sum(kept.size for kept in index_of(source).files)) as tell:
        done = restore(source, Path(args.runs), name=args.name, tell=tell)
    if args.json:
        print(json.dumps(asdict(done), indent=2))
        return 0
    print(
        f"{done.folder}: as it was on {done.made}, at update {done.updates:,}, {done.bytes / 1e6:,.1f} MB checked; "
        f"go on with user-rl resume {done.run}"
    )
    return 0


def _label(args: argparse.Namespace) -> int:
    from cloud.label_command import label_columns, label_run, told

    if args.list:
        for line in label_columns(args):
            print(line)
        return 0
    done = label_run(args)
    print(told(done, as_json=args.json))
    return 1 if done.refusals else 0


def _eval(args: argparse.Namespace) -> int:
    from cloud.evaluation import evaluate_run
    from cloud.run import find_run

    result = evaluate_run(find_run(Path(args.runs), args.run), episodes=args.episodes, seed=args.seed)
    print(json.dumps(result, indent=2))
    return 0


def _buffer_export(args: argparse.Namespace) -> int:
    from cloud.datasets.commands import run_export

    print(run_export(args))
    return 0


def _buffer_import(args: argparse.Namespace) -> int:
    from cloud.datasets.commands import run_import

    print(run_import(args))
    return 0


def _buffer_inspect(args: argparse.Namespace) -> int:
    from cloud.buffer import run_inspect

    return run_inspect(args, _console())


def _buffer_verify(args: argparse.Namespace) -> int:
    from cloud.buffer import run_verify

    return run_verify(args, _console())


def _buffer_compact(args: argparse.Namespace) -> int:
    from cloud.buffer_compact import run_compact

    return run_compact(args, _console())


def _weights(args: argparse.Namespace) -> int:
    from cloud.weights_command import run_weights

    return run_weights(args, _console())


def _console() -> Console:
    return Console(width=None if sys.stdout.isatty() else PIPED_WIDTH)


def _videos(args: argparse.Namespace) -> int:
    from cloud.run import find_run
    from cloud.videos.run import Wanted, write_videos

    wanted = Wanted(episodes=args.episode, last=args.last, cameras=args.camera, to=args.to)
    written = []
    for video in write_videos(find_run(Path(args.runs), args.run), wanted):
        written.append(dataclasses.asdict(video))
        if not args.json:
            print(f"{video.path}  {video}")
    if args.json:
        print(json.dumps(written, indent=2))
    return 0


def _status(args: argparse.Namespace) -> int:
    from cloud.overview import overview
    from cloud.run import find_run, list_runs, read_json

    if args.run:
        folder = find_run(Path(args.runs), args.run)
        return _show(folder.name, read_json(folder.status), as_json=args.json)
    statuses = {folder.name: read_json(folder.status) for folder in list_runs(Path(args.runs))}
    if args.json:
        print(json.dumps(statuses, indent=2))
        return 0
    if statuses:
        Console(width=None if sys.stdout.isatty() else PIPED_WIDTH).print(overview(statuses))
    else:
        print(f"no runs in {Path(args.runs).resolve()}; start one with user-rl launch")
    return 0


def _show(name: str, status: dict[str, object], *, as_json: bool) -> int:
    from cloud.overview import phase_in_full
    from cloud.progress import panel

    if as_json:
        print(json.dumps(status, indent=2))
    else:
        Console().print(panel(name, status | {"phase": phase_in_full(status)}, []))
    return 0


if __name__ == "__main__":
    sys.exit(main())
