"""Draws the learning curves of several runs in one picture: python -m scripts.curves OUT.png RUN [RUN ...]."""

import sys
from pathlib import Path
from typing import Any

from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from cloud.report import GRID, QUIET, exploring, read_metrics
from cloud.run import RunFolder, read_json

COLOURS = ("#1b6ca8", "#c8553d", "#3a8f5c", "#8a5aa8")
STYLES = ("-", "--", ":")  # by cell


def main(out: Path, runs: list[RunFolder]) -> None:
    """Success over the last 50 episodes against training time, a line for each run, its evaluation as a dot.

    A run of cells that differ has a line for each: the first solid, the others dashed and dotted.
    """
    figure = Figure(figsize=(8, 4), dpi=120, layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    for run, colour in zip(runs, COLOURS, strict=False):
        points, report = read_metrics(run.metrics), read_json(run.report)
        minutes = [p["trained_s"] / 60 for p in points]
        for (name, rate, rates), style in zip(_lines(points, report), STYLES, strict=False):
            axes.plot(minutes, [100 * r for r in rates], color=colour, linewidth=2, linestyle=style)
            label = f"seed {report['seed']}{name}: {100 * rate:.0f} % of 50 deterministic episodes"
            axes.plot(
                [minutes[-1]], [100 * rate], "o", color=colour, clip_on=False, label=label, linestyle=style
            )  # fmt: skip
    axes.axhline(95, color=QUIET, linestyle="--", linewidth=1)
    axes.set(
        xlabel="training time, minutes", ylabel="success over the last 50 episodes, %", ylim=(-3, 103), xlim=(0, None)
    )
    axes.grid(color=GRID)
    axes.set_axisbelow(True)
    for side in ("top", "right", "left", "bottom"):
        axes.spines[side].set_visible(False)
    axes.legend(frameon=False, loc="lower right", bbox_to_anchor=(1.0, 0.05))
    figure.savefig(out)


def _lines(points: list[dict[str, Any]], report: dict[str, Any]) -> list[tuple[str, float, list[float]]]:
    """Name, deterministic success and success while exploring: of the run, or of each of its cells."""
    cells = report.get("success_by_cell") or {}
    if not cells:
        return [("", report["success_rate"], [p.get("success_rate") or 0.0 for p in points])]
    return [(f", {name}", cell["success_rate"], [exploring(p, cell) for p in points]) for name, cell in cells.items()]


if __name__ == "__main__":
    main(Path(sys.argv[1]), [RunFolder(Path(path)) for path in sys.argv[2:]])
