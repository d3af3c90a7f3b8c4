"""Button press: bring the presser from a random start over a button that stands elsewhere each time, and press it down.

The button is a disc on a spring; the top of it, at rest, is the height 0 of the work frame. Sparse reward: an episode
ends when it is pressed by `depth_m`. The state carries where the button stands and how far it is pressed.
"""

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar
from xml.etree.ElementTree import Element, SubElement

import numpy as np

from hal.end_effector import DeltaEndEffector
from hal.sim.script import Aim, Glance, Script, left_m
from hal.sim.shapes import DARK, FIXED, RED, WHITE, add_body, add_box, add_cylinder, add_table
from hal.sim.tools import Tool
from hal.task import Judgement
from user_rl.specs import Array, Box, box

if TYPE_CHECKING:  # its module loads mujoco, this one must not
    from hal.sim.arm import SimArm

_RADIUS_M, _TRAVEL_M = 0.012, 0.008
_HOUSING_M, _TABLE_M = 0.010, 0.030  # how far the housing's top and the table's lie below the button's
_STIFFNESS_N_M = 800.0
_GOAL_M = -0.02  # below the deepest: pressing never slows down


@dataclass(frozen=True, kw_only=True)
class ButtonPressConfig:
    """What counts as pressed, and how far starts are scattered."""

    tool: ClassVar[Tool] = Tool.PRESSER
    max_steps: int = 100
    depth_m: float = 0.005
    button_spread_m: float = 0.050  # ±, in x and y, around the work frame's origin
    start_height_m: float = 0.060
    start_spread_m: float = 0.050
    start_turn_rad: float = 0.1745

    def __post_init__(self) -> None:
        if not 0 < self.depth_m < _TRAVEL_M:
            raise ValueError(f"depth_m = {self.depth_m}, allowed above 0 and below {_TRAVEL_M}; change it")
        if self.max_steps < 1:
            raise ValueError(f"max_steps = {self.max_steps}, allowed 1 or more; change it")


class ButtonPress:
    """See hal.task.Task. Adds its button to the simulated world, so it is made before the robot is opened."""

    def __init__(self, config: ButtonPressConfig, hand: DeltaEndEffector, arm: "SimArm") -> None:
        self.config, self.hand, self.arm = config, hand, arm
        self.scene = _scene()
        self._button = np.zeros(2)
        arm.world.add(self._add_button)

    @property
    def name(self) -> str:
        return "button_press"

    @property
    def max_steps(self) -> int:
        return self.config.max_steps

    def reset(self, seed: int) -> None:
        c, rng = self.config, np.random.default_rng(seed)
        self._button = rng.uniform(-c.button_spread_m, c.button_spread_m, 2)
        x, y = rng.uniform(-c.start_spread_m, c.start_spread_m, 2)
        pose = np.array([x, y, c.start_height_m, rng.uniform(-c.start_turn_rad, c.start_turn_rad)])
        self.arm.world.move("button", np.add(self.hand.config.origin_m, (*self._button, 0.0)))
        self.arm.place(self.hand.posture(pose))
        self.hand.forget()

    def judge(self) -> Judgement:
        success = self._depth_m() >= self.config.depth_m
        return Judgement(reward=float(success), done=success, success=success)

    def see(self) -> Array:
        return np.append(self._button, self._depth_m())

    def script(self, hover_m: float) -> Script:
        """See hal.sim.script.Scripted."""
        return _Press(hover_m)

    def _depth_m(self) -> float:
        return -float(self.arm.world.where("button_travel")[0])

    def _add_button(self, world: Element) -> None:
        add_table(world, self.hand.config.origin_m, -_TABLE_M)
        button = add_body(world, "button", self.hand.config.origin_m)
        half = (_TABLE_M - _HOUSING_M) / 2
        add_box(button, (0, 0, -_TABLE_M + half), (0.022, 0.022, half), DARK, **FIXED)
        add_cylinder(button, (0, 0, -_HOUSING_M), (_RADIUS_M + 0.003, 3e-4), WHITE)
        disc = SubElement(button, "body", name="disc", gravcomp="1")
        SubElement(
            disc, "joint", name="button_travel", type="slide", axis="0 0 1", range=f"{-_TRAVEL_M} 0.001", damping="8",
            stiffness=str(_STIFFNESS_N_M),
        )  # fmt: skip
        add_cylinder(disc, (0, 0, -_HOUSING_M / 2), (_RADIUS_M, _HOUSING_M / 2), RED, mass="0.02", **FIXED)


class _Press:
    """Over the button, then down. See hal.sim.script.Script."""

    def __init__(self, hover_m: float) -> None:
        self._hover_m = hover_m

    def begin(self) -> None: ...

    def aim(self, glance: Glance) -> Aim:
        x, y, _ = button = _button(glance)
        aligned = np.abs(glance.pose[:2] - button[:2]).max() < _RADIUS_M / 2
        return Aim(np.array([x, y, _GOAL_M if aligned else self._hover_m, 0.0]), at_m=button)

    def left_m(self, glance: Glance) -> float:
        x, y, _ = _button(glance)
        return left_m(glance.pose, np.array([x, y, _GOAL_M, 0.0]))


def _button(glance: Glance) -> Array:
    return np.array([glance.state["button.x"], glance.state["button.y"], 0.0])


def _scene() -> Box:
    where = [(f"button.{axis}", "m", -0.2, 0.2) for axis in "xy"]
    return box("scene", [*where, ("button.depth", "m", -0.01, 0.02)])
