import numpy as np
import pytest

from hal.cell import Cell
from hal.sim.table_cleanup import TableCleanupConfig
from tests.hal.sim.rig import ARMS, assert_spread, drive, opened, place, seen, starts

ORIGIN = np.array([0.45, 0.0, 0.10])
LYING, IN_BIN = 0.009, -0.041


def put_blocks(cell: Cell, *places: tuple[float, float, float], tip: tuple[float, ...] = (0, 0, 0.06, 0)) -> None:
    things = {f"block{i}": (*(ORIGIN + at_m), 1, 0, 0, 0) for i, at_m in enumerate(places)}
    place(cell, tip, things)  # type: ignore[arg-type]


@pytest.mark.slow
def test_blocks_start_scattered_and_apart() -> None:
    names = tuple(f"block{i}.{axis}" for i in range(3) for axis in "xyz")
    with opened("table_cleanup") as cell:
        columns = starts(cell, names)
    for i in range(3):
        assert_spread(columns[3 * i], -0.05, 0.05)
        assert_spread(columns[3 * i + 1], -0.04, 0.02)
        np.testing.assert_allclose(columns[3 * i + 2], LYING, atol=1e-6)
    for a, b in ((0, 3), (0, 6), (3, 6)):
        assert np.abs(columns[a : a + 2] - columns[b : b + 2]).max(axis=0).min() > 0.03


@pytest.mark.parametrize("robot", ARMS)
@pytest.mark.slow
def test_a_sweep_takes_a_block_over_the_edge(robot: str) -> None:
    with opened("table_cleanup", robot, blocks=1) as cell:
        cell.task.reset(0)
        put_blocks(cell, (0.0, 0.0, LYING), tip=(0.0, -0.04, 0.003, 0.0))
        assert drive(cell, 0, 0.015, 0, 0, steps=12)
        judgement = cell.task.judge()
        assert (judgement.reward, judgement.done, judgement.truncated) == (1.0, True, False)
        drive(cell, 0, 0, 0, 0, steps=5)
        assert seen(cell)["block0.z"] < -0.03


@pytest.mark.slow
def test_a_sweep_beside_or_above_a_block_leaves_it() -> None:
    for tip in ((0.06, -0.04, 0.003, 0.0), (0.0, -0.04, 0.03, 0.0)):
        with opened("table_cleanup", blocks=1) as cell:
            cell.task.reset(0)
            put_blocks(cell, (0.0, 0.0, LYING), tip=tip)
            assert not drive(cell, 0, 0.015, 0, 0, steps=9)
            assert seen(cell)["block0.y"] == pytest.approx(0.0, abs=1e-3)


@pytest.mark.parametrize(
    "last",
    [(0.0, 0.03, LYING), (0.0, 0.048, LYING), (0.0, 0.08, 0.02), (0.0, 0.135, IN_BIN), (0.11, 0.08, IN_BIN)],
)
def test_a_block_on_the_table_over_the_bin_or_beside_it_is_not_cleaned_up(last: tuple[float, float, float]) -> None:
    with opened("table_cleanup") as cell:
        cell.task.reset(0)
        put_blocks(cell, (0.0, 0.08, IN_BIN), (0.04, 0.08, IN_BIN), last)
        assert not cell.task.judge().success
        put_blocks(cell, (0.0, 0.08, IN_BIN), (0.04, 0.08, IN_BIN), (-0.04, 0.08, IN_BIN))
        assert cell.task.judge().success


def test_counted_blocks_are_worth_a_share_each_once() -> None:
    with opened("table_cleanup", reward="count") as cell:
        cell.task.reset(0)
        table = [(0.0, 0.0, LYING), (0.04, 0.0, LYING), (-0.04, 0.0, LYING)]
        rewards = []
        for done in range(4):
            put_blocks(cell, *[(x, 0.08, IN_BIN) if i < done else (x, y, z) for i, (x, y, z) in enumerate(table)])
            rewards.append(cell.task.judge().reward)
            assert cell.task.judge().reward == 0.0
        assert rewards == pytest.approx([0, 1 / 3, 1 / 3, 1 / 3])
        cell.task.reset(1)
        assert cell.task.judge().reward == 0.0  # a new episode counts afresh


@pytest.mark.slow
def test_nothing_leaves_the_table_but_into_the_bin() -> None:
    random = np.random.default_rng(1)
    with opened("table_cleanup") as cell:
        for seed in range(2):
            cell.task.reset(seed)
            for _ in range(60):
                cell.observe()
                down = np.array([*random.choice([-0.015, 0.015], 2), -0.015, random.choice([-0.1, 0.1])])
                cell.robot.command(down.astype(np.float32))
            state = seen(cell)
            for i in range(3):
                assert abs(state[f"block{i}.x"]) < 0.1
                assert -0.12 < state[f"block{i}.y"] < 0.13


@pytest.mark.parametrize(
    ("bad", "line"),
    [
        ({"blocks": 0}, "blocks = 0, allowed 1 to 4"),
        ({"blocks": 5}, "blocks = 5, allowed 1 to 4"),
        ({"block_low_m": (0.0, 0.0)}, r"block_low_m = \[0.0, 0.0\], allowed well below block_high_m"),
        ({"block_high_m": (0.05,)}, r"allowed well below block_high_m = \[0.05\]"),
    ],
)
def test_a_table_that_cannot_be_laid_is_refused(bad: dict[str, int], line: str) -> None:
    with pytest.raises(ValueError, match=line):
        TableCleanupConfig(**bad)  # type: ignore[arg-type]
