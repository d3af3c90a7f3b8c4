from collections.abc import Iterator

import mujoco
import numpy as np
import pytest

from hal.cell import Cell
from hal.make import CellConfig, make_cell
from hal.sim.peg_insertion import PegInsertion, PegInsertionConfig
from hal.sim.tools import PEG_WIDTH_M
from user_rl.clock import FreeRunningClock
from user_rl.specs import Array


def make(robot: str = "panda_sim", **task: float) -> Cell:
    config = CellConfig(robot={"name": robot}, task={"name": "peg_insertion", **task}, teleop={"name": "scripted"})
    return make_cell(config, name="cell", clock=FreeRunningClock(), seed=1)


@pytest.fixture(params=["panda_sim", "arm6_sim"])
def cell(request: pytest.FixtureRequest) -> Iterator[Cell]:
    cell = make(request.param)
    cell.open()
    yield cell
    cell.close()


def state_of(cell: Cell) -> Array:
    return cell.observe().values["observation.state"]


def place(cell: Cell, *pose: float) -> None:
    """Puts the tip at a pose of the work frame."""
    task = cell.task
    assert isinstance(task, PegInsertion)
    task.arm.place(task.hand.posture(np.array(pose)))
    task.hand.forget()


def test_starts_lie_scattered_above_the_hole(cell: Cell) -> None:
    starts = []
    for seed in range(60):
        cell.task.reset(seed)
        starts.append(state_of(cell).copy())
    x, y, z, sine, cosine = np.array(starts).T[:5]
    yaw = np.degrees(np.arctan2(sine, cosine))
    for values, spread in ((x, 0.05), (y, 0.05), (yaw, 10.0)):
        assert np.abs(values).max() <= spread * 1.01
        assert np.abs(values).max() > spread * 0.85
        assert abs(values.mean()) < spread * 0.3
    np.testing.assert_allclose(z, 0.06, atol=1e-3)
    np.testing.assert_allclose(np.array(starts)[:, 5:], 0.0, atol=1e-6)  # at rest, and wanting nothing


def test_the_same_seed_and_commands_give_the_same_bytes(cell: Cell) -> None:
    def episode() -> list[bytes]:
        random = np.random.default_rng(5)
        cell.task.reset(12)
        states = [state_of(cell).tobytes()]
        for _ in range(30):
            cell.robot.command(random.uniform(cell.action.low, cell.action.high).astype(np.float32))
            states.append(state_of(cell).tobytes())
        return states

    first = episode()
    cell.task.reset(3)
    cell.robot.command(np.zeros(4, np.float32))
    assert episode() == first


def test_two_cells_of_one_seed_are_alike_to_the_byte() -> None:
    states = []
    for _ in range(2):
        cell = make()
        cell.open()
        cell.task.reset(9)
        for _ in range(5):
            cell.observe()
            cell.robot.command(np.array([0.01, 0, -0.015, 0], np.float32))
        states.append(state_of(cell).tobytes())
        cell.close()
    assert states[0] == states[1]


def test_the_reward_is_one_at_depth_and_ends_the_episode(cell: Cell) -> None:
    place(cell, 0.0, 0.0, -0.0205, 0.0)
    judgement = cell.task.judge()
    assert (judgement.reward, judgement.done, judgement.success, judgement.truncated) == (1.0, True, True, False)


@pytest.mark.parametrize("pose", [(0, 0, -0.0190, 0), (0, 0, 0.05, 0), (0.003, 0, -0.0205, 0), (0, -0.003, -0.0205, 0)])
def test_not_deep_enough_or_beside_the_hole_is_worth_nothing(cell: Cell, pose: tuple[float, ...]) -> None:
    place(cell, *pose)
    judgement = cell.task.judge()
    assert (judgement.reward, judgement.done, judgement.success) == (0.0, False, False)


def lower(cell: Cell, steps: int = 14) -> float:
    """Lowers the peg straight down; returns the tip's height at the end."""
    for _ in range(steps):
        cell.observe()
        cell.robot.command(np.array([0, 0, -0.005, 0], np.float32))
    return float(state_of(cell)[2])


def test_an_aligned_peg_sinks_into_the_hole(cell: Cell) -> None:
    place(cell, 0.0, 0.0, 0.03, 0.0)
    assert lower(cell) < -0.02
    assert cell.task.judge().success


