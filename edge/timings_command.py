"""user-rl-edge timings: where the time of an edge's steps went, and how late they began, from its telemetry."""

import argparse
from pathlib import Path

import msgspec
import numpy as np

from edge.table import table, terminal_width
from edge.telemetry import PERCENTILES, Record, Timing, histograms, read_records, timing
from edge.timings import NAMES
from user_rl.errors import ConfigError
from user_rl.histogram import Histogram, middle_s

EDGES_MS = (0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0, 20.0, 50.0, 100.0)
EIGHTHS = " ▏▎▍▌▋▊▉█"


def timings_arguments(command: argparse.ArgumentParser) -> None:
    """The command's own."""
    command.add_argument("--home", type=Path, required=True, help="the folder that the daemon has")
    command.add_argument("--json", action="store_true", help="as one JSON object")
    command.add_argument("--last", type=int, metavar="N", help="only the newest N records")


def timings_text(args: argparse.Namespace) -> str:
    """What the command prints; raises ConfigError where there is no telemetry."""
    home: Path = args.home.expanduser()
    records = list(read_records(home))[-args.last if args.last else None :]
    if not records:
        raise ConfigError(f"{home} holds no telemetry; it comes some seconds after the first step in real pace")
    found = histograms(records)
    figures = {name: timing(found[name]) for name in NAMES if name in found and found[name].count}
    if args.json:
        return msgspec.json.encode(_plain(records, figures)).decode()
    width = terminal_width()
    parts = [_heading(records), _table(figures, width), bars(found.get("late", Histogram()), width)]
    return "\n\n".join(parts)


def _plain(records: list[Record], figures: dict[str, Timing]) -> dict[str, object]:
    newest = records[-1]
    counters = {name: getattr(newest, name) for name in ("late", "skipped", "held", "unserved")}
    plain = {n: {k: getattr(f, k) for k in ("count", *PERCENTILES)} for n, f in figures.items()}
    return {"from": records[0].at, "to": newest.at, "records": len(records), **counters, "timings": plain}


def _heading(records: list[Record]) -> str:
    first, newest = records[0], records[-1]
    return (
        f"{len(records)} records, {first.at} to {newest.at}; in control's last life {newest.late} steps late, "
        f"{newest.skipped} skipped, {newest.held} held, {newest.unserved} without an action"
    )


def _table(figures: dict[str, Timing], width: int) -> str:
    rows = [
        (name, f"{f.count}", *(f"{getattr(f, key):.3f}" for key in PERCENTILES), NAMES[name])
        for name, f in figures.items()
    ]
    headings = ("ms", "STEPS", "P50", "P90", "P99", "P99.9", "MAX", "WHAT")
    return table(headings, rows, width=width, wrapped=(7,))


def bars(histogram: Histogram, width: int) -> str:
    """How late steps began: a bar for each range, as long as the root of its share, so that rare ones show."""
    if not histogram.count:
        return "no step has begun"
    upper_s = np.array([middle_s(i) for i in range(len(histogram.counts))])
    where = np.searchsorted(np.array(EDGES_MS) * 1e-3, upper_s)
    sums = np.bincount(where, weights=histogram.counts.astype(np.float64), minlength=len(EDGES_MS) + 1)
    names = [f"up to {edge:g} ms" for edge in EDGES_MS] + ["longer"]
    last = int(np.flatnonzero(sums)[-1])
    room = max(10, min(60, width - 36))
    lines = [
        f"{name:>13} {_bar(share**0.5 * room):<{room}} {share:8.3%} {int(count)}"
        for name, count, share in zip(names[: last + 1], sums, sums / sums.sum(), strict=False)
    ]
    return "\n".join([f"how late steps began ({histogram.count} steps; lengths are roots of shares)", *lines])


def _bar(length: float) -> str:
    eighths = max(round(length * 8), 1 if length > 0 else 0)
    return "█" * (eighths // 8) + EIGHTHS[eighths % 8].strip()
