"""cloud.overview: every run in one table, on a narrow terminal too."""

import io
import os
from typing import Any

import pytest
from rich.console import Console

from cloud.overview import overview, phase, phase_in_full

LONG = "peg_insertion_with_two_cameras-rlpd-20260101-120000"
STATUS: dict[str, Any] = {
    "phase": "waiting for demonstrations 3/20", "success_rate": 0.5, "episodes": 12_000, "env_steps": 1_234_567,
    "updates": 2_345_678, "driver_pid": 0, "disk_full_in_h": 12.3,
}  # fmt: skip


def shown(width: int, **statuses: dict[str, Any]) -> str:
    console = Console(file=io.StringIO(), width=width)
    console.print(overview(statuses))
    return console.file.getvalue()  # type: ignore[attr-defined, no-any-return]  # it is the StringIO above


def test_a_long_name_is_folded_at_80_columns_and_nothing_is_lost() -> None:
    text = shown(80, **{LONG: STATUS})
    rows = text.splitlines()[1:-1]
    assert "".join(row.split("  ")[0].strip() for row in rows) == LONG
    for number in ("50 %", "12,000", "1,234,567", "2,345,678", "in 12 h"):
        assert number in rows[0]
    assert "…" not in text


def test_a_wide_table_has_one_line_for_each_run() -> None:
    rows = shown(160, **{LONG: STATUS, "b": {}}).splitlines()
    assert rows[1].startswith(f"{LONG}  stopped")
    assert rows[2].split() == ["b", "not", "started", "-", "0", "0", "0", "-"]
    assert rows[3].strip() == "what is stopped goes on with user-rl resume RUN"


def test_where_nothing_is_stopped_nobody_is_told_to_resume() -> None:
    assert "resume" not in shown(160, done={"phase": "done"})


@pytest.mark.parametrize(("said", "short", "full"), [
    ({}, "not started", "not started"),
    ({"phase": "done", "driver_pid": 0}, "done", "done"),
    ({"phase": "learning", "driver_pid": 2**22 + 1}, "stopped", "stopped (learning); go on with user-rl resume"),
    ({"phase": "learning", "driver_pid": os.getppid()}, "stopped", "stopped (learning); go on with user-rl resume"),
    ({"phase": "learning"}, "stopped", "stopped (learning); go on with user-rl resume"),
])  # fmt: skip
def test_a_run_whose_launcher_is_gone_is_stopped(said: dict[str, Any], short: str, full: str) -> None:
    assert (phase(said), phase_in_full(said)) == (short, full)


def test_a_run_that_is_over_fills_no_disk() -> None:
    assert "12 h" in shown(160, a=STATUS)
    assert "12 h" not in shown(160, a={**STATUS, "phase": "done"})