@pytest.mark.parametrize("pose", [(0.004, 0.0, 0.03, 0.0), (0.0, -0.004, 0.03, 0.0), (0.0, 0.0, 0.03, 0.3)])
def test_a_peg_beside_the_hole_or_turned_stands_on_the_rim(cell: Cell, pose: tuple[float, ...]) -> None:
    place(cell, *pose)
    assert lower(cell) > -0.002
    assert not cell.task.judge().success
    offset_z_m = state_of(cell)[11]
    assert offset_z_m < -0.004  # the state shows that it presses


def test_pressing_never_pushes_the_peg_into_the_wood(cell: Cell) -> None:
    place(cell, 0.03, 0.0, 0.02, 0.0)
    for _ in range(20):
        cell.observe()
        cell.robot.command(np.array([0, 0, -0.015, 0], np.float32))
        data = cell.task.arm.world.data  # type: ignore[attr-defined]
        assert not data.ncon or data.contact.dist.min() > -0.002
    force = np.zeros(6)
    world = cell.task.arm.world  # type: ignore[attr-defined]
    pressing = 0.0
    for i in range(world.data.ncon):
        mujoco.mj_contactForce(world.model, world.data, i, force)
        pressing += float(force[0])
    assert 5.0 < pressing < 250.0  # N: it is felt, and breaks nothing


def test_wild_commands_leave_every_state_inside_its_spec(cell: Cell) -> None:
    random = np.random.default_rng(0)
    cell.task.reset(0)
    for _ in range(150):
        state_of(cell)
        sign = random.choice([-1.0, 1.0], 4)
        cell.robot.command((sign * cell.action.high).astype(np.float32))
        state = state_of(cell)  # checks it against its spec
        assert np.abs(state[:2]).max() < 0.1
        assert -0.03 < state[2] < 0.14


def test_the_hole_is_wider_than_the_peg_by_the_clearance() -> None:
    for clearance_m in (0.002, 0.006):
        cell = make(clearance_m=clearance_m)
        cell.open()
        model = cell.task.arm.world.model  # type: ignore[attr-defined]
        block = model.body("block").id
        walls = [i for i in range(model.ngeom) if model.geom_bodyid[i] == block and model.geom_contype[i]]
        inner = min(abs(model.geom_pos[i][0]) - model.geom_size[i][0] for i in walls if model.geom_pos[i][0])
        assert 2 * inner == pytest.approx(PEG_WIDTH_M + clearance_m)
        cell.close()


def test_the_peg_feels_the_wood_and_not_the_paint() -> None:
    cell = make()
    cell.open()
    model = cell.task.arm.world.model  # type: ignore[attr-defined]
    block = [i for i in range(model.ngeom) if model.geom_bodyid[i] == model.body("block").id]
    felt = [i for i in block if model.geom_contype[i] and model.geom_conaffinity[i]]
    assert (len(felt), len(block)) == (5, 9)  # four walls and a floor; four strips of paint
    assert all(model.geom_contype[i] == model.geom_conaffinity[i] == 0 for i in block if i not in felt)
    cell.close()


def test_the_block_stands_where_the_work_frame_is() -> None:
    config = CellConfig(
        robot={"name": "panda_sim", "hand": {"origin_m": [0.5, 0.05, 0.12]}}, task={"name": "peg_insertion"}
    )
    cell = make_cell(config, name="cell", clock=FreeRunningClock(), seed=1)
    cell.open()
    block = cell.task.arm.world.model.body("block")  # type: ignore[attr-defined]
    assert tuple(block.pos) == (0.5, 0.05, 0.12)
    place(cell, 0.0, 0.0, 0.03, 0.0)
    assert lower(cell) < -0.02
    cell.close()


def test_the_task_tells_its_name_and_length() -> None:
    cell = make(max_steps=40)
    assert (cell.task.name, cell.task.max_steps) == ("peg_insertion", 40)


@pytest.mark.parametrize(
    ("bad", "line"),
    [
        ({"clearance_m": 0.0}, "clearance_m = 0.0, allowed above 0 to 0.05"),
        ({"clearance_m": 0.06}, "clearance_m = 0.06, allowed above 0 to 0.05"),
        ({"depth_m": 0.0}, "depth_m = 0.0, allowed above 0 and below"),
        ({"depth_m": 0.03}, "depth_m = 0.03, allowed above 0 and below"),
        ({"max_steps": 0}, "max_steps = 0, allowed 1 or more"),
    ],
)
def test_a_configuration_that_cannot_work_is_refused(bad: dict[str, float], line: str) -> None:
    with pytest.raises(ValueError, match=line):
        PegInsertionConfig(**bad)  # type: ignore[arg-type]
