"""cloud.progress: what a person sees, on a terminal and in a log."""

import io

from rich.console import Console

from cloud.progress import FIELDS, Progress, line, panel, spark
from user_rl.clock import FakeClock

STATUS = {
    "phase": "learning", "success_rate": 0.84, "episodes": 120, "env_steps": 2345, "env_steps_per_s": 25.04,
    "updates": 6789, "updates_per_s": 80.0, "update_ratio": 3.0, "buffer_rows": 3456, "version": 42,
    "version_lag": 1.25, "intervention_rate": 0.1, "finished_share": 0.5,
    "disk_free_bytes": 79_400_000_000, "disk_bytes_per_hour": 6_400_000_000, "disk_full_in_h": 12.4,
}  # fmt: skip


def test_a_line_tells_everything_that_was_promised() -> None:
    assert line(STATUS) == (
        "learning: success, last 50 84 %, episodes 120, env steps 2,345, env steps/s 25.0, updates 6,789, "
        "updates/s 80.0, updates per step 3.0, buffer rows 3,456, weight version 42 (lag 1.2), interventions 10 %, "
        "disk 79.4 GB free, disk full in 12 h (6.4 GB/h)"
    )


def test_a_run_that_is_over_fills_no_disk() -> None:
    assert line({**STATUS, "phase": "done"}).endswith("disk full in -")


def test_what_is_not_known_yet_is_a_dash_and_never_an_error() -> None:
    assert line({}).count(" -") == len(FIELDS) - 1


def test_the_panel_draws_every_field_and_the_curve() -> None:
    console = Console(file=io.StringIO(), width=100)
    console.print(panel("peg-1", STATUS, [0.0, 0.5, 1.0]))
    text = console.file.getvalue()  # type: ignore[attr-defined]  # it is the StringIO above
    for name, write in FIELDS:
        assert name in text
        assert write(STATUS) in text
    assert "peg-1" in text
    assert "learning" in text
    assert " ▄█" in text


def test_trouble_is_told_and_stays_away_when_there_is_none() -> None:
    status = STATUS | {"trouble": "sim0: a joint is hot"}
    assert line(status).endswith("; sim0: a joint is hot")
    console = Console(file=io.StringIO(), width=100)
    console.print(panel("peg-1", status, []))
    assert "sim0: a joint is hot" in console.file.getvalue()  # type: ignore[attr-defined]  # it is the StringIO above


def test_the_cells_with_the_fullest_disks_are_shown_and_the_rest_is_counted() -> None:
    cells = {f"arm-{i}": {"state": "running", "spool_bytes": i * 10**6, "disk_free_bytes": i * 10**9} for i in range(9)}
    cells["old"] = {"state": "running", "spool_bytes": 0, "disk_free_bytes": None}
    console = Console(file=io.StringIO(), width=100)
    console.print(panel("peg-1", STATUS | {"cells": dict(reversed(cells.items()))}, []))
    text = console.file.getvalue()  # type: ignore[attr-defined]  # it is the StringIO above
    assert [f"arm-{i} " in text for i in range(9)] == [True] * 6 + [False] * 3
    assert text.index("arm-0 ") < text.index("arm-5 ")
    assert "spool 5 MB  5 GB free" in text
    assert "and 4 more" in text


def test_each_cells_success_stands_beside_it() -> None:
    cells = {
        name: {"state": "running", "spool_bytes": 0, "disk_free_bytes": 10**9} for name in ("r-arm6-0", "r-panda-0")
    }
    console = Console(file=io.StringIO(), width=100)
    console.print(panel("r", STATUS | {"cells": cells, "success_by_cell": {"r-arm6-0": 0.37}}, []))
    lines = {row.split()[1]: row for row in console.file.getvalue().splitlines() if "running" in row}  # type: ignore[attr-defined]
    assert "running  37 %" in lines["r-arm6-0"]
    assert "running  -" in lines["r-panda-0"]


def test_a_spark_stays_inside_its_blocks() -> None:
    assert spark([-1.0, 0.0, 0.5, 1.0, 2.0]) == "  ▄██"


def test_episodes_that_a_person_helped_in_have_no_success_rate_and_break_nothing() -> None:
    clock, out = FakeClock(), io.StringIO()
    progress = Progress("peg-1", clock=clock, file=out)
    progress.show(STATUS | {"success_rate": None, "episodes": 3})
    progress.close()
    assert "success, last 50 -, episodes 3" in out.getvalue()


def test_a_log_gets_one_line_every_ten_seconds() -> None:
    clock, out = FakeClock(), io.StringIO()
    progress = Progress("peg-1", clock=clock, file=out)
    for _ in range(25):
        progress.show(STATUS)
        clock.advance(1.0)
    progress.close()
    progress.close()
    assert out.getvalue().count("learning: ") == 3
