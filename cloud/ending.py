"""The end of a run: both logs compared, fresh episodes, the baseline, the report and its picture."""

import contextlib
import logging
import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path
from statistics import fmean
from typing import Any

from rich.console import Console

from cloud.cells import cell_trees
from cloud.config import LaunchConfig
from cloud.disk import DISK_KEYS
from cloud.evaluation import evaluate, joined, train_baseline
from cloud.filming import missing
from cloud.report import draw_curve, read_metrics, summarise
from cloud.run import ALIKE, RunFolder, edge_name, write_json
from cloud.shards.reader import open_log
from cloud.videos.run import write_recorded
from cloud.weights import WeightStore
from user_rl.config import Tree
from user_rl.errors import UserRlError
from user_rl.log import Comparison, Reader, compare
from user_rl.log.compare import NOTHING
from user_rl.versions import version_folder

log = logging.getLogger(__name__)


def finish(
    folder: RunFolder, config: LaunchConfig, tree: Tree, status: Mapping[str, Any], *, console: Console
) -> None:  # fmt: skip
    """Measures, writes `report.json` and `learning_curve.png`, and prints the summary."""
    with console.status("comparing the edges' logs with the cloud's"):
        compared = compare_logs(folder)
    report: dict[str, Any] = {
        **{key: status.get(key) for key in ("phase", "episodes", "env_steps", "updates", "wall_s", "trained_s")},
        "success_rate_last_50": status.get("success_rate"), "rows": compared.rows, "rows_lost": compared.rows_lost,
        "rows_duplicated": compared.rows_duplicated, "rows_differing": compared.rows_differing,
        "rows_dropped": compared.rows_dropped, "weight_versions": WeightStore(folder.weights).highest(),
        "seed": config.seed, "evaluation": None, "baseline": None, **{key: status.get(key) for key in DISK_KEYS},
    }  # fmt: skip
    if config.robots.simulated and config.evaluation.episodes:
        _evaluate(report, folder, config, tree, console=console)
    report["success_by_cell"] = _by_cell(report, folder, config, tree, status)
    measured = report["evaluation"] or {"success_rate": report["success_rate_last_50"]}
    report["success_rate"] = measured["success_rate"]
    write_json(folder.report, report)
    draw_curve(folder.curve, read_metrics(folder.metrics), report, title=folder.name)
    summarise(report, folder, console=console)


def compare_logs(folder: RunFolder) -> Comparison:
    """Every simulated edge's spool against the cloud's log, row by row; all zero where there is no edge here."""
    total = NOTHING
    if not folder.logs():
        return total
    with open_log(folder) as cloud:
        for spool in sorted((folder.root / "edges").glob("*/spool")):
            with Reader(spool) as edge:
                total += compare(edge, cloud, folder.name)
    return total


def _evaluate(report: dict[str, Any], folder: RunFolder, config: LaunchConfig, tree: Tree, *, console: Console) -> None:
    wanted, cells = config.evaluation, cell_trees(tree)
    newest = WeightStore(folder.weights).newest()
    if newest is not None:
        weights, results = version_folder(folder.weights, newest.number), {}
        for name, cell in cells.items():
            with console.status(f"{wanted.episodes} fresh deterministic episodes of {name}"):
                results[name] = _filmed(folder, config, weights, name, cell)
        report["evaluation"] = joined(results)
    if wanted.baseline_updates:
        with console.status("behaviour cloning on the same demonstrations"):
            shutil.rmtree(folder.baseline, ignore_errors=True)
            weights_or_none: Path | None = train_baseline(folder, config)
            if weights_or_none is not None:
                report["baseline"] = joined({
                    name: evaluate(weights_or_none, cell, episodes=wanted.episodes, seed=wanted.seed)
                    for name, cell in cells.items()
                })  # fmt: skip


def _filmed(folder: RunFolder, config: LaunchConfig, weights: Path, name: str, cell: Tree) -> dict[str, Any]:
    wanted = config.evaluation
    prefix = "evaluation" if name == ALIKE else f"evaluation-{name}"
    with recording(folder, config, prefix=prefix, rate_hz=cell["robot"].get("rate_hz")) as kept:
        return evaluate(weights, cell, episodes=wanted.episodes, seed=wanted.seed, **kept)


def _by_cell(
    report: Mapping[str, Any], folder: RunFolder, config: LaunchConfig, tree: Tree, status: Mapping[str, Any]
) -> dict[str, Any]:  # fmt: skip
    """What each of the run's cells does at its task; empty where they are all alike."""
    if not config.cells:
        return {}
    measured, exploring = (report["evaluation"] or {}).get("by_cell", {}), status.get("success_by_cell") or {}
    found = {}
    for name, cell in cell_trees(tree).items():
        edges = [edge_name(folder, name, i) for i in range(config.robots.count)]
        recent = [exploring[edge] for edge in edges if edge in exploring]
        found[name] = {
            "robot": cell["robot"]["name"], "task": cell["task"]["name"], "edges": edges,
            "success_rate_last_50": fmean(recent) if recent else None,
            **{key: measured.get(name, {}).get(key) for key in ("success_rate", "episodes", "mean_steps")},
        }  # fmt: skip
    return found


@contextlib.contextmanager
def recording(
    folder: RunFolder, config: LaunchConfig, *, prefix: str = "evaluation", rate_hz: float | None = None
) -> Iterator[dict[str, Any]]:  # fmt: skip
    """What makes `evaluate` keep its first episodes' rows; afterwards they are videos, where there are cameras."""
    count = min(config.videos.evaluation_episodes, config.evaluation.episodes)
    if not config.cameras or not count or missing():
        yield {}
        return
    rows = folder.videos / ".recorded"
    shutil.rmtree(rows, ignore_errors=True)
    try:
        yield {"record": rows, "recorded": count}
        _film(rows, folder, prefix, rate_hz or config.robot.get("rate_hz"))
    finally:
        shutil.rmtree(rows, ignore_errors=True)


def _film(rows: Path, folder: RunFolder, prefix: str, rate_hz: float | None) -> None:
    try:
        for old in folder.videos.glob(f"{prefix}-*.mp4"):  # of an earlier end of this run
            old.unlink()
        write_recorded(rows, folder.videos, prefix=prefix, rate_hz=rate_hz)
    except (UserRlError, OSError) as error:  # the report is worth more
        log.warning("no videos of the evaluation: %s", error)
