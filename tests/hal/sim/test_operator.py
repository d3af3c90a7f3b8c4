from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

from hal.cell import Cell
from hal.kits import check_teleop
from hal.make import CellConfig, make_cell
from hal.sim.operator import ScriptedOperator
from hal.sim.script import Glance
from user_rl.clock import FreeRunningClock
from user_rl.errors import HardwareError
from user_rl.specs import Array


def make(robot: str = "panda_sim", *, seed: int = 1, **teleop: Any) -> Cell:  # noqa: ANN401
    config = CellConfig(
        robot={"name": robot}, task={"name": "peg_insertion"}, teleop={"name": "scripted", **teleop}
    )  # fmt: skip
    return make_cell(config, name="cell", clock=FreeRunningClock(), seed=seed)


@pytest.fixture
def opened() -> Iterator[list[Cell]]:
    cells: list[Cell] = []
    yield cells
    for cell in cells:
        cell.close()


def demonstrate(cell: Cell, seed: int) -> tuple[int, bool, list[Array]]:
    """One demonstration: its length, whether it succeeded, and its actions."""
    assert cell.teleop is not None
    cell.task.reset(seed)
    cell.teleop.begin(demonstrate=True)
    actions: list[Array] = []
    for _ in range(cell.task.max_steps):
        cell.observe()
        reading = cell.teleop.poll()
        assert reading.action is not None
        assert not reading.is_intervention
        actions.append(cell.robot.command(reading.action))
        if cell.task.judge().done:
            break
    return len(actions), cell.task.judge().success, actions


@pytest.mark.slow
@pytest.mark.parametrize("robot", ["panda_sim", "arm6_sim"])
def test_demonstrations_succeed_at_a_persons_pace(robot: str, opened: list[Cell]) -> None:
    cell = make(robot)
    opened.append(cell)
    cell.open()
    lengths, successes, _ = zip(*(demonstrate(cell, seed) for seed in range(60)), strict=True)
    assert sum(successes) >= 57  # 95 %
    assert 22 <= np.median(lengths) <= 40


def test_a_demonstration_is_shaky_and_never_twice_the_same(opened: list[Cell]) -> None:
    cell = make()
    opened.append(cell)
    cell.open()
    first, second = (np.array(demonstrate(cell, 1)[2][:10]) for _ in range(2))
    assert not np.array_equal(first, second)
    assert 0.001 < np.abs(first - second).std() < 0.02


def test_operators_of_one_seed_shake_alike(opened: list[Cell]) -> None:
    runs = []
    for seed in (4, 4, 5):
        cell = make(seed=seed)
        opened.append(cell)
        cell.open()
        runs.append(np.array(demonstrate(cell, 1)[2][:10]).tobytes())
    assert runs[0] == runs[1]
    assert runs[0] != runs[2]


def interventions(cell: Cell, action: Array, steps: int = 60) -> list[bool]:
    """At which of the policy's steps the operator acts, while the policy commands `action` all the time."""
    assert cell.teleop is not None
    cell.task.reset(0)
    cell.teleop.begin(demonstrate=False)
    acts = []
    for _ in range(steps):
        cell.observe()
        reading = cell.teleop.poll()
        assert (reading.action is not None) == reading.is_intervention
        cell.robot.command(action if reading.action is None else reading.action)
        acts.append(reading.is_intervention)
    return acts


STILL = np.zeros(4, np.float32)


def test_by_default_the_operator_keeps_its_hands_off(opened: list[Cell]) -> None:
    cell = make()
    opened.append(cell)
    cell.open()
    assert not any(interventions(cell, STILL))


def test_a_demonstration_is_no_intervention_however_long_it_stalls(opened: list[Cell]) -> None:
    cell = make(intervene_after_steps=1)
    opened.append(cell)
    cell.open()
    demonstrate(cell, 0)
    assert cell.teleop is not None
    cell.teleop.begin(demonstrate=True)
    assert not any(cell.teleop.poll().is_intervention for _ in range(5))


