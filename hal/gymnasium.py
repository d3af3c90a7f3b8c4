"""Any Gymnasium environment as a robot with a task: `robot=gymnasium robot.id=FetchReach-v4 task=gymnasium`.

Observations of any kind but pictures are flattened into one named vector; actions must be a bounded Box. `terminated`
becomes `done`, `truncated` stays truncated, and success is what `info` calls is_success or success at each step.
Needs gymnasium, and gymnasium-robotics for its ids (extra `gymnasium`); both are imported when a robot is made.
"""

import contextlib
import difflib
import io
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from hal.robot import OnSilence, RobotSpec, RobotState
from hal.task import Judgement
from user_rl.clock import Clock
from user_rl.errors import ConfigError, HardwareError, RobotUnreachable
from user_rl.specs import Array, Box

_FLOAT32_MAX = float(np.finfo(np.float32).max)
_MAX_ELEMENTS = 4096  # of an observation: beyond it lies a picture or a mistake


@dataclass(frozen=True, kw_only=True)
class GymnasiumConfig:
    """Which environment, and what is passed on to `gymnasium.make`."""

    id: str
    rate_hz: float | None = None  # None: what the environment says, else 10
    options: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class GymnasiumTaskConfig:
    """The environment's own task."""

    max_steps: int | None = None  # None: the environment's time limit


class GymnasiumRobot:
    """See hal.robot.Robot. One command is one step of the environment."""

    def __init__(self, config: GymnasiumConfig, *, clock: Clock, seed: int) -> None:
        self.config, self.clock, self.seed = config, clock, seed
        env = _make(config)  # asked for its spaces, and made anew by open
        try:
            self._spec = _robot_spec(env, config)
            self._flatten = _flattener(env.observation_space)
            self.max_steps: int | None = env.spec.max_episode_steps
        finally:
            env.close()
        self._env: Any = None
        self._observation: Any = None
        self._over = False
        self.judgement = Judgement(reward=0.0, done=False, success=False)

    @property
    def spec(self) -> RobotSpec:
        return self._spec

    def open(self) -> None:
        self._env = _make(self.config)
        self.reset(self.seed)

    def reset(self, seed: int) -> None:
        """A new episode from `seed`."""
        self._observation, _ = self._opened().reset(seed=seed)
        self._over = False
        self.judgement = Judgement(reward=0.0, done=False, success=False)

    def read(self) -> RobotState:
        self._opened()
        return RobotState(stamp_s=self.clock.now_s(), values=self._flatten(self._observation))

    def command(self, target: Array) -> Array:
        env = self._opened()
        self._spec.command.check(target)
        if self._over:
            raise HardwareError(f"{self.config.id}: the episode is over; reset the task before the next command")
        action = target.reshape(env.action_space.shape).astype(env.action_space.dtype)
        self._observation, reward, done, truncated, info = env.step(action)
        self._over = bool(done or truncated)
        success = bool(info.get("is_success", info.get("success", False)))
        self.judgement = Judgement(reward=float(reward), done=bool(done), truncated=bool(truncated), success=success)
        return target

    def halt(self) -> None:
        """Nothing to do: time passes in `command` alone."""

    def close(self) -> None:
        if self._env is not None:
            self._env.close()
            self._env = None

    def _opened(self) -> Any:  # noqa: ANN401
        if self._env is None:
            raise RobotUnreachable(f"the environment {self.config.id} is not open; call open() first")
        return self._env


class GymnasiumTask:
    """See hal.task.Task. The environment's own start, reward and end."""

    def __init__(self, config: GymnasiumTaskConfig, robot: GymnasiumRobot) -> None:
        self.robot = robot
        steps = config.max_steps or robot.max_steps
        if steps is None:
            raise ConfigError(f"task.max_steps = None, and {robot.config.id} has no time limit; give task.max_steps=N")
        self._max_steps = min(steps, robot.max_steps or steps)

    @property
    def name(self) -> str:
        return self.robot.config.id

    @property
    def max_steps(self) -> int:
        return self._max_steps

    def reset(self, seed: int) -> None:
        self.robot.reset(seed)

    def judge(self) -> Judgement:
        return self.robot.judgement


def _make(config: GymnasiumConfig) -> Any:  # noqa: ANN401  # gymnasium.Env of whatever spaces
    try:
        import gymnasium
    except ImportError as error:
        raise ConfigError("robot=gymnasium needs gymnasium; pip install 'user-rl[gymnasium]'") from error
    if config.id not in gymnasium.registry:
        _register_robotics(gymnasium)
    try:
        return gymnasium.make(config.id, **config.options)
    except gymnasium.error.UnregisteredEnv as error:
        near = difflib.get_close_matches(config.id, list(gymnasium.registry), n=1)
        hint = f"did you mean {near[0]}?" if near else "see gymnasium.pprint_registry()"
        raise ConfigError(f"robot.id = {config.id}: no such environment, {hint}") from error
    except (gymnasium.error.DependencyNotInstalled, ModuleNotFoundError) as error:
        raise ConfigError(f"robot.id = {config.id} needs more packages: {error}") from error
    except (gymnasium.error.Error, TypeError) as error:
        raise ConfigError(f"robot.id = {config.id} with robot.options = {config.options}: {error}") from error


