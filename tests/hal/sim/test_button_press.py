import numpy as np
import pytest

from hal.sim.button_press import ButtonPressConfig
from tests.hal.sim.rig import drive, opened, place, seen


@pytest.mark.slow
def test_button_and_tip_start_anywhere() -> None:
    names = ("button.x", "button.y", "tip.x", "tip.y", "tip.z", "tip.yaw.sin")
    with opened("button_press") as cell:
        starts = []
        for seed in range(60):
            cell.task.reset(seed)
            state = seen(cell)
            starts.append([state[name] for name in names])
            assert state["button.depth"] == 0.0
    columns = np.array(starts).T
    for values, spread in zip(columns[[0, 1, 2, 3, 5]], (0.05, 0.05, 0.05, 0.05, np.sin(0.1745)), strict=True):
        assert spread * 0.85 < np.abs(values).max() <= spread * 1.01
        assert abs(values.mean()) < spread * 0.3
    np.testing.assert_allclose(columns[4], 0.06, atol=1e-3)
    assert abs(np.corrcoef(columns[0], columns[2])[0, 1]) < 0.4  # one does not tell the other


@pytest.mark.parametrize("robot", ["panda_sim", "arm6_sim"])
@pytest.mark.slow
def test_the_button_is_pressed_where_the_state_says_it_stands(robot: str) -> None:
    with opened("button_press", robot) as cell:
        for seed in range(3):
            cell.task.reset(seed)
            state = seen(cell)
            place(cell, (state["button.x"], state["button.y"], 0.015, 0.0))
            assert not cell.task.judge().success
            assert drive(cell, 0, 0, -0.01, 0, steps=8)
            judgement = cell.task.judge()
            assert (judgement.reward, judgement.done, judgement.truncated) == (1.0, True, False)
            assert 0.005 <= seen(cell)["button.depth"] < 0.0095


@pytest.mark.parametrize("beside_m", [(0.022, 0.0), (0.0, -0.022), (0.045, 0.0)])
@pytest.mark.slow
def test_pressing_beside_the_button_is_worth_nothing(beside_m: tuple[float, float]) -> None:
    with opened("button_press") as cell:
        cell.task.reset(2)
        state = seen(cell)
        place(cell, (state["button.x"] + beside_m[0], state["button.y"] + beside_m[1], 0.01, 0.0))
        assert not drive(cell, 0, 0, -0.01, 0, steps=15)
        assert abs(seen(cell)["button.depth"]) < 1e-3


@pytest.mark.slow
def test_half_a_press_springs_back() -> None:
    with opened("button_press") as cell:
        cell.task.reset(2)
        state = seen(cell)
        place(cell, (state["button.x"], state["button.y"], 0.002, 0.0))
        assert not drive(cell, 0, 0, -0.005, 0)
        assert not drive(cell, 0, 0, 0, 0, steps=3)
        assert 0.001 < seen(cell)["button.depth"] < 0.005
        assert not drive(cell, 0, 0, 0.015, 0, steps=3)
        assert seen(cell)["button.depth"] == pytest.approx(0.0, abs=2e-4)


@pytest.mark.parametrize("depth_m", [0.0, 0.008])
def test_a_depth_that_no_press_reaches_is_refused(depth_m: float) -> None:
    with pytest.raises(ValueError, match=f"depth_m = {depth_m}, allowed above 0 and below 0.008"):
        ButtonPressConfig(depth_m=depth_m)
