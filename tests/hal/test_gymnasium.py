from collections.abc import Iterator
from typing import Any

import gymnasium
import numpy as np
import pytest
from gymnasium import spaces

from hal.gymnasium import GymnasiumConfig, GymnasiumRobot, GymnasiumTask, GymnasiumTaskConfig
from hal.kits import check_robot, check_task
from user_rl.clock import FakeClock
from user_rl.errors import ConfigError, HardwareError, RobotUnreachable
from user_rl.specs import Array


class Scripted(gymnasium.Env[Any, Any]):
    """An environment whose spaces and steps a test gives; it records what it was asked to do."""

    metadata = {"render_fps": 20, "render_modes": []}  # noqa: RUF012
    made: "list[Scripted]" = []  # noqa: RUF012

    def __init__(self, observation: spaces.Space[Any], action: spaces.Space[Any], steps: Any = ()) -> None:  # noqa: ANN401
        self.observation_space, self.action_space = observation, action
        self.steps, self.closed = list(steps), False
        self.actions: list[Any] = []
        Scripted.made.append(self)

    def reset(self, *, seed: int | None = None, options: Any = None) -> Any:  # noqa: ANN401
        self.observation_space.seed(seed)
        return self.observation_space.sample(), {}

    def step(self, action: Any) -> Any:  # noqa: ANN401
        self.actions.append(action)
        reward, done, truncated, info = self.steps.pop(0) if self.steps else (0.0, False, False, {})
        return self.observation_space.sample(), reward, done, truncated, info

    def close(self) -> None:
        self.closed = True


UNIT = spaces.Box(-1.0, 1.0, (2,), np.float32)


@pytest.fixture(autouse=True)
def _registered() -> Iterator[None]:
    def make_env(**options: Any) -> Scripted:  # noqa: ANN401
        return Scripted(**options)

    gymnasium.register("Scripted-v0", entry_point=make_env, max_episode_steps=30, disable_env_checker=True)
    gymnasium.register("Endless-v0", entry_point=make_env, disable_env_checker=True)
    Scripted.made.clear()
    yield
    for name in ("Scripted-v0", "Endless-v0"):
        del gymnasium.registry[name]


def make(observation: Any = UNIT, action: Any = UNIT, steps: Any = (), **config: Any) -> GymnasiumRobot:  # noqa: ANN401
    options = {"observation": observation, "action": action, "steps": steps}
    config = {"id": "Scripted-v0", "options": options} | config
    return GymnasiumRobot(GymnasiumConfig(**config), clock=FakeClock(2.0), seed=3)


def opened(**more: Any) -> tuple[GymnasiumRobot, GymnasiumTask]:  # noqa: ANN401
    robot = make(**more)
    robot.open()
    return robot, GymnasiumTask(GymnasiumTaskConfig(), robot)


def step(*values: float) -> Array:
    return np.array(values, np.float32)


def test_an_environment_is_a_robot_and_a_task() -> None:
    check_robot(make)
    robot = make()
    check_task(lambda: (robot, GymnasiumTask(GymnasiumTaskConfig(), robot)))
    assert all(env.closed for env in Scripted.made)


def test_dicts_are_flattened_under_their_keys() -> None:
    goal = spaces.Dict({"at": spaces.Box(-np.inf, np.inf, (2,)), "sub": spaces.Dict({"b": spaces.Box(0, 3, (2, 2))})})
    robot, _ = opened(observation=goal)
    state = robot.spec.state
    assert state.names == ("at.0", "at.1", "sub.b.0.0", "sub.b.0.1", "sub.b.1.0", "sub.b.1.1")
    assert state.low == (-np.inf, -np.inf, 0, 0, 0, 0)
    assert state.high == (np.inf, np.inf, 3, 3, 3, 3)
    robot._observation = {"sub": {"b": np.array([[1.0, 2.0], [3.0, 0.0]])}, "at": np.array([7.0, 8.0])}
    np.testing.assert_array_equal(robot.read().values, step(7, 8, 1, 2, 3, 0))


def test_a_flat_dict_keeps_its_order_too() -> None:
    robot, _ = opened(observation=spaces.Dict({"b": spaces.Box(-9, 9, (1,)), "a": spaces.Box(-9, 9, (2,))}))
    robot._observation = {"b": np.array([1.0]), "a": np.array([2.0, 3.0])}
    values = dict(zip(robot.spec.state.names, robot.read().values.tolist(), strict=True))
    assert values == {"b.0": 1.0, "a.0": 2.0, "a.1": 3.0}


