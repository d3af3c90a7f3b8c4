"""cloud.report: the summary, the metrics file and the picture."""

import io
import json
from pathlib import Path
from typing import Any

from rich.console import Console

from cloud.report import draw_curve, read_metrics, summarise
from cloud.run import RunFolder

REPORT: dict[str, Any] = {
    "phase": "done", "success_rate": 0.98, "success_rate_last_50": 0.96, "episodes": 200, "env_steps": 4000,
    "updates": 12000, "wall_s": 200.4, "trained_s": 180.0, "rows_lost": 0, "rows_duplicated": 0, "weight_versions": 240,
    "seed": 1, "evaluation": {"success_rate": 0.98, "episodes": 50, "mean_steps": 11.3},
    "baseline": {"success_rate": 0.4, "mean_steps": 30.5},
}  # fmt: skip


def test_the_summary_answers_what_is_asked_first(tmp_path: Path) -> None:
    console = Console(file=io.StringIO(), width=120)
    summarise(REPORT, RunFolder(tmp_path / "peg"), console=console)
    text = console.file.getvalue()  # type: ignore[attr-defined]  # it is the StringIO above
    for words in (
        "98 % of 50 fresh episodes, 11.3 steps",
        "96 %",
        "40 %, 30.5 steps each",
        "200, 4,000",
        "12,000, 240",
        "0, 0",
    ):
        assert words in text
    assert str(tmp_path / "peg" / "report.json") in text


def test_a_summary_without_an_evaluation_leaves_its_lines_out(tmp_path: Path) -> None:
    console = Console(file=io.StringIO(), width=120)
    summarise(REPORT | {"evaluation": None, "baseline": None}, RunFolder(tmp_path), console=console)
    text = console.file.getvalue()  # type: ignore[attr-defined]  # it is the StringIO above
    assert "deterministic" not in text
    assert "cloning" not in text


CELLS: dict[str, Any] = {
    "panda": {"robot": "panda_sim", "task": "peg_insertion", "edges": ["r-panda-0"], "success_rate_last_50": 0.9,
              "success_rate": 0.94, "episodes": 50, "mean_steps": 12.0},
    "arm6": {"robot": "arm6_sim", "task": "button_press", "edges": ["r-arm6-0", "r-arm6-1"],
             "success_rate_last_50": 0.5, "success_rate": None, "episodes": None, "mean_steps": None},
}  # fmt: skip


def test_cells_that_differ_have_a_line_each(tmp_path: Path) -> None:
    console = Console(file=io.StringIO(), width=120)
    summarise(REPORT | {"success_by_cell": CELLS}, RunFolder(tmp_path), console=console)
    text = console.file.getvalue()  # type: ignore[attr-defined]  # it is the StringIO above
    assert "panda, panda_sim at peg_insertion  94 % of 50, 12.0 steps each" in text
    assert "arm6, arm6_sim at button_press  50 % exploring" in text


def test_cells_that_differ_have_a_curve_each(tmp_path: Path) -> None:
    def drawn(name: str, rates: dict[str, float]) -> bytes:
        points = [{"trained_s": 6.0 * i, "env_steps": 40 * i, "success_by_cell": rates} for i in range(9)]
        draw_curve(tmp_path / name, points, REPORT | {"success_by_cell": CELLS}, title="two arms")
        return (tmp_path / name).read_bytes()

    both = drawn("a.png", {"r-panda-0": 0.5, "r-arm6-0": 0.2, "r-arm6-1": 0.4})
    alike = {"r-panda-0": 0.5, "r-arm6-0": 0.3, "r-arm6-1": 0.3, "of-another-run": 1.0}
    assert both == drawn("b.png", alike)  # the mean of a cell's own edges
    assert both != drawn("c.png", {"r-panda-0": 0.5, "r-arm6-0": 0.9, "r-arm6-1": 0.9})
    assert both != drawn("d.png", {})


def test_rows_that_retention_dropped_have_a_line_of_their_own(tmp_path: Path) -> None:
    console = Console(file=io.StringIO(), width=120)
    summarise(REPORT | {"rows_dropped": 0}, RunFolder(tmp_path), console=console)
    assert "dropped" not in console.file.getvalue()  # type: ignore[attr-defined]  # it is the StringIO above
    summarise(REPORT | {"rows_dropped": 12_000, "rows_lost": 1}, RunFolder(tmp_path), console=console)
    text = console.file.getvalue()  # type: ignore[attr-defined]
    assert "rows dropped by retention  12,000" in text
    assert "1, 0" in text


def test_a_metrics_line_that_a_crash_cut_short_is_left_out(tmp_path: Path) -> None:
    path = tmp_path / "metrics.jsonl"
    assert read_metrics(path) == []
    path.write_text('{"updates": 1}\n{"updates": 2}\n{"upda')
    assert read_metrics(path) == [{"updates": 1}, {"updates": 2}]


def test_the_curve_is_a_picture_that_follows_the_data(tmp_path: Path) -> None:
    points = [{"trained_s": 6.0 * i, "success_rate": i / 30, "env_steps": 40 * i} for i in range(31)]
    draw_curve(tmp_path / "a.png", points, REPORT, title="peg insertion")
    draw_curve(tmp_path / "b.png", points[:10], REPORT, title="peg insertion")
    draw_curve(tmp_path / "empty.png", [], {}, title="peg insertion")
    pictures = [(tmp_path / name).read_bytes() for name in ("a.png", "b.png", "empty.png")]
    assert all(p.startswith(b"\x89PNG") for p in pictures)
    assert len(set(pictures)) == 3


def test_a_report_is_plain_json(tmp_path: Path) -> None:
    from cloud.run import read_json, write_json

    write_json(tmp_path / "report.json", REPORT)
    assert read_json(tmp_path / "report.json") == json.loads(json.dumps(REPORT))
    assert read_json(tmp_path / "nothing.json") == {}
