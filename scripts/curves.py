"""Draws the learning curves of several runs in one picture: python -m scripts.curves OUT.png RUN [RUN ...]."""

import sys
from pathlib import Path

from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from cloud.report import GRID, QUIET, read_metrics
from cloud.run import RunFolder, read_json

COLOURS = ("#1b6ca8", "#c8553d", "#3a8f5c", "#8a5aa8")


def main(out: Path, runs: list[RunFolder]) -> None:
    """Success over the last 50 episodes against training time, a line for each run, its evaluation as a dot."""
    figure = Figure(figsize=(8, 4), dpi=120, layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    for run, colour in zip(runs, COLOURS, strict=False):
        points, report = read_metrics(run.metrics), read_json(run.report)
        minutes = [p["trained_s"] / 60 for p in points]
        axes.plot(minutes, [100 * (p.get("success_rate") or 0.0) for p in points], color=colour, linewidth=2)
        label = f"seed {report['seed']}: {100 * report['success_rate']:.0f} % of 50 deterministic episodes"
        axes.plot([minutes[-1]], [100 * report["success_rate"]], "o", color=colour, clip_on=False, label=label)
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


if __name__ == "__main__":
    main(Path(sys.argv[1]), [RunFolder(Path(path)) for path in sys.argv[2:]])