def test_discrete_observations_are_one_hot() -> None:
    space = spaces.Tuple((spaces.Discrete(3), spaces.MultiBinary(2), spaces.MultiDiscrete([2, 2])))
    robot, _ = opened(observation=space)
    assert robot.spec.state.names == ("0.0", "0.1", "0.2", "1.0", "1.1", "2.0", "2.1", "2.2", "2.3")
    robot._observation = (np.int64(1), np.array([1, 0], np.int8), np.array([0, 1]))
    np.testing.assert_array_equal(robot.read().values, step(0, 1, 0, 1, 0, 1, 0, 0, 1))


def test_a_bare_box_is_named_observation() -> None:
    assert make().spec.state.names == ("observation.0", "observation.1")


def test_bounds_that_float32_cannot_hold_are_infinite() -> None:
    huge = spaces.Box(-np.finfo(np.float64).max, np.finfo(np.float64).max, (1,), np.float64)
    state = make(observation=huge).spec.state
    assert (state.low, state.high) == ((-np.inf,), (np.inf,))


def test_a_reading_is_a_copy_on_the_drivers_clock() -> None:
    robot, _ = opened()
    state = robot.read()
    state.values[:] = 9
    assert robot.read().values.max() <= 1
    assert state.stamp_s == 2.0


def test_actions_keep_their_bounds_shape_and_type() -> None:
    action = spaces.Box(np.array([[-1.0], [0.0]]), np.array([[1.0], [5.0]]), (2, 1), np.float64)
    robot, _ = opened(action=action)
    assert (robot.spec.command.low, robot.spec.command.high) == ((-1.0, 0.0), (1.0, 5.0))
    robot.command(step(0.5, 4.0))
    sent = Scripted.made[-1].actions[-1]
    assert (sent.shape, sent.dtype) == ((2, 1), np.float64)
    np.testing.assert_array_equal(sent, [[0.5], [4.0]])


@pytest.mark.parametrize("key", ["is_success", "success"])
def test_termination_truncation_and_success_stay_apart(key: str) -> None:
    steps = [
        (-1.0, False, False, {key: np.float32(0)}), (0.5, False, False, {key: np.float32(1)}),
        (2.0, False, True, {}), (3.0, True, False, {key: True}),
    ]  # fmt: skip
    robot, task = opened(steps=steps)
    seen = []
    for _ in steps:
        robot._over = False
        robot.command(step(0, 0))
        judgement = task.judge()
        seen.append((judgement.reward, judgement.done, judgement.truncated, judgement.success))
    assert seen == [
        (-1.0, False, False, False), (0.5, False, False, True), (2.0, False, True, False), (3.0, True, False, True),
    ]  # fmt: skip
    assert all(type(x) in (float, bool) for row in seen for x in row)


@pytest.mark.parametrize("end", [(0.0, True, False, {}), (0.0, False, True, {})])
def test_an_episode_that_is_over_takes_no_command_until_it_is_reset(end: Any) -> None:  # noqa: ANN401
    robot, task = opened(steps=[end])
    robot.command(step(0, 0))
    with pytest.raises(HardwareError, match="Scripted-v0: the episode is over; reset the task before the next command"):
        robot.command(step(0, 0))
    task.reset(1)
    robot.command(step(0, 0))
    assert not task.judge().done


def test_the_rate_is_configured_or_the_environments_own() -> None:
    assert make(rate_hz=7.0).spec.rate_hz == 7.0
    assert make().spec.rate_hz == 20.0


def test_the_time_limit_is_the_environments_or_shorter() -> None:
    robot = make()
    assert GymnasiumTask(GymnasiumTaskConfig(), robot).max_steps == 30
    assert GymnasiumTask(GymnasiumTaskConfig(max_steps=10), robot).max_steps == 10
    assert GymnasiumTask(GymnasiumTaskConfig(max_steps=99), robot).max_steps == 30


def test_without_any_time_limit_one_must_be_given() -> None:
    robot = make(id="Endless-v0")
    with pytest.raises(ConfigError, match=r"task.max_steps = None, and Endless-v0 has no time limit"):
        GymnasiumTask(GymnasiumTaskConfig(), robot)
    assert GymnasiumTask(GymnasiumTaskConfig(max_steps=12), robot).max_steps == 12


