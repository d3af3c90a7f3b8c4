"""Operated: the task of a real cell, where a person says what an episode was worth.

Success, failure and the end come from the operator (`hal.teleop`), a late reward from a label or a classifier. A reset
brings the robot home, slowly and behind its guard, then leaves a person the time to set the scene.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from hal.axes import Way, axis_of, position_of
from hal.robot import Robot, RobotSpec
from hal.task import Judgement
from user_rl.clock import Clock
from user_rl.errors import ConfigError, RobotFault
from user_rl.specs import Array


@dataclass(frozen=True, kw_only=True)
class OperatedConfig:
    """What the task is called, and how an episode starts. Positions are in the units of the robot's state."""

    label: str = "operated"  # what rows call it: an instruction, "put the plug into the socket"
    max_steps: int = 300
    home: tuple[float, ...] = ()  # one for each axis that is commanded; empty: it starts where it is
    spread: float = 0.0  # each start is home give or take so much, drawn from its seed
    speed: float = 0.1  # of an axis on the way home, unit/s
    tolerance: float = 0.01  # so near is home
    reset_s: float = 20.0  # the way home takes so long at most
    wait_s: float = 5.0  # for a person to set the scene

    def __post_init__(self) -> None:
        for name in ("max_steps", "speed", "tolerance", "reset_s"):
            if getattr(self, name) <= 0:
                raise ValueError(f"{name} = {getattr(self, name)}, allowed above 0; change it")
        if self.spread < 0 or self.wait_s < 0:
            raise ValueError(f"spread = {self.spread}, wait_s = {self.wait_s}, allowed 0 or more; change them")


class Operated:
    """See hal.task.Task, hal.task.Drives and hal.task.GoesHome."""

    def __init__(self, config: OperatedConfig, robot: Robot, *, clock: Clock) -> None:
        self.config, self._robot, self._clock = config, robot, clock
        self._home = np.asarray(config.home, np.float64)
        self._axes = _axes(robot.spec, config.home)

    @property
    def name(self) -> str:
        return self.config.label

    @property
    def max_steps(self) -> int:
        return self.config.max_steps

    def drive(self, robot: Robot) -> None:
        self._robot = robot

    def reset(self, seed: int) -> None:
        if self.has_home:
            spread = self.config.spread
            self._go(self._home + np.random.default_rng(seed).uniform(-spread, spread, len(self._home)))
        self._clock.sleep_until(self._clock.now_s() + self.config.wait_s)

    @property
    def has_home(self) -> bool:
        return len(self._home) > 0

    def go_home(self) -> None:
        if self.has_home:
            self._go(self._home)

    def judge(self) -> Judgement:
        return Judgement(reward=0.0, done=False, success=False)

    def _go(self, goal: Array) -> None:
        """Steps towards `goal` [C], an axis no faster than it may; raises RobotFault when it does not get there."""
        positions, absolute = self._axes
        period_s, start_s = 1.0 / self._robot.spec.rate_hz, self._clock.now_s()
        due_s = start_s
        while True:
            here = self._robot.read().values[positions].astype(np.float64)
            way = goal - here
            if np.abs(way).max() <= self.config.tolerance:
                return
            if self._clock.now_s() - start_s > self.config.reset_s:
                self._robot.halt()
                raise RobotFault(self._stuck(way))
            step = np.clip(way, -self.config.speed * period_s, self.config.speed * period_s)
            self._robot.command(self._robot.spec.command.clip(np.where(absolute, here + step, step)))
            due_s += period_s
            self._clock.sleep_until(due_s)

    def _stuck(self, way: Array) -> str:
        worst = int(np.abs(way).argmax())
        spec = self._robot.spec
        return (
            f"{spec.model} is not home after {self.config.reset_s:g} s: {spec.command.names[worst]} is "
            f"{abs(way[worst]):.3g} away, allowed {self.config.tolerance:g}; clear its way, or change task.home"
        )


def _axes(spec: RobotSpec, home: Sequence[float]) -> tuple[list[int], Array]:
    """Where the state has each commanded axis, and which are commanded by where they shall be."""
    if not home:
        return [], np.zeros(0, bool)
    names = spec.command.names
    if len(home) != len(names):
        raise ConfigError(
            f"task.home = {list(home)}, allowed {len(names)} numbers ({', '.join(names)}) or []; change it"
        )
    positions: list[int] = []
    for name in names:
        axis, way = axis_of(name)
        position = position_of(axis, spec.state)
        if way is None or position is None:
            raise ConfigError(
                f"task.home with {spec.model}, which does not measure where {name} moves it; leave task.home=[]"
            )
        positions.append(position)
    return positions, np.array([axis_of(name)[1] is Way.TARGET for name in names])
