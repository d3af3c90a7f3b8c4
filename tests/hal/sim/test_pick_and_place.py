from typing import Any

import numpy as np
import pytest

from hal.cell import Cell
from hal.sim.pick_and_place import PickAndPlaceConfig
from tests.hal.sim.rig import ARMS, assert_spread, drive, opened, place, seen, starts

ORIGIN = np.array([0.45, 0.0, 0.10])
OPEN, SHUT = 0.08, 0.0


def put_cube(cell: Cell, at_m: tuple[float, float, float], tip: tuple[float, float, float]) -> None:
    """Lets the cube be at a place of the work frame, and the tip at another, fingers open."""
    place(cell, (*tip, 0.0), {"cube": (*(ORIGIN + at_m), 1, 0, 0, 0)})


@pytest.mark.slow
def test_cube_and_tray_start_in_their_halves() -> None:
    names = ("cube.x", "cube.y", "tray.x", "tray.y", "tip.x", "tip.y", "cube.turn.sin", "cube.turn.cos", "cube.z")
    with opened("pick_and_place") as cell:
        columns = starts(cell, names)
        assert seen(cell)["gripper.width"] == pytest.approx(OPEN)
    assert_spread(columns[0], -0.05, 0.05)
    assert_spread(columns[1], -0.065, -0.035)
    assert_spread(columns[2], -0.04, 0.04)
    assert_spread(columns[3], 0.039, 0.045)
    assert_spread(columns[4], -0.05, 0.05)
    assert_spread(columns[5], -0.05, 0.05)
    assert_spread(np.arctan2(columns[6], columns[7]) / 4, -0.35, 0.35)
    np.testing.assert_allclose(columns[8], 0.015, atol=1e-6)


@pytest.mark.slow
def test_a_cube_that_lies_still_stays_where_it_is() -> None:
    with opened("pick_and_place") as cell:
        cell.task.reset(0)
        before = seen(cell)
        drive(cell, 0, 0, 0, 0, OPEN, steps=20)
        after = seen(cell)
    for name in ("cube.x", "cube.y", "cube.z", "cube.turn.sin"):
        assert after[name] == pytest.approx(before[name], abs=5e-4)


@pytest.mark.parametrize("robot", ARMS)
@pytest.mark.slow
def test_closed_fingers_carry_the_cube_and_open_ones_let_it_fall(robot: str) -> None:
    with opened("pick_and_place", robot) as cell:
        cell.task.reset(0)
        put_cube(cell, (0.0, -0.05, 0.015), (0.0, -0.05, 0.006))
        drive(cell, 0, 0, 0, 0, SHUT, steps=4)
        assert seen(cell)["gripper.width"] == pytest.approx(0.030, abs=2e-3)
        drive(cell, 0, 0, 0.01, 0, SHUT, steps=6)
        drive(cell, 0.01, 0.0, 0, 0.05, SHUT, steps=4)
        state = seen(cell)
        assert state["cube.z"] > 0.06
        assert [state["cube.x"], state["cube.y"]] == pytest.approx([state["tip.x"], state["tip.y"]], abs=3e-3)
        turn = np.arctan2(state["cube.turn.sin"], state["cube.turn.cos"]) / 4
        assert turn == pytest.approx(np.arctan2(state["tip.yaw.sin"], state["tip.yaw.cos"]), abs=0.05)
        drive(cell, 0, 0, 0, 0, OPEN, steps=5)
        assert seen(cell)["cube.z"] < 0.02
        assert not cell.task.judge().success  # on the table is not in the tray


def tray(cell: Cell) -> tuple[float, float]:
    return seen(cell)["tray.x"], seen(cell)["tray.y"]


@pytest.mark.slow
def test_the_cube_in_the_tray_counts_once_the_fingers_let_go() -> None:
    with opened("pick_and_place") as cell:
        cell.task.reset(0)
        x, y = tray(cell)
        put_cube(cell, (x, y, 0.017), (x, y, 0.080))
        assert drive(cell, 0, 0, 0, 0, OPEN)
        assert cell.task.judge().reward == 1.0


@pytest.mark.slow
def test_a_held_cube_in_the_tray_is_not_yet_placed() -> None:
    with opened("pick_and_place") as cell:
        cell.task.reset(0)
        x, y = tray(cell)
        world: Any = cell.task.arm.world  # type: ignore[attr-defined]
        fingers = {"finger_left": [0.015], "finger_right": [0.015]}
        place(cell, (x, y, 0.012, 0.0), {"cube": (*np.add(ORIGIN, (x, y, 0.017)), 1, 0, 0, 0), **fingers})
        assert world.width_m == pytest.approx(0.030)
        assert not cell.task.judge().success


@pytest.mark.parametrize("off_m", [(0.036, 0.0, 0.0), (0.0, -0.036, 0.0), (0.0, 0.0, 0.010)])
def test_on_the_rim_or_above_the_tray_is_worth_nothing(off_m: tuple[float, float, float]) -> None:
    with opened("pick_and_place") as cell:
        cell.task.reset(0)
        x, y = tray(cell)
        put_cube(cell, (x + off_m[0], y + off_m[1], 0.017 + off_m[2]), (x, y, 0.080))
        judgement = cell.task.judge()
        assert (judgement.reward, judgement.done, judgement.success) == (0.0, False, False)


def test_a_cube_looks_alike_from_four_sides() -> None:
    with opened("pick_and_place") as cell:
        cell.task.reset(0)
        turns = []
        for k in range(4):
            half = (0.2 + k * np.pi / 2) / 2
            place(
                cell, (0, 0, 0.08, 0), {"cube": (*np.add(ORIGIN, (0, -0.05, 0.015)), np.cos(half), 0, 0, np.sin(half))}
            )
            state = seen(cell)
            turns.append((state["cube.turn.sin"], state["cube.turn.cos"]))
    np.testing.assert_allclose(turns, [(np.sin(0.8), np.cos(0.8))] * 4, atol=1e-6)


@pytest.mark.parametrize("name", ["cube_spread_m", "tray_spread_m"])
def test_a_spread_of_another_length_is_refused(name: str) -> None:
    with pytest.raises(ValueError, match=rf"{name} = \[0.1\], allowed 2 numbers"):
        PickAndPlaceConfig(**{name: (0.1,)})  # type: ignore[arg-type]
