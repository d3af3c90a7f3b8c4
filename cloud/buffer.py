"""`user-rl buffer inspect` and `verify`: what a log holds, and whether its bytes are what was written."""

import argparse
import json
import time
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path

from rich.console import Console, Group
from rich.table import Table
from rich.text import Text

from cloud.bar import bar
from cloud.run import RunFolder
from user_rl.errors import ConfigError
from user_rl.log import Episode, Log
from user_rl.log.lock import WriterLock
from user_rl.log.quarantine import Reason, set_aside
from user_rl.log.segment import is_segment_name
from user_rl.log.survey import SegmentLine, StreamLine, Survey, as_tree, survey
from user_rl.log.verify import Findings, data_bytes, examine


def run_inspect(args: argparse.Namespace, console: Console) -> int:
    """`user-rl buffer inspect`."""
    trees = []
    for path in logs_of(Path(args.runs), args.run):
        found, episodes = survey(path, time.time())
        file = args.plot and args.plot.with_stem(args.plot.stem + path.name.removeprefix("log"))
        if file:
            plot(found, episodes, file)
        trees.append(as_tree(found))
        if not args.json:
            console.print(tables(found))
            if file:
                console.print(f"drawn in {file}")
    if args.json:
        console.out(json.dumps(trees[0] if len(trees) == 1 else trees, indent=2), highlight=False)
    return 0


def run_verify(args: argparse.Namespace, console: Console) -> int:
    """`user-rl buffer verify`; with --json an object for each log."""
    return max([_verify(args, console, path) for path in logs_of(Path(args.runs), args.run)])


def _verify(args: argparse.Namespace, console: Console, path: Path) -> int:
    total = sum(data_bytes(entry) for entry in path.iterdir() if is_segment_name(entry.name))
    with bar(f"verify {args.run}", total) as tell:
        found = examine(path, tell)
    aside = put_aside(path, found, unsealed=args.unsealed) if args.quarantine and found.segments else []
    if args.json:
        tree = {"path": str(path), "segments": found.segments, "others": found.others, "quarantined": aside}
        console.out(json.dumps(tree, indent=2), highlight=False)
    else:
        for line in found.lines():
            console.print(line, markup=False, highlight=False, soft_wrap=True)
        console.print(_verdict(path, found, aside, total), markup=False, highlight=False, soft_wrap=True)
    return 1 if found.lines() else 0


def _verdict(path: Path, found: Findings, aside: list[str], total: int) -> str:
    if not found.lines():
        return f"{path}: sound, {total / 1e6:,.1f} MB"
    left = [name for name in found.segments if name not in aside]
    todo = "; set them aside with --quarantine, or restore the run from its backup" if left else ""
    return f"{path}: {len(found.segments)} damaged segments, {len(aside)} of them set aside now{todo}"


def put_aside(path: Path, found: Findings, *, unsealed: bool) -> list[str]:
    """Sets the damaged segments aside; returns which. Raises StorageBusy while the log has a writer."""
    names = [name for name in found.segments if (path / name / "footer.json").exists() or unsealed]
    with closing(WriterLock(path)):
        for name in names:
            if not (path / name / "footer.json").exists():
                set_aside(path, Reason(segment=name, problems=found.segments[name][:8], at_s=time.time()))
    with Log(path) as log:
        for name in names:
            if name in log.sealed():
                log.quarantine(name, found.segments[name][:8])
    return [name for name in names if not (path / name).exists()]


def log_of(runs: Path, name: str) -> Path:
    """The log of a run, or the folder itself where it is a log; raises ConfigError."""
    for root in (runs / name, Path(name)):
        for path in (root / "log", root):
            if (path / "log.json").is_file():
                return path.resolve()
    raise ConfigError(f"{name}: no run in {runs.resolve()} and no log's folder; give one of these")


def logs_of(runs: Path, name: str) -> list[Path]:
    """Every log of a run, or the folder itself where it is a log; raises ConfigError."""
    first = log_of(runs, name)
    folder = RunFolder(first.parent)
    return list(folder.logs().values()) if first == folder.log else [first]


