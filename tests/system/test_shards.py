"""A whole run with two shards: one stops answering, its cell moves; it comes back and gets a cell again."""

import os
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from cloud.ending import compare_logs
from cloud.shards.reader import open_source
from cloud.shards.table import read_table
from tests.system.rig import PATIENCE_S, Run

pytestmark = [pytest.mark.slow, pytest.mark.long, pytest.mark.timeout(600)]


@pytest.fixture
def run(tmp_path: Path) -> Iterator[Run]:
    launched = Run(
        tmp_path, "robots.count=2", "gateway.shards=2", "gateway.dead_after_s=4", "learner.max_updates=null",
        "algorithm.update_ratio=1",
    )  # fmt: skip
    yield launched
    launched.close()


def homes(run: Run) -> list[int]:
    """The shards of the run's cells."""
    table = read_table(run.folder.shards)
    return sorted(table.home(cell).shard for cell in run.status["cells"])


def rows_at(status: dict[str, Any], shard: int) -> int:
    return int(status.get("shards", {}).get(str(shard), {}).get("rows", 0))


def test_a_shard_dies_and_returns_and_every_row_is_there_once(run: Run) -> None:
    run.wait(lambda s: rows_at(s, 0) > 100 and rows_at(s, 1) > 100, "rows at both shards")
    status = run.wait(lambda s: s.get("updates", 0) > 50, "the first updates")
    assert homes(run) == [0, 1]
    os.kill(status["gateway_pids"]["1"], signal.SIGSTOP)  # it neither answers nor gives its log back
    run.wait(lambda _: homes(run) == [0, 0], "a move to the shard that lives")
    moved = run.wait(lambda s: s["gateway_pids"].get("1") != status["gateway_pids"]["1"], "another process")
    run.wait(lambda _: homes(run) == [0, 1], "a cell for the shard that came back")
    run.wait(lambda s: rows_at(s, 1) > 50 and s["updates"] > moved["updates"], "rows at the shard that came back")
    run.driver.send_signal(signal.SIGTERM)  # robots first, so that what they hold still arrives
    assert run.driver.wait(PATIENCE_S) == 130, run.output()
    same = compare_logs(run.folder)
    assert same.rows > status["env_steps"]
    assert (same.rows_lost, same.rows_duplicated, same.rows_differing) == (0, 0, 0)
    source = open_source(run.folder)
    steps: dict[str, list[int]] = {}
    for ref in source.refs(0, 10**6):
        steps.setdefault(ref.stream, []).extend(range(ref.first, ref.first + ref.count))
    source.close()
    assert sum(len(of_stream) for of_stream in steps.values()) == same.rows
    assert all(of_stream == list(range(len(of_stream))) for of_stream in steps.values())