@pytest.mark.parametrize(
    ("spaces_", "line"),
    [
        ({"action": spaces.Discrete(3)}, r"Scripted-v0 takes actions of Discrete\(3\), allowed a bounded Box"),
        ({"action": spaces.Box(-np.inf, np.inf, (2,))}, "takes unbounded actions .*, allowed a bounded Box"),
        ({"action": spaces.Box(0, np.inf, (2,))}, "takes unbounded actions"),
        ({"action": spaces.Dict({"a": UNIT})}, "takes actions of Dict"),
        ({"observation": spaces.Box(0, 255, (8, 8, 3), np.uint8)}, r"observes pictures \(observation\), allowed vect"),
        ({"observation": spaces.Dict({"cam": spaces.Box(0, 255, (8, 8, 3), np.uint8)})}, r"observes pictures \(cam\)"),
        ({"observation": spaces.Box(-1, 1, (5000,))}, "observes 5000 numbers, allowed 4096"),
        ({"observation": spaces.Text(5)}, r"observes Text\(.*\), allowed Box, Dict"),
    ],
)
def test_spaces_that_cannot_be_a_cell_are_refused(spaces_: dict[str, Any], line: str) -> None:
    with pytest.raises(ConfigError, match=line):
        make(**spaces_)
    assert all(env.closed for env in Scripted.made)


def test_an_unknown_environment_names_the_nearest() -> None:
    with pytest.raises(ConfigError, match=r"robot.id = Pendulun-v1: no such environment, did you mean Pendulum-v1\?"):
        GymnasiumRobot(GymnasiumConfig(id="Pendulun-v1"), clock=FakeClock(), seed=0)


def test_an_environment_without_any_likeness_says_where_to_look() -> None:
    with pytest.raises(ConfigError, match=r"no such environment, see gymnasium.pprint_registry\(\)"):
        GymnasiumRobot(GymnasiumConfig(id="Zzzzzzzzzzzzzzzzzz-v77"), clock=FakeClock(), seed=0)


def test_options_that_the_environment_does_not_take_are_named() -> None:
    with pytest.raises(ConfigError, match=r"robot.id = Pendulum-v1 with robot.options = \{'wings': 2\}"):
        GymnasiumRobot(GymnasiumConfig(id="Pendulum-v1", options={"wings": 2}), clock=FakeClock(), seed=0)


def test_without_gymnasium_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "gymnasium", None)
    with pytest.raises(ConfigError, match=r"robot=gymnasium needs gymnasium; pip install 'user-rl\[gymnasium\]'"):
        GymnasiumRobot(GymnasiumConfig(id="Pendulum-v1"), clock=FakeClock(), seed=0)


def test_a_closed_environment_says_so() -> None:
    with pytest.raises(RobotUnreachable, match=r"the environment Scripted-v0 is not open; call open\(\) first"):
        make().read()


@pytest.mark.slow
def test_fetch_reach_streams_with_its_own_semantics() -> None:
    robot = GymnasiumRobot(GymnasiumConfig(id="FetchReach-v4"), clock=FakeClock(), seed=0)
    task = GymnasiumTask(GymnasiumTaskConfig(), robot)
    assert task.max_steps == 50
    assert robot.spec.rate_hz == pytest.approx(25.0)
    names = robot.spec.state.names
    assert [n.split(".")[0] for n in (names[0], names[3], names[6])] == ["achieved_goal", "desired_goal", "observation"]
    assert len(names) == 16
    robot.open()
    try:
        task.reset(1)
        for k in range(50):
            state = dict(zip(names, robot.read().values.tolist(), strict=True))
            way = [state[f"desired_goal.{i}"] - state[f"achieved_goal.{i}"] for i in range(3)]
            robot.command(np.clip(np.array([*way, 0.0]) * 10, -1, 1).astype(np.float32))
            judgement = task.judge()
            assert not judgement.done
            assert judgement.truncated == (k == 49)
            assert judgement.reward == (0.0 if judgement.success else -1.0)
        assert judgement.success
    finally:
        robot.close()


@pytest.mark.slow
def test_fetch_reach_keeps_the_contracts() -> None:
    robot = GymnasiumRobot(GymnasiumConfig(id="FetchReach-v4"), clock=FakeClock(), seed=0)
    check_robot(lambda: robot)
    check_task(lambda: (robot, GymnasiumTask(GymnasiumTaskConfig(), robot)))