def test_a_policy_that_stalls_is_helped_for_a_few_steps(opened: list[Cell]) -> None:
    cell = make(intervene_after_steps=8, intervene_steps=5)
    opened.append(cell)
    cell.open()
    acts = interventions(cell, STILL)
    assert not any(acts[:8])
    assert all(acts[8:13])
    assert not any(acts[13:21])  # hands off again, until it stalls again
    assert any(acts[21:30])


def test_help_brings_the_peg_nearer(opened: list[Cell]) -> None:
    cell = make(intervene_after_steps=4, intervene_steps=10)
    opened.append(cell)
    cell.open()
    cell.task.reset(0)
    before = np.abs(cell.robot.read().values[:3]).sum()
    interventions(cell, STILL, steps=15)
    assert np.abs(cell.robot.read().values[:3]).sum() < before - 0.02


def test_a_policy_that_gets_on_is_left_alone(opened: list[Cell]) -> None:
    cell = make(intervene_after_steps=4)
    opened.append(cell)
    cell.open()
    assert not any(interventions(cell, np.array([0, 0, -0.004, 0], np.float32), steps=14))


def test_turning_towards_the_hole_is_getting_on_too(opened: list[Cell]) -> None:
    cell = make(intervene_after_steps=4)
    opened.append(cell)
    cell.open()
    cell.task.reset(0)
    yaw = float(np.arctan2(*cell.robot.read().values[3:5]))
    turn = np.array([0, 0, 0, -0.03 * np.sign(yaw)], np.float32)
    assert not any(interventions(cell, turn, steps=min(5, int(abs(yaw) / 0.03))))


def test_the_operator_helps_in_a_share_of_the_stalls(opened: list[Cell]) -> None:
    shares = {}
    for share in (0.0, 0.5, 1.0):
        cell = make(intervene_after_steps=3, intervene_steps=1, intervene_share=share)
        opened.append(cell)
        cell.open()
        shares[share] = sum(sum(interventions(cell, STILL)) for _ in range(3))
    assert shares[0.0] == 0 < shares[0.5] < shares[1.0]


def test_a_new_episode_forgets_the_last_ones_stall(opened: list[Cell]) -> None:
    cell = make(intervene_after_steps=8)
    opened.append(cell)
    cell.open()
    assert not any(interventions(cell, STILL, steps=7))
    assert not any(interventions(cell, STILL, steps=7))


def test_the_operator_lifts_a_peg_that_stands_on_the_rim() -> None:
    operator = make().teleop
    assert isinstance(operator, ScriptedOperator)

    def height_m(tip_m: float, offset_m: float) -> float:
        glance = Glance(np.array([0.0, 0.0, tip_m, 0.0]), {"tip.offset.z": offset_m})
        return float(operator.script.aim(glance).pose[2])

    operator.begin(demonstrate=True)
    assert [height_m(0.0, offset_m) > 0.01 for offset_m in (-0.01, 0.0, 0.0)] == [True, True, False]
    assert height_m(-0.01, -0.01) < -0.02  # friction in the hole is no rim
    height_m(0.0, -0.01)
    operator.begin(demonstrate=True)
    assert height_m(0.0, 0.0) < 0  # a new episode has not hit it yet


def test_the_scripted_operator_keeps_the_contract(opened: list[Cell]) -> None:
    for after in (None, 3):
        cell = make(intervene_after_steps=after)
        opened.append(cell)
        cell.open()
        operator = cell.teleop
        assert operator is not None
        operator.close()
        check_teleop(lambda operator=operator: operator)  # type: ignore[misc]


def test_a_closed_operator_says_so() -> None:
    operator = make().teleop
    assert operator is not None
    with pytest.raises(HardwareError, match=r"the scripted operator is not open; call open\(\) first"):
        operator.poll()
