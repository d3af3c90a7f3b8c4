import numpy as np
import pytest

from hal.cell import Cell
from hal.sim.cap_tightening import CapTighteningConfig
from tests.hal.sim.rig import ARMS, assert_spread, drive, opened, place, seen, starts

SIDE_RAD = np.pi / 4


def round_the_cap(cell: Cell, left_rad: float, yaw: float) -> None:
    """Puts open fingers around a cap that has so much left to turn."""
    state = seen(cell)
    place(cell, (state["cap.x"], state["cap.y"], -0.006, yaw), {"cap_turn": [left_rad]})


@pytest.mark.slow
def test_bottle_and_cap_start_anywhere() -> None:
    with opened("cap_tightening") as cell:
        x, y, left, tip_x, tip_y = starts(cell, ("cap.x", "cap.y", "cap.left", "tip.x", "tip.y"))
    assert_spread(x, -0.04, 0.04)
    assert_spread(y, -0.04, 0.04)
    assert_spread(left, 0.5, 1.3)
    assert_spread(tip_x, -0.05, 0.05)
    assert_spread(tip_y, -0.05, 0.05)


@pytest.mark.parametrize("robot", ARMS)
@pytest.mark.slow
def test_gripped_and_turned_clockwise_the_cap_goes_to_its_stop(robot: str) -> None:
    with opened("cap_tightening", robot) as cell:
        cell.task.reset(0)
        round_the_cap(cell, 0.4, 0.4)
        drive(cell, 0, 0, 0, 0, 0.0, steps=4)
        assert seen(cell)["gripper.width"] == pytest.approx(0.030, abs=2e-3)
        assert drive(cell, 0, 0, 0, -0.08, 0.0, steps=10)
        assert cell.task.judge().reward == 1.0
        drive(cell, 0, 0, 0, -0.1, 0.0, steps=3)
        assert seen(cell)["cap.left"] > -0.05  # the stop holds


@pytest.mark.slow
def test_turning_the_other_way_or_with_open_fingers_does_not_tighten() -> None:
    with opened("cap_tightening") as cell:
        cell.task.reset(0)
        round_the_cap(cell, 0.4, 0.4 - SIDE_RAD)
        drive(cell, 0, 0, 0, 0, 0.0, steps=4)
        assert not drive(cell, 0, 0, 0, 0.08, 0.0, steps=5)
        assert seen(cell)["cap.left"] > 0.65
        round_the_cap(cell, 0.4, 0.4)
        assert not drive(cell, 0, 0, 0, -0.08, 0.08, steps=10)
        assert seen(cell)["cap.left"] == pytest.approx(0.4, abs=1e-3)  # friction holds it where it is


@pytest.mark.slow
def test_a_cap_that_is_given_a_spin_is_stopped_by_its_thread() -> None:
    with opened("cap_tightening") as cell:
        cell.task.reset(0)
        round_the_cap(cell, 0.4, 0.0)
        cell.task.arm.world.data.joint("cap_turn").qvel[0] = -5.0  # type: ignore[attr-defined]
        assert not drive(cell, 0, 0, 0, 0, 0.08, steps=2)
        assert 0.25 < seen(cell)["cap.left"] < 0.39


@pytest.mark.slow
def test_one_stroke_is_not_enough_for_the_farthest_starts() -> None:
    with opened("cap_tightening") as cell:
        cell.task.reset(0)
        round_the_cap(cell, 1.3, 1.3 - 2 * SIDE_RAD + 0.0)
        drive(cell, 0, 0, 0, 0, 0.0, steps=4)
        assert not drive(cell, 0, 0, 0, -0.1, 0.0, steps=20)
        assert seen(cell)["cap.left"] > 0.3


@pytest.mark.parametrize(("left_rad", "tight"), [(0.029, True), (0.031, False), (0.5, False)])
def test_only_a_tight_cap_counts(left_rad: float, tight: bool) -> None:
    with opened("cap_tightening") as cell:
        cell.task.reset(0)
        round_the_cap(cell, left_rad, 0.0)
        judgement = cell.task.judge()
        assert (judgement.reward, judgement.done, judgement.success) == (float(tight), tight, tight)


def test_a_cap_looks_alike_from_eight_sides() -> None:
    with opened("cap_tightening") as cell:
        cell.task.reset(0)
        looks = []
        for k in range(3):
            round_the_cap(cell, 0.1 + k * SIDE_RAD, 0.0)
            looks.append((seen(cell)["cap.sides.sin"], seen(cell)["cap.sides.cos"]))
    np.testing.assert_allclose(looks, [(np.sin(0.8), np.cos(0.8))] * 3, atol=1e-5)


@pytest.mark.parametrize(
    "bad", [{"turn_rad": (0.5,)}, {"turn_rad": (1.0, 0.5)}, {"turn_rad": (0.5, 4.0)}, {"tight_rad": 0.6}]
)
def test_turns_that_cannot_be_are_refused(bad: dict[str, float]) -> None:
    with pytest.raises(
        ValueError, match=r"turn_rad = \[.*\], tight_rad = .*, allowed 0 < tight_rad < low <= high <= 3"
    ):
        CapTighteningConfig(**bad)  # type: ignore[arg-type]