def tables(found: Survey) -> Group:
    """What a person reads."""
    size = sum(line.bytes for line in found.segments)
    rows = sum(line.rows for line in found.streams)
    lines = [f"{found.path}: {rows:,} rows, {size / 1e6:,.1f} MB in {len(found.segments)} segments"]
    if found.gone.segments:
        gone = found.gone
        lines.append(f"gone: {gone.segments} segments with {gone.rows:,} rows, by retention or quarantine")
    lines += [f"in quarantine: {reason.segment} ({reason.problems[0]})" for reason in found.quarantine]
    if found.columns:
        lines.append(f"late columns: {', '.join(found.columns)}")
    return Group(Text("\n".join(lines)), Text(), _segments(found.segments), Text(), _streams(found.streams))


def _table(*columns: str) -> Table:
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0))
    for i, name in enumerate(columns):
        table.add_column(name, justify="left" if i == 0 else "right", overflow="fold")
    return table


def _segments(lines: Sequence[SegmentLine]) -> Table:
    table = _table("segment", "state", "rows", "MB", "chunks", "coded", "sealed for", "pinned by")
    for line in lines:
        age = "-" if line.age_s is None else f"{line.age_s / 3600:.1f} h"
        coded = f"{100 * line.coded_chunks / line.chunks:.0f} %" if line.chunks else "-"
        cells = (
            f"{line.rows:,}",
            f"{line.bytes / 1e6:,.1f}",
            f"{line.chunks:,}",
            coded,
            age,
            ", ".join(line.pins) or "-",
        )
        table.add_row(line.name, line.state, *cells)
    return table


def _streams(lines: Sequence[StreamLine]) -> Table:
    table = _table(
        "stream", "cursor", "kept from", "rows", "in gaps", "missing", "episodes", "success", "shown", "by hand"
    )
    for line in lines:
        numbers = (line.cursor, line.first_kept, line.rows, line.gap_rows, line.missing, line.episodes)
        rest = (line.successes, line.demonstrations, line.interventions)
        table.add_row(line.name, *(f"{number:,}" for number in (*numbers, *rest)))
    return table


FEW_EPISODES = 150
COLOURS = {"success": "#2a9d5c", "no success": "#c8553d", "open": "#9a9a9a", "under a person's hand": "#3b6fb6"}


def plot(found: Survey, episodes: Sequence[Episode], file: Path) -> None:
    """Draws each stream as a line of its episodes, by step; blue is the share of rows under a person's hand."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure
    from matplotlib.patches import Patch

    names = [line.name for line in found.streams]
    figure = Figure(figsize=(12, 1.6 + 0.45 * len(names)), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots()
    for lane, name in enumerate(names):
        own = [e for e in episodes if e.stream == name]
        bars = [(e.first_step, e.length + 1) for e in own]
        hands = [(e.first_step, e.interventions) for e in own if e.interventions]
        edge = 0.4 if len(own) <= FEW_EPISODES else 0  # among many, white edges would hide thin bars
        colours = [_colour(e) for e in own]
        axes.broken_barh(bars, (lane - 0.35, 0.7), facecolors=colours, edgecolor="white", linewidth=edge)
        axes.broken_barh(hands, (lane - 0.35, 0.18), facecolors=COLOURS["under a person's hand"])
    axes.set_yticks(range(len(names)), [_short(name) for name in names])
    axes.invert_yaxis()
    axes.set_xlabel("step")
    axes.spines[["top", "right"]].set_visible(False)
    axes.set_title(f"{sum(line.rows for line in found.streams):,} rows, {len(episodes):,} episodes", loc="left")
    patches = [Patch(color=colour, label=name) for name, colour in COLOURS.items()]
    figure.legend(handles=patches, ncols=4, frameon=False, loc="outside upper right")
    file.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(file, dpi=120)


def _short(stream: str) -> str:
    """`cell/boot/run` with the beginning of the boot."""
    return "/".join(part[:8] if i == 1 else part for i, part in enumerate(stream.split("/")))


def _colour(episode: Episode) -> str:
    return COLOURS["open" if not episode.closed else "success" if episode.success else "no success"]
