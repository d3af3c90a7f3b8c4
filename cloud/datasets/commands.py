"""`user-rl buffer export` and `user-rl buffer import`: what they do, and the lines that say what they did."""

import argparse
import json
from dataclasses import asdict
from pathlib import Path

from cloud.bar import bar
from cloud.cells import trial_cells
from cloud.config import build_launch, compose_launch
from cloud.datasets.exporting import Exported, Wanted, chosen, export
from cloud.datasets.importing import Choices, Imported, import_dataset
from cloud.datasets.lerobot_v3_writer import Form
from cloud.datasets.mapping import read_map
from cloud.run import RunFolder, known_rate_hz, read_json
from cloud.schema_file import kept_schema
from cloud.shards.reader import log_at
from user_rl.errors import ConfigError
from user_rl.files import FileLock
from user_rl.log import Reader
from user_rl.rows import Klass, Schema, make_schema


def run_export(args: argparse.Namespace) -> str:
    """`user-rl buffer export`: what to print."""
    for name in ("fps", "last"):
        if (value := getattr(args, name)) is not None and value < 1:
            raise ConfigError(f"--{name} {value}, allowed 1 or more; give another number")
    wanted = Wanted(
        episodes=args.episodes, successful=args.successful, demonstrations=args.demonstrations, last=args.last
    )
    log = _log_of(Path(args.runs), args.run)
    with log_at(log) as reader:
        episodes = chosen(reader, wanted)
        rate_hz = known_rate_hz(RunFolder(log.parent), episodes[0].stream) if episodes else None
        size = sum((e.length + 1) * reader.streams()[e.stream].row_bytes for e in episodes)
        with bar(f"export of {args.run}", size) as tell:
            done = export(
                reader, episodes, args.to, fps=args.fps or (round(rate_hz) if rate_hz else None), tell=tell,
                make_form=lambda fps: Form(
                    fps=fps, robot_type=_robot_type(log), images=args.images, codec=args.video_codec
                ),
            )  # fmt: skip
    return json.dumps(asdict(done), indent=2) if args.json else _exported(done)


def run_import(args: argparse.Namespace) -> str:
    """`user-rl buffer import`: what to print."""
    target = Path(args.runs, args.to) if (Path(args.runs, args.to) / "config.json").is_file() else Path(args.to)
    run = RunFolder(target.resolve()) if (target / "config.json").is_file() else None
    log = run.log if run else target
    schema, whose = _specs(args, run)
    choices = Choices(
        klass=Klass.ONLINE if args.online else Klass.DEMONSTRATION, run=run.name if run else "imported",
        task=args.task, names=read_map(args.map), mask=args.mask, trust_pickle=args.trust_pickle, schema=schema,
        whose=whose,
    )  # fmt: skip
    lock = FileLock(run.lock) if run else None
    try:
        with bar(f"import of {args.path.name}", _size_bytes(args.path)) as tell:
            done = import_dataset(args.path, args.format, log, choices, tell=tell)
    finally:
        if lock:
            lock.release()
    return json.dumps(asdict(done), indent=2) if args.json else _imported(done)


def _specs(args: argparse.Namespace, run: RunFolder | None) -> tuple[Schema | None, str]:
    """The schema that the rows take, and whose it is."""
    if args.cell:
        tree = compose_launch(args.cell)
        build_launch(tree)
        cell = trial_cells(tree)[0]  # all have one schema
        return make_schema(cell.observation, cell.action), f"the cell of {' '.join(args.cell)}"
    if args.like:
        named = (Path(args.runs, args.like), Path(args.like))
        kept = next((schema for root in named if (schema := kept_schema(root))), None)  # there before the first row
        schema = kept or _schema_in(_log_of(Path(args.runs), args.like))
        if schema is None:
            raise ConfigError(f"--like {args.like}: has no specs yet, allowed a run or log with rows; choose another")
        return schema, args.like
    return (_schema_in(run.log), f"run {run.name}") if run else (None, "")


def _schema_in(log: Path) -> Schema | None:
    kept = kept_schema(log.parent)
    if kept is not None or not (log / "log.json").is_file():
        return kept
    with Reader(log) as reader:
        return next(iter(reader.streams().values()), None)


def _log_of(runs: Path, name: str) -> Path:
    """The log of a run, or the folder itself where it is a log."""
    for root in (runs / name, Path(name)):
        for log in (root / "log", root):
            if (log / "log.json").is_file():
                return log.resolve()
    raise ConfigError(f"{name}: no run in {runs.resolve()} and no log's folder; give one of these")


def _robot_type(log: Path) -> str:
    tree = read_json(log.parent / "config.json").get("tree", {})
    return str(tree.get("robot", {}).get("name", "unknown"))


def _size_bytes(path: Path) -> int:
    files = path.rglob("*") if path.is_dir() else [path]
    return sum(file.stat().st_size for file in files if file.is_file())


def _exported(done: Exported) -> str:
    left = f", {done.empty_episodes} without a step left out" if done.empty_episodes else ""
    cut = f", {done.cut_episodes} of them cut by a crash" if done.cut_episodes else ""
    return (
        f"{done.folder}: {done.episodes} episodes{cut}, {done.frames:,} frames at {done.fps} Hz, images as "
        f"{done.images}{left}; LeRobotDataset v3.0"
    )


def _imported(done: Imported) -> str:
    if not done.rows:
        return f"{done.log}: has all {done.already:,} rows of it already, nothing was added"
    notes = [
        f"{done.already:,} rows were there already" * bool(done.already),
        f"{done.actions_given_up} last actions without an outcome given up" * bool(done.actions_given_up),
        f"{done.cuts} episodes cut where a piece is missing" * bool(done.cuts),
        f"left out {', '.join(done.left_out)}" * bool(done.left_out),
    ]
    tail = "".join(f"; {note}" for note in notes if note)
    return f"{done.log}: {done.episodes} episodes, {done.successful} successful, {done.rows:,} rows{tail}"
