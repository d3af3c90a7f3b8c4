"""Script: what a person knows of a task: where the tip should go next, from what is seen now, and how much is left.

A script belongs to its task and knows neither pace nor shake; the operator has those. It looks afresh at every step,
so that it can take over from a policy anywhere.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol, runtime_checkable

import numpy as np

from user_rl.specs import Array

TURN_M = 0.1  # a radian of yaw counts as so many metres of what is left


class Glance(NamedTuple):
    """What the operator sees at one step, all of it in the work frame."""

    pose: Array  # [4] the tip's x, y, z m, yaw rad
    state: Mapping[str, float]  # every element of the robot's state by its name


class Aim(NamedTuple):
    """Where the tip should go, and what for."""

    pose: Array  # [4] as Glance.pose
    at_m: Array  # [3] what is being worked on: near it the hand calms down
    width_m: float | None = None  # between the fingers, where there are any


class Script(Protocol):
    """One person's plan for one task."""

    def begin(self) -> None:
        """A new episode: whatever was remembered of the last one is gone."""

    def aim(self, glance: Glance) -> Aim:
        """Where to go at this step."""

    def left_m(self, glance: Glance) -> float:
        """How much is left to do; a policy that does not lower it does not get on."""


@runtime_checkable
class Scripted(Protocol):
    """A task that has a script."""

    def script(self, hover_m: float) -> Script:
        """A script whose tip stays `hover_m` above what it is not yet aligned with."""


@dataclass(frozen=True, kw_only=True)
class Hole:
    """How exactly a thing must stand over its hole before it is lowered, and where it then goes. Heights of the tip."""

    aligned_m: float
    aligned_rad: float = 0.03
    goal_m: float  # below the floor: lowering never slows down
    mouth_m: float = -0.0015  # the tip below it is in the hole
    pressed_m: float = 0.005  # a target so far below the tip means that the rim is in the way
    lift_steps: int = 2


class Insert:
    """Hovers over a hole until aligned, lowers, and lifts again when it hits the rim. See Script."""

    def __init__(self, hole: Hole, hover_m: float, where: Callable[[Glance], Array]) -> None:
        self.hole, self._hover_m, self._where = hole, hover_m, where  # `where`: the hole's x, y, yaw in the work frame
        self._lift_steps = 0

    def begin(self) -> None:
        self._lift_steps = 0

    def aim(self, glance: Glance) -> Aim:
        hole, pose, (x, y, yaw) = self.hole, glance.pose, self._where(glance)
        in_hole = pose[2] < hole.mouth_m
        aligned = np.abs(pose[:2] - (x, y)).max() < hole.aligned_m and abs(pose[3] - yaw) < hole.aligned_rad
        if not in_hole and glance.state["tip.offset.z"] < -hole.pressed_m:
            self._lift_steps = hole.lift_steps
        height_m = hole.goal_m if in_hole or aligned else self._hover_m
        if self._lift_steps:
            self._lift_steps -= 1
            height_m = 2 * self._hover_m
        return Aim(np.array([x, y, height_m, yaw]), at_m=np.array([x, y, 0.0]))

    def left_m(self, glance: Glance) -> float:
        x, y, yaw = self._where(glance)
        return left_m(glance.pose, np.array([x, y, self.hole.goal_m, yaw]))


def left_m(pose: Array, goal: Array) -> float:
    """The way from one pose [4] to another."""
    return float(np.abs(pose[:3] - goal[:3]).sum() + TURN_M * abs(pose[3] - goal[3]))


def glance(names: tuple[str, ...], values: Array) -> Glance:
    """What is seen, from a robot's state that begins as an end effector's does."""
    x, y, z, sine, cosine = values[:5]
    state: dict[str, Any] = dict(zip(names, values.tolist(), strict=True))
    return Glance(np.array([x, y, z, np.arctan2(sine, cosine)]), state)
