"""What holds for every simulated task on every arm; what is a task's own is tested in its own file."""

import numpy as np
import pytest

from hal.kits import check_robot, check_task, check_teleop
from hal.sim.operator import ScriptedOperator
from tests.hal.sim.rig import ARMS, SIMULATED, demonstrate, drive, make, opened, parts
from user_rl.errors import ConfigError
from user_rl.rows import make_schema, schema_from_bytes

pytestmark = pytest.mark.parametrize("task", SIMULATED)
both = pytest.mark.parametrize("robot", ARMS)


@both
@pytest.mark.slow
def test_a_task_keeps_the_contract(task: str, robot: str) -> None:
    check_task(lambda: parts(task, robot), seeds=3)


@both
@pytest.mark.slow
def test_its_robot_keeps_the_contract(task: str, robot: str) -> None:
    check_robot(lambda: make(task, robot).robot)


@pytest.mark.slow
def test_its_operator_keeps_the_contract(task: str) -> None:
    for after in (None, 3):
        with opened(task, teleop={"intervene_after_steps": after}) as cell:
            operator = cell.teleop
            assert isinstance(operator, ScriptedOperator)
            operator.close()
            check_teleop(lambda operator=operator: operator)  # type: ignore[misc]


@both
@pytest.mark.slow
def test_the_operator_succeeds(task: str, robot: str) -> None:
    with opened(task, robot) as cell:
        assert sum(demonstrate(cell, seed)[0] for seed in range(5)) >= 4


@both
@pytest.mark.long
def test_the_operator_succeeds_at_95_of_100_starts(task: str, robot: str) -> None:
    with opened(task, robot) as cell:
        assert sum(demonstrate(cell, seed)[0] for seed in range(100)) >= 95


@both
@pytest.mark.slow
def test_the_same_seed_and_commands_give_the_same_bytes(task: str, robot: str) -> None:
    with opened(task, robot) as cell:

        def episode() -> list[bytes]:
            random = np.random.default_rng(5)
            cell.task.reset(12)
            states = []
            for _ in range(15):
                states.append(cell.observe().values["observation.state"].tobytes())
                cell.robot.command(random.uniform(cell.action.low, cell.action.high).astype(np.float32))
            return states

        first = episode()
        cell.task.reset(3)
        drive(cell, *cell.action.low, steps=3)
        assert episode() == first


@pytest.mark.slow
def test_a_fresh_cell_starts_alike_to_the_byte(task: str) -> None:
    starts = []
    for _ in range(2):
        with opened(task) as cell:
            cell.task.reset(9)
            starts.append(cell.observe().values["observation.state"].tobytes())
    assert starts[0] == starts[1]


@pytest.mark.slow
def test_doing_nothing_is_worth_nothing(task: str) -> None:
    with opened(task) as cell:
        for seed in range(3):
            cell.task.reset(seed)
            assert not drive(cell, *np.zeros(len(cell.action.names)), steps=10)
            assert cell.task.judge().reward == 0.0


@pytest.mark.slow
def test_wild_commands_leave_every_state_inside_its_spec(task: str) -> None:
    random = np.random.default_rng(0)
    with opened(task) as cell:
        cell.task.reset(0)
        for _ in range(100):
            cell.observe()  # checks the state against its spec
            cell.robot.command(random.choice([cell.action.low, cell.action.high]).astype(np.float32))


@pytest.mark.slow
def test_a_policy_that_stalls_is_helped_to_the_end(task: str) -> None:
    """The operator takes over again and again; between that the policy stands still."""
    helped = 0
    with opened(task, teleop={"intervene_after_steps": 2, "intervene_steps": 30}) as cell:
        assert cell.teleop is not None
        cell.task.reset(1)
        cell.teleop.begin(demonstrate=False)
        still = np.zeros(cell.action.shape, np.float32)
        still[4:] = cell.action.high[4:]
        for _ in range(3 * cell.task.max_steps):
            cell.observe()
            reading = cell.teleop.poll()
            assert reading.is_intervention == (reading.action is not None)
            helped += reading.is_intervention
            cell.robot.command(still if reading.action is None else reading.action)
            if cell.task.judge().done:
                break
        assert cell.task.judge().success
    assert helped > 5


def test_both_arms_share_observation_and_action(task: str) -> None:
    """One policy may drive either."""
    panda, arm6 = (make(task, robot) for robot in ARMS)
    assert panda.observation == arm6.observation
    assert panda.action == arm6.action


def test_its_schema_travels(task: str) -> None:
    cell = make(task)
    schema = make_schema(cell.observation, cell.action)
    assert schema_from_bytes(schema.encoded).digest == schema.digest
    assert (cell.task.name, cell.task.max_steps) == (task, make(task, max_steps=cell.task.max_steps).task.max_steps)


@pytest.mark.parametrize("max_steps", [0, -1])
def test_an_episode_without_steps_is_refused(task: str, max_steps: int) -> None:
    with pytest.raises(ConfigError, match=f"task.max_steps = {max_steps}, allowed 1 or more"):
        make(task, max_steps=max_steps)