def _register_robotics(gymnasium: Any) -> None:  # noqa: ANN401
    with contextlib.suppress(ImportError), contextlib.redirect_stderr(io.StringIO()):  # it greets
        import gymnasium_robotics

        gymnasium.register_envs(gymnasium_robotics)


def _robot_spec(env: Any, config: GymnasiumConfig) -> RobotSpec:  # noqa: ANN401
    rate_hz = config.rate_hz or (1.0 / env.unwrapped.dt if hasattr(env.unwrapped, "dt") else None)
    return RobotSpec(
        model=config.id,
        state=_state_spec(env.observation_space, config.id),
        command=_command_spec(env.action_space, config.id),
        rate_hz=float(rate_hz or env.metadata.get("render_fps") or 10.0),
        on_silence=OnSilence.STOPS,
    )


def _command_spec(space: Any, env_id: str) -> Box:  # noqa: ANN401
    from gymnasium.spaces import Box as BoxSpace

    if not isinstance(space, BoxSpace):
        raise ConfigError(f"{env_id} takes actions of {space}, allowed a bounded Box; choose a continuous environment")
    low, high = _bounds(space)
    if not (np.isfinite(low).all() and np.isfinite(high).all()):
        raise ConfigError(f"{env_id} takes unbounded actions {space}, allowed a bounded Box; wrap it in RescaleAction")
    return _box("action", _element_names("action", space.shape), low, high)


def _state_spec(space: Any, env_id: str) -> Box:  # noqa: ANN401
    from gymnasium.spaces.utils import flatten_space

    names = _names(space, "", env_id)
    if len(names) > _MAX_ELEMENTS:
        raise ConfigError(
            f"{env_id} observes {len(names)} numbers, allowed {_MAX_ELEMENTS}; choose a state environment"
        )
    low, high = _bounds(flatten_space(space))
    return _box("observation.state", names, low, high)


def _names(space: Any, name: str, env_id: str) -> list[str]:  # noqa: ANN401
    """One name per element, in the order of gymnasium's own flattening."""
    from gymnasium import spaces

    if isinstance(space, spaces.Dict):
        return [n for key, child in space.items() for n in _names(child, f"{name}.{key}" if name else key, env_id)]
    if isinstance(space, spaces.Tuple):
        return [n for i, child in enumerate(space) for n in _names(child, f"{name}.{i}" if name else str(i), env_id)]
    if isinstance(space, spaces.Box) and space.dtype == np.uint8 and len(space.shape) == 3:
        raise ConfigError(f"{env_id} observes pictures ({name or 'observation'}), allowed vectors; choose another")
    if isinstance(space, spaces.Box | spaces.MultiBinary | spaces.Discrete | spaces.MultiDiscrete):
        shape = space.shape if isinstance(space, spaces.Box) else (spaces.utils.flatdim(space),)
        return _element_names(name or "observation", shape)
    raise ConfigError(f"{env_id} observes {space}, allowed Box, Dict, Tuple and discrete spaces; choose another")


def _element_names(name: str, shape: tuple[int, ...]) -> list[str]:
    return [".".join([name, *map(str, index)]) for index in np.ndindex(shape)]


def _bounds(space: Any) -> tuple[Array, Array]:  # noqa: ANN401
    """The space's bounds as flat floats; what float32 cannot hold is infinite."""
    low, high = space.low.astype(np.float64).ravel(), space.high.astype(np.float64).ravel()
    return np.where(low < -_FLOAT32_MAX, -np.inf, low), np.where(high > _FLOAT32_MAX, np.inf, high)


def _box(name: str, names: list[str], low: Array, high: Array) -> Box:
    return Box(
        name=name, names=tuple(names), units=("",) * len(names), low=tuple(low.tolist()), high=tuple(high.tolist())
    )


def _flattener(space: Any) -> Callable[[Any], Array]:  # noqa: ANN401
    """Flattens one observation; dicts of vectors, the usual case, without gymnasium's own recursion."""
    from gymnasium import spaces

    if isinstance(space, spaces.Box):
        return lambda values: np.array(values, np.float32).ravel()
    if isinstance(space, spaces.Dict) and all(isinstance(child, spaces.Box) for child in space.values()):
        keys = tuple(space)
        return lambda values: _joined(values, keys)
    return lambda values: np.asarray(spaces.utils.flatten(space, values), np.float32)


def _joined(values: Mapping[str, Any], keys: tuple[str, ...]) -> Array:
    return np.concatenate([np.ravel(values[key]) for key in keys]).astype(np.float32)
