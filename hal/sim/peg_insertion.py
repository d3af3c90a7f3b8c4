"""Peg insertion: bring the peg from a random start above a fixed block into its hole. Sparse reward, 10 Hz, 10 s.

The hole's mouth is the origin of the robot's work frame. The hole is `clearance_m` wider than the peg in both
directions; both are square, so that yaw matters. An episode ends when the tip is `depth_m` below the mouth.
"""

from dataclasses import dataclass
from typing import TYPE_CHECKING
from xml.etree.ElementTree import Element, SubElement

import numpy as np

from hal.end_effector import DeltaEndEffector
from hal.sim.script import Hole, Insert, Script
from hal.sim.tools import PEG_WIDTH_M
from hal.task import Judgement

if TYPE_CHECKING:  # its module loads mujoco, this one must not
    from hal.sim.arm import SimArm

_Vector = tuple[float, float, float]
_RIM_M = 0.002
_GREEN, _DARK = "0.55 0.64 0.60 1", "0.10 0.11 0.13 1"
_BLOCK_M, _BLOCK_HEIGHT_M, _FLOOR_M = 0.22, 0.06, 0.03  # width and height of the block; depth of the hole
_HOLE = Hole(aligned_m=0.0007, goal_m=-0.035)


@dataclass(frozen=True, kw_only=True)
class PegInsertionConfig:
    """The hole, what counts as inserted, and how far starts are scattered around a point above the hole."""

    max_steps: int = 100
    clearance_m: float = 0.002  # hole's width less the peg's
    depth_m: float = 0.020
    start_height_m: float = 0.060
    start_spread_m: float = 0.050  # ±, in x and y
    start_turn_rad: float = 0.1745  # ±10°

    def __post_init__(self) -> None:
        if not 0 < self.clearance_m <= 0.05:
            raise ValueError(f"clearance_m = {self.clearance_m}, allowed above 0 to 0.05; change it")
        if not 0 < self.depth_m < _FLOOR_M:
            raise ValueError(f"depth_m = {self.depth_m}, allowed above 0 and below the hole's {_FLOOR_M}; change it")
        if self.max_steps < 1:
            raise ValueError(f"max_steps = {self.max_steps}, allowed 1 or more; change it")


class PegInsertion:
    """See hal.task.Task. Adds its block to the simulated world, so it is made before the robot is opened."""

    def __init__(self, config: PegInsertionConfig, hand: DeltaEndEffector, arm: "SimArm") -> None:
        self.config, self.hand, self.arm = config, hand, arm
        arm.world.add(self._add_block)

    @property
    def name(self) -> str:
        return "peg_insertion"

    @property
    def max_steps(self) -> int:
        return self.config.max_steps

    def reset(self, seed: int) -> None:
        c, rng = self.config, np.random.default_rng(seed)
        x, y = rng.uniform(-c.start_spread_m, c.start_spread_m, 2)
        pose = np.array([x, y, c.start_height_m, rng.uniform(-c.start_turn_rad, c.start_turn_rad)])
        self.arm.place(self.hand.posture(pose))
        self.hand.forget()

    def judge(self) -> Judgement:
        x, y, z = self.hand.read().values[:3]
        inside = max(abs(x), abs(y)) < self.config.clearance_m
        success = bool(inside and z <= -self.config.depth_m)
        return Judgement(reward=float(success), done=success, success=success)

    def script(self, hover_m: float) -> Script:
        """See hal.sim.script.Scripted."""
        return Insert(_HOLE, hover_m, lambda glance: np.zeros(3))

    def _add_block(self, world: Element) -> None:
        """A square hole out of four walls and a floor, its mouth at the work frame's origin."""
        block = SubElement(world, "body", name="block", pos=" ".join(map(str, self.hand.config.origin_m)))
        half, hole = _BLOCK_M / 2, (PEG_WIDTH_M + self.config.clearance_m) / 2
        middle, thick = (half + hole) / 2, (half - hole) / 2
        z, height = -_BLOCK_HEIGHT_M / 2, _BLOCK_HEIGHT_M / 2
        for side in (-1, 1):
            _add_wall(block, (side * middle, 0, z), (thick, half, height))
            _add_wall(block, (0, side * middle, z), (hole, thick, height))
        floor = (_BLOCK_HEIGHT_M - _FLOOR_M) / 2
        _add_wall(block, (0, 0, -_FLOOR_M - floor), (hole, hole, floor), rgba=_DARK)
        _add_rim(block, hole)


def _add_rim(block: Element, hole: float) -> None:
    """A dark frame around the mouth, which a camera sees and a peg does not feel."""
    for side in (-1, 1):
        _add_wall(block, (side * (hole + _RIM_M), 0, 0), (_RIM_M, hole + 2 * _RIM_M, 2e-4), rgba=_DARK, contype="0")
        _add_wall(block, (0, side * (hole + _RIM_M), 0), (hole, _RIM_M, 2e-4), rgba=_DARK, contype="0")


def _add_wall(block: Element, at: _Vector, half: _Vector, *, rgba: str = _GREEN, contype: str = "1") -> None:
    SubElement(
        block, "geom", type="box", pos=" ".join(map(str, at)), size=" ".join(map(str, half)), rgba=rgba,
        contype=contype, conaffinity=contype,
    )  # fmt: skip
