"""Motion: what a command does to a robot that stands still, with nothing moved, or with the smallest motion there is.

Holding: what has a target is told where it is, what takes steps is told a step of zero. Moving: one axis, towards the
middle of its range, by the smallest size, doubled until the robot answers; then back.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field

import numpy as np

from hal.axes import Way, axis_of, position_of, velocity_of
from hal.robot import Robot, RobotSpec, RobotState
from user_rl.clock import Clock
from user_rl.specs import Array

HOLDS = 10  # commands
_SIZES = (1e-3, 2e-3, 4e-3, 8e-3)  # of the command's range, where it is a target
_STEPS = (0.05, 0.1, 0.2, 0.4)  # of the longest step, where it is a step
_ANSWER_S, _BACK_S = 1.0, 0.5  # a robot that is told to move does so within; and is back within
_SEEN = 0.3  # of what was asked: less is not an answer


@dataclass(frozen=True, kw_only=True)
class Axis:
    """One axis that a command moves and the state measures."""

    name: str
    way: Way
    element: int  # of the command
    place: int  # of the state: where it is
    speed: int | None  # of the state: how fast it moves; None: not measured


@dataclass(kw_only=True)
class Answer:
    """How the robot answered to being moved."""

    axis: Axis
    unit: str
    asked: float
    after_s: float | None = None  # from the command to the first reading that shows it; None: it does not move
    places: list[float] = field(default_factory=list)  # from the first reading after the command to the last
    speeds: list[float] = field(default_factory=list)

    @property
    def furthest(self) -> float:
        """How far it went, signed."""
        return max((place - self.places[0] for place in self.places), key=abs)

    @property
    def left(self) -> float:
        """How far from its start it ended."""
        return abs(self.places[-1] - self.places[0])


def hold(spec: RobotSpec, state: Array) -> Array | None:
    """The command [C] that changes nothing; None where the names do not say which that is, or it is not allowed."""
    command = []
    for name in spec.command.names:
        axis, way = axis_of(name)
        place = position_of(axis, spec.state)
        if way is Way.DELTA:
            command.append(0.0)
        elif way is Way.TARGET and place is not None:
            command.append(float(state[place]))
        else:
            return None
    held = np.asarray(command, np.float32)
    return held if spec.command.has(held) else None


def times_of_holding(robot: Robot, clock: Clock) -> list[float]:
    """How long each of a few holding commands takes."""
    took_s, still = [], hold(robot.spec, robot.read().values)
    assert still is not None  # the caller has looked
    for _ in range(HOLDS):
        robot.read()  # the guard wants a fresh one
        began_s = clock.now_s()
        robot.command(still)
        took_s.append(clock.now_s() - began_s)
        clock.sleep_until(began_s + 1.0 / robot.spec.rate_hz)
    return took_s


def first_axis(spec: RobotSpec) -> Axis | None:
    """The first axis that is both commanded and measured."""
    for element, name in enumerate(spec.command.names):
        axis, way = axis_of(name)
        place = position_of(axis, spec.state)
        if way is not None and place is not None:
            return Axis(name=axis, way=way, element=element, place=place, speed=velocity_of(axis, spec.state))
    return None


def move(robot: Robot, clock: Clock, axis: Axis) -> Answer:
    """There and back by the smallest size that the robot answers to; halts at the end."""
    try:
        for size in _sizes(robot.spec, axis):
            answer = _there_and_back(robot, clock, axis, size)
            if answer.after_s is not None:
                break
    finally:
        robot.halt()
    return answer


def _there_and_back(robot: Robot, clock: Clock, axis: Axis, size: float) -> Answer:
    spec, start = robot.spec, robot.read().values
    still = hold(spec, start)
    assert still is not None  # the caller has looked
    middle = (spec.state.low[axis.place] + spec.state.high[axis.place]) / 2
    step = np.zeros_like(still)
    step[axis.element] = size if not start[axis.place] > middle else -size  # towards the middle, where there is one
    answer = Answer(axis=axis, unit=spec.state.units[axis.place], asked=float(step[axis.element]))
    answer.places.append(float(start[axis.place]))
    is_target = axis.way is Way.TARGET
    began_s = clock.now_s()
    for state in _drive(robot, clock, [still + step, still + step if is_target else still], for_s=_ANSWER_S):
        _note(answer, state)
        if (answer.places[-1] - answer.places[0]) * np.sign(answer.asked) > _SEEN * size:
            answer.after_s = state.stamp_s - began_s
            break
    for state in _drive(robot, clock, [still if is_target else still - step, still], for_s=_BACK_S):
        _note(answer, state)
    return answer


def _drive(robot: Robot, clock: Clock, commands: list[Array], *, for_s: float) -> Iterator[RobotState]:
    """Sends the first command once and the second at every period after it; a reading after each."""
    first, then = commands
    start_s = clock.now_s()
    due_s, command = start_s, first
    while due_s < start_s + for_s:
        robot.command(command)
        command, due_s = then, max(due_s + 1.0 / robot.spec.rate_hz, clock.now_s())
        clock.sleep_until(due_s)
        yield robot.read()


def _note(answer: Answer, state: RobotState) -> None:
    answer.places.append(float(state.values[answer.axis.place]))
    if answer.axis.speed is not None:
        answer.speeds.append(float(state.values[answer.axis.speed]))


def _sizes(spec: RobotSpec, axis: Axis) -> list[float]:
    low, high = spec.command.low[axis.element], spec.command.high[axis.element]
    if axis.way is Way.TARGET:
        return [share * (high - low) for share in _SIZES]
    return [share * min(high, -low) for share in _STEPS]
