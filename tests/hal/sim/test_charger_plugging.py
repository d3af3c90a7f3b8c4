import numpy as np
import pytest

from hal.cell import Cell
from hal.sim.charger_plugging import ChargerPluggingConfig
from hal.sim.tools import PIN_RADIUS_M
from tests.hal.sim.rig import ARMS, assert_spread, drive, opened, place, seen, starts


def over_the_socket(cell: Cell, *, beside_m: float = 0.0, along_m: float = 0.0, turned_rad: float = 0.0) -> None:
    """Holds the charger over the socket, off it by so much in the socket's own directions."""
    state = seen(cell)
    yaw = state["socket.yaw"]
    x = state["socket.x"] + beside_m * np.cos(yaw) - along_m * np.sin(yaw)
    y = state["socket.y"] + beside_m * np.sin(yaw) + along_m * np.cos(yaw)
    place(cell, (x, y, 0.012, yaw + turned_rad))


@pytest.mark.slow
def test_socket_and_charger_start_anywhere_and_turned() -> None:
    with opened("charger_plugging") as cell:
        x, y, yaw, tip_x, tip_y, tip_z, sine = starts(
            cell, ("socket.x", "socket.y", "socket.yaw", "tip.x", "tip.y", "tip.z", "tip.yaw.sin")
        )
    for values, spread in ((x, 0.02), (y, 0.02), (yaw, 0.1745), (tip_x, 0.05), (tip_y, 0.05), (sine, np.sin(0.1745))):
        assert_spread(values, -spread, spread)
    np.testing.assert_allclose(tip_z, 0.06, atol=1e-3)
    assert abs(np.corrcoef(yaw, sine)[0, 1]) < 0.4


@pytest.mark.parametrize("robot", ARMS)
@pytest.mark.slow
def test_an_aligned_charger_goes_in_where_the_state_says_the_socket_is(robot: str) -> None:
    with opened("charger_plugging", robot) as cell:
        for seed in range(3):
            cell.task.reset(seed)
            over_the_socket(cell)
            assert drive(cell, 0, 0, -0.005, 0, steps=12)
            judgement = cell.task.judge()
            assert (judgement.reward, judgement.done, judgement.truncated) == (1.0, True, False)
            assert seen(cell)["tip.z"] <= -0.014


@pytest.mark.parametrize(
    "off",
    [{"turned_rad": 0.25}, {"turned_rad": -0.25}, {"beside_m": 0.004}, {"along_m": 0.005}, {"along_m": 0.020}],
    ids=str,
)
@pytest.mark.slow
def test_turned_or_beside_the_holes_it_stands_on_the_face(off: dict[str, float]) -> None:
    with opened("charger_plugging") as cell:
        cell.task.reset(1)
        over_the_socket(cell, **off)
        assert not drive(cell, 0, 0, -0.005, 0, steps=15)
        assert seen(cell)["tip.z"] > -0.003
        assert seen(cell)["tip.offset.z"] < -0.004  # the state shows that it presses


@pytest.mark.parametrize(
    ("off", "depth_m"),
    [({}, 0.0130), ({"turned_rad": 0.2}, 0.0145), ({"beside_m": 0.005}, 0.0145), ({"along_m": -0.005}, 0.0145)],
    ids=str,
)
def test_near_misses_are_worth_nothing(off: dict[str, float], depth_m: float) -> None:
    with opened("charger_plugging") as cell:
        cell.task.reset(1)
        over_the_socket(cell, **off)
        state = seen(cell)
        yaw = float(np.arctan2(state["tip.yaw.sin"], state["tip.yaw.cos"]))
        place(cell, (state["tip.x"], state["tip.y"], -depth_m, yaw))
        assert not cell.task.judge().success
        over_the_socket(cell)
        state = seen(cell)
        place(cell, (state["tip.x"], state["tip.y"], -0.0145, state["socket.yaw"]))
        assert cell.task.judge().success


def test_holes_are_wider_than_pins_by_the_clearance() -> None:
    for clearance_m in (0.001, 0.003):
        with opened("charger_plugging", clearance_m=clearance_m) as cell:
            model = cell.task.arm.world.model  # type: ignore[attr-defined]
            socket = model.body("socket").id
            walls = [i for i in range(model.ngeom) if model.geom_bodyid[i] == socket and model.geom_conaffinity[i]]
            inner_m = min(abs(model.geom_pos[i][0]) - model.geom_size[i][0] for i in walls if model.geom_pos[i][0])
            assert 2 * inner_m == pytest.approx(2 * PIN_RADIUS_M + clearance_m)


@pytest.mark.parametrize(
    ("bad", "line"),
    [
        ({"clearance_m": 0.0}, "clearance_m = 0.0, allowed above 0 to 0.01"),
        ({"clearance_m": 0.02}, "clearance_m = 0.02, allowed above 0 to 0.01"),
        ({"depth_m": 0.0}, "depth_m = 0.0, allowed above 0 and below 0.018"),
        ({"depth_m": 0.018}, "depth_m = 0.018, allowed above 0 and below 0.018"),
    ],
)
def test_a_socket_that_cannot_work_is_refused(bad: dict[str, float], line: str) -> None:
    with pytest.raises(ValueError, match=line):
        ChargerPluggingConfig(**bad)  # type: ignore[arg-type]
