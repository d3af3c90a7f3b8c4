"""A whole run of two arms that differ: one learner, one schema, a share of the demonstrations and a figure for each."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from tests.system.rig import Run
from user_rl.log import Reader
from user_rl.rows import Klass, cell_of

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]

CELLS = "cells={panda: {}, arm6: {robot: {name: arm6_sim, control: joints}}}"


@pytest.fixture
def run(tmp_path: Path) -> Iterator[Run]:
    run = Run(tmp_path, CELLS, "demonstrations.count=4", "learner.max_updates=200", "evaluation.baseline_updates=20")
    yield run
    run.close()


def test_two_different_arms_teach_one_learner(run: Run) -> None:
    report = run.finish()
    assert report["updates"] == 200
    assert (report["rows_lost"], report["rows_duplicated"], report["rows_differing"]) == (0, 0, 0)
    found = report["success_by_cell"]
    assert {name: (cell["robot"], cell["task"]) for name, cell in found.items()} == {
        "panda": ("panda_sim", "peg_insertion"), "arm6": ("arm6_sim", "peg_insertion"),
    }  # fmt: skip
    assert [cell["episodes"] for cell in found.values()] == [2, 2]
    assert [r["episodes"] for r in (report["evaluation"], report["baseline"])] == [4, 4]
    assert "panda, panda_sim at peg_insertion" in run.output()
    with Reader(run.folder.log) as log:
        both_arms_recorded_their_share(log)
        padding_is_recorded_as_nothing(log)
    for cell in ("panda", "arm6"):
        with Reader(run.folder.edge(f"r-{cell}-0") / "spool") as spool:
            assert {cell_of(stream) for stream in spool.streams()} == {f"r-{cell}-0"}


def both_arms_recorded_their_share(log: Reader) -> None:
    shown = [cell_of(e.stream) for e in log.episodes() if e.klass == Klass.DEMONSTRATION and e.success]
    online = {cell_of(e.stream) for e in log.episodes() if e.klass == Klass.ONLINE}
    assert sorted(shown) == ["r-arm6-0"] * 2 + ["r-panda-0"] * 2
    assert online == {"r-arm6-0", "r-panda-0"}


def padding_is_recorded_as_nothing(log: Reader) -> None:
    """Four elements move a tip, six move joints: each arm sends its own, and its mask says so."""
    schemas = log.streams()
    assert len({schema.digest for schema in schemas.values()}) == 1
    for stream, schema in schemas.items():
        rows = np.concatenate([schema.view(chunk.data) for chunk in log.scan(stream)])
        state = schema.observation["observation.state"]
        masks = [state.names.index(f"mask.{name}") for name in schema.action.names]  # type: ignore[union-attr]
        own = 4 if "panda" in stream else 6
        steps = rows[rows["kind"] == 0]
        there = steps["observation.state"][:, masks].astype(bool)
        assert (there.sum(axis=1) == own).all()
        assert (there == there[0]).all()
        assert not steps["action.sent"][~there].any()
        assert not steps["action"][~there].any()
        assert steps["action.sent"][there].any()
