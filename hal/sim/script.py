"""Script: what a person knows of a task: where the tip should go next, from what is seen now, and how much is left.

A script belongs to its task and knows neither pace nor shake; the operator has those. It looks afresh at every step,
so that it can take over from a policy anywhere.
"""

from collections.abc import Mapping
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


def left_m(pose: Array, goal: Array) -> float:
    """The way from one pose [4] to another."""
    return float(np.abs(pose[:3] - goal[:3]).sum() + TURN_M * abs(pose[3] - goal[3]))


def glance(names: tuple[str, ...], values: Array) -> Glance:
    """What is seen, from a robot's state that begins as an end effector's does."""
    x, y, z, sine, cosine = values[:5]
    state: dict[str, Any] = dict(zip(names, values.tolist(), strict=True))
    return Glance(np.array([x, y, z, np.arctan2(sine, cosine)]), state)
