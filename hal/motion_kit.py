"""The part of a robot's contract that only a moving robot shows; `hal.kits.check_robot` runs it where it is given
commands that may be carried out.

What is measured moves, is not filled in with zeros or with other values, speeds are speeds, and a halt halts.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase

import numpy as np

from hal.axes import axis_of, position_of, velocity_of
from hal.robot import Robot, RobotState
from user_rl.clock import Clock
from user_rl.specs import Array

MOVED = 1e-3  # rad or m: less is noise
AGAINST, BEYOND = 0.5, 3.0  # of the way gone: what a speed seen once a period may add up to, back and forth
SETTLE_S, LOOK_S = 0.5, 0.3  # after a halt the robot may brake for so long, then it stands


@dataclass(frozen=True, kw_only=True)
class Motion:
    """Commands [C] that the robot may carry out one after the other, a period each, wherever the kit has left it.

    `constant`: elements of the state, or patterns, that are measured and may still be zero throughout.
    """

    commands: Sequence[Array]
    constant: tuple[str, ...] = ()


@dataclass(frozen=True)
class _Axis:
    name: str
    position: int
    velocity: int | None


def check_motion(robot: Robot, motion: Motion, clock: Clock, require: Callable[[bool, str], None]) -> None:
    """Moves, reads, halts. The robot is open; `require(holds, sentence)` raises what is wrong."""
    axes = _axes(robot)
    require(bool(axes), "nothing that a command moves is measured: no position of any axis is in spec.state")
    states = _driven(robot, motion.commands, clock)
    readings = np.array([state.values for state in states], np.float64)  # [N, S]
    _check_filled(robot, readings, motion.constant, require)
    moved = [axis for axis in axes if np.ptp(readings[:, axis.position]) > MOVED]
    require(bool(moved), f"no axis of {[axis.name for axis in axes]} moved by {MOVED} while commands were carried out")
    for axis in axes:
        if axis.velocity is not None:
            _check_speed(axis, states, readings, require)
    _check_halt(robot, motion.commands, axes, clock, require)


def _axes(robot: Robot) -> list[_Axis]:
    state, found = robot.spec.state, []
    for name in robot.spec.command.names:
        axis, way = axis_of(name)
        position = position_of(axis, state)
        if way is not None and position is not None:
            found.append(_Axis(axis, position, velocity_of(axis, state)))
    return found


def _driven(robot: Robot, commands: Sequence[Array], clock: Clock) -> list[RobotState]:
    """The readings before each command and after the last, one period of the robot apart."""
    due_s, states = clock.now_s(), []
    for command in commands:
        states.append(robot.read())
        robot.command(command)
        due_s += 1.0 / robot.spec.rate_hz
        clock.sleep_until(due_s)
    return [*states, robot.read()]


def _check_filled(robot: Robot, readings: Array, constant: Sequence[str], require: Callable[[bool, str], None]) -> None:
    for i, name in enumerate(robot.spec.state.names):
        may = any(fnmatchcase(name, pattern) for pattern in constant)
        require(
            may or bool(readings[:, i].any()),
            f"{name} is exactly zero in each of {len(readings)} readings, at rest and in motion: what is not measured "
            "is left out of spec.state",
        )


def _check_speed(
    axis: _Axis, states: Sequence[RobotState], readings: Array, require: Callable[[bool, str], None]
) -> None:
    assert axis.velocity is not None, axis
    place, speed = readings[:, axis.position], readings[:, axis.velocity]
    require(
        not (np.array_equal(place, speed) and place.any()),
        f"the velocity of {axis.name} is its position in each reading",
    )
    stamps_s = np.array([state.stamp_s for state in states])
    gone, told = place[-1] - place[0], float(np.trapezoid(speed, stamps_s))
    if stamps_s[-1] > stamps_s[0]:
        along, slack = told * np.sign(gone), 10 * MOVED
        require(
            bool(-AGAINST * abs(gone) - slack <= along <= BEYOND * abs(gone) + slack),
            f"{axis.name} went {gone:.3g}, its measured velocity adds up to {told:.3g}: it is of another unit, sign or "
            "axis",
        )


def _check_halt(
    robot: Robot, commands: Sequence[Array], axes: Sequence[_Axis], clock: Clock, require: Callable[[bool, str], None]
) -> None:
    half = list(commands[: max(1, len(commands) // 2)])
    _driven(robot, half, clock)
    robot.halt()
    clock.sleep_until(clock.now_s() + SETTLE_S)
    before = robot.read().values
    clock.sleep_until(clock.now_s() + LOOK_S)
    after = robot.read().values
    for axis in axes:
        way = abs(float(after[axis.position]) - float(before[axis.position]))
        require(way <= MOVED, f"{axis.name} still moves after halt: {way:.3g} in {LOOK_S} s")
