"""The end of a run: `report.json`, a summary for people, and the learning curve as a picture."""

import json
from collections.abc import Mapping
from itertools import cycle
from pathlib import Path
from statistics import fmean
from typing import Any

from rich.console import Console
from rich.table import Table

from cloud.disk import DISK_KEYS
from cloud.run import RunFolder

# What a report always holds; further keys (evaluation, baseline, machine) stand beside them.
KEYS = (
    "success_rate", "episodes", "env_steps", "updates", "wall_s", "rows_lost", "rows_duplicated", "weight_versions",
    "seed", *DISK_KEYS,
)  # fmt: skip

SUCCESS, STEPS, QUIET, GRID = "#1b6ca8", "#c8553d", "#8a8f98", "#e6e8eb"
OF_CELLS = (SUCCESS, "#3a8f5c", "#8a5aa8", "#b8860b", "#2a9d9d", "#7a4b3a")
HIGH = 0.5


def read_metrics(path: Path) -> list[dict[str, Any]]:
    """The lines of metrics.jsonl; a last line that a crash cut short is left out."""
    if not path.is_file():
        return []
    points = []
    for row in path.read_text().splitlines():
        try:
            points.append(json.loads(row))
        except json.JSONDecodeError:
            continue
    return points


def summarise(report: Mapping[str, Any], folder: RunFolder, *, console: Console) -> None:
    """Prints what a person asks first when a run has ended."""
    table = Table(title=f"{folder.name}: {report['phase']}", title_justify="left", show_header=False, box=None)
    table.add_column(style="dim", justify="right")
    table.add_column()
    for name, text in _summary(report):
        table.add_row(name, text)
    console.print(table)
    console.print(f"  {folder.report}\n  {folder.curve}", highlight=False, soft_wrap=True)


def _summary(report: Mapping[str, Any]) -> list[tuple[str, str]]:
    rows = [("success, exploring, last 50", _percent(report["success_rate_last_50"]))]
    if report.get("evaluation"):
        evaluation = report["evaluation"]
        text = f"{_percent(evaluation['success_rate'])} of {evaluation['episodes']} fresh episodes"
        rows.append(("success, deterministic", f"{text}, {evaluation['mean_steps']:.1f} steps each"))
    for name, cell in (report.get("success_by_cell") or {}).items():
        rows.append((f"{name}, {cell['robot']} at {cell['task']}", _of_cell(cell)))
    if report.get("baseline"):
        baseline = report["baseline"]
        text = f"{_percent(baseline['success_rate'])}, {baseline['mean_steps']:.1f} steps each"
        rows.append(("behaviour cloning, same demonstrations", text))
    return [
        *rows,
        ("episodes, env steps", f"{report['episodes']:,}, {report['env_steps']:,}"),
        ("updates, weight versions", f"{report['updates']:,}, {report['weight_versions']:,}"),
        ("training, whole run", f"{report['trained_s']:.0f} s, {report['wall_s']:.0f} s"),
        ("rows lost, rows duplicated", f"{report['rows_lost']}, {report['rows_duplicated']}"),
        *([("rows dropped by retention", f"{report['rows_dropped']:,}")] if report.get("rows_dropped") else []),
    ]


def _of_cell(cell: Mapping[str, Any]) -> str:
    if cell["success_rate"] is None:
        return f"{_percent(cell['success_rate_last_50'])} exploring"
    return f"{_percent(cell['success_rate'])} of {cell['episodes']}, {cell['mean_steps']:.1f} steps each"


def _percent(share: float | None) -> str:
    return "-" if share is None else f"{100 * share:.0f} %"


def draw_curve(path: Path, points: list[dict[str, Any]], report: Mapping[str, Any], *, title: str) -> None:
    """Success over training time, with the env steps beside it; the baseline as a dashed line.

    Cells that differ have a curve each.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(8, 4.5), dpi=120, layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    minutes = [p["trained_s"] / 60 for p in points]
    cells = report.get("success_by_cell") or {}
    if not cells:
        axes.plot(minutes, [100 * (p.get("success_rate") or 0.0) for p in points], color=SUCCESS, linewidth=2.2)
    for colour, (name, cell) in zip(cycle(OF_CELLS), cells.items(), strict=False):
        label = f"{name}: {cell['robot']} at {cell['task']}"
        axes.plot(minutes, [100 * exploring(p, cell) for p in points], color=colour, linewidth=2.2, label=label)
    axes.set(xlabel="training time, minutes", ylim=(-3, 103), xlim=(0, max(minutes, default=0) or 1))
    axes.set_ylabel("success over the last 50 episodes, %", color=SUCCESS)
    axes.set_title(title, loc="left", fontweight="bold")
    axes.grid(color=GRID)
    axes.set_axisbelow(True)
    for side in ("top", "right", "left", "bottom"):
        axes.spines[side].set_visible(False)
    _draw_steps(axes, minutes, [p["env_steps"] for p in points])
    _draw_levels(axes, report)
    if cells:
        axes.legend(frameon=False, loc="upper left", fontsize="small")
    figure.savefig(path)


def exploring(point: Mapping[str, Any], cell: Mapping[str, Any]) -> float:
    """The success of a cell's edges by then."""
    rates = [rate for edge, rate in (point.get("success_by_cell") or {}).items() if edge in cell["edges"]]
    return fmean(rates) if rates else 0.0


def _draw_steps(axes: Any, minutes: list[float], steps: list[int]) -> None:  # noqa: ANN401  # matplotlib's Axes
    beside = axes.twinx()
    beside.plot(minutes, steps, color=STEPS, linewidth=1.2, alpha=0.8)
    beside.set_ylabel("env steps", color=STEPS)
    beside.set_ylim(bottom=0)
    for side in ("top", "right", "left", "bottom"):
        beside.spines[side].set_visible(False)


def _draw_levels(axes: Any, report: Mapping[str, Any]) -> None:  # noqa: ANN401
    baseline, evaluation = report.get("baseline"), report.get("evaluation")
    if baseline:
        axes.axhline(100 * baseline["success_rate"], color=QUIET, linestyle="--", linewidth=1.2)
        level, high = 100 * baseline["success_rate"], baseline["success_rate"] > HIGH
        axes.annotate(  # where the curves are not: they go from the lower left to the upper right
            "behaviour cloning", (axes.get_xlim()[not high], level), (4, -14) if high else (-8, 4), color=QUIET,
            textcoords="offset points", ha="left" if high else "right",
        )  # fmt: skip
    cells = report.get("success_by_cell") or {}
    for colour, cell in zip(cycle(OF_CELLS), cells.values(), strict=False):
        if cell["success_rate"] is not None:
            axes.plot([axes.get_xlim()[1]], [100 * cell["success_rate"]], "o", color=colour, clip_on=False)
    if evaluation and not cells:
        x = axes.get_xlim()[1]
        axes.plot([x], [100 * evaluation["success_rate"]], "o", color=SUCCESS, markersize=8, clip_on=False)
        axes.annotate(
            "deterministic", (x, 100 * evaluation["success_rate"]), (-8, -16), textcoords="offset points",
            color=SUCCESS, ha="right",
        )  # fmt: skip
