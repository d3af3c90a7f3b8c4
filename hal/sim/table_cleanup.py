"""Table clean-up: sweep small blocks that lie about a table over its edge into a bin, with a paddle.

The table's top is the height 0 of the work frame; its edge and the bin lie towards +y. The paddle takes one or two
blocks at a time. Sparse reward: an episode ends when every block is in the bin; `reward=count` is worth a share for
each that falls in. The state carries where each block is.
"""

from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, ClassVar
from xml.etree.ElementTree import Element

import numpy as np

from hal.end_effector import DeltaEndEffector
from hal.sim.script import Aim, Glance, Script
from hal.sim.shapes import (
    BLUE,
    DARK,
    FIXED,
    GREEN,
    RED,
    TOUCHES,
    WOOD,
    YELLOW,
    Vector,
    add_body,
    add_box,
    add_free_body,
)
from hal.sim.tools import PADDLE_M, Tool
from hal.task import Judgement
from user_rl.specs import Array, box

if TYPE_CHECKING:  # its module loads mujoco, this one must not
    from hal.sim.arm import SimArm

_COLOURS = (RED, YELLOW, BLUE, GREEN)
_HALF_M = 0.009  # of a block
_EDGE_M, _BACK_M, _WIDE_M = 0.045, -0.11, 0.095  # y of the table's two ends; half its width
_BIN_M, _BIN_DEEP_M, _WALL_M = 0.075, 0.050, 0.004  # from the edge to the bin's far wall; its floor below the table
_IN_M = -0.015  # a block below it is in the bin
_APART_M = 0.030  # blocks, at the start
_SWEEP_M, _ABOVE_M = 0.003, 0.035  # heights of the tip
_TOUCHING_M = _HALF_M + PADDLE_M[1]
_TO_M = 0.075  # y at the end of a sweep


class CleanupReward(StrEnum):
    """What is rewarded."""

    SPARSE = "sparse"  # 1 for the last block
    COUNT = "count"  # an equal share for every block, when it falls in


@dataclass(frozen=True, kw_only=True)
class TableCleanupConfig:
    """How many blocks there are, and how far they and the paddle's starts are scattered."""

    tool: ClassVar[Tool] = Tool.PADDLE
    max_steps: int = 400
    blocks: int = 3
    reward: CleanupReward = CleanupReward.SPARSE
    block_low_m: tuple[float, ...] = (-0.050, -0.040)
    block_high_m: tuple[float, ...] = (0.050, 0.020)
    start_height_m: float = 0.060
    start_spread_m: float = 0.050
    start_turn_rad: float = 0.1745

    def __post_init__(self) -> None:
        if not 1 <= self.blocks <= len(_COLOURS):
            raise ValueError(f"blocks = {self.blocks}, allowed 1 to {len(_COLOURS)}; change it")
        low, high = self.block_low_m, self.block_high_m
        if not (len(low) == len(high) == 2 and min(np.subtract(high, low)) >= 0.05):
            raise ValueError(f"block_low_m = {list(low)}, allowed well below block_high_m = {list(high)}; change them")
        if self.max_steps < 1:
            raise ValueError(f"max_steps = {self.max_steps}, allowed 1 or more; change it")


class TableCleanup:
    """See hal.task.Task. Adds table, blocks and bin to the simulated world before the robot is opened."""

    def __init__(self, config: TableCleanupConfig, hand: DeltaEndEffector, arm: "SimArm") -> None:
        self.config, self.hand, self.arm = config, hand, arm
        self._names = tuple(f"block{i}" for i in range(config.blocks))
        self.scene = box("scene", [(f"{name}.{axis}", "m", -1.0, 1.0) for name in self._names for axis in "xyz"])
        self._counted = 0
        arm.world.add(self._add_things)

    @property
    def name(self) -> str:
        return "table_cleanup"

    @property
    def max_steps(self) -> int:
        return self.config.max_steps

    def reset(self, seed: int) -> None:
        c, rng = self.config, np.random.default_rng(seed)
        self._counted = 0
        things = {name: self._lying(place, rng) for name, place in zip(self._names, _scattered(c, rng), strict=True)}
        x, y = rng.uniform(-c.start_spread_m, c.start_spread_m, 2)
        pose = np.array([x, y, c.start_height_m, rng.uniform(-c.start_turn_rad, c.start_turn_rad)])
        self.arm.place(self.hand.posture(pose), things)
        self.hand.forget()

    def judge(self) -> Judgement:
        inside = int(_inside(self._blocks()).sum())
        success = inside == self.config.blocks
        gained, self._counted = inside - self._counted, inside
        shares = self.config.reward is CleanupReward.COUNT
        return Judgement(
            reward=gained / self.config.blocks if shares else float(success), done=success, success=success
        )

    def see(self) -> Array:
        return self._blocks().ravel()

    def script(self, hover_m: float) -> Script:
        """See hal.sim.script.Scripted."""
        return _Sweep(self._names)

    def _blocks(self) -> Array:
        """[N, 3] m in the work frame."""
        return np.array([self.arm.world.where(name)[:3] for name in self._names]) - self.hand.config.origin_m

    def _lying(self, place: Array, rng: np.random.Generator) -> Array:
        half_rad = rng.uniform(-np.pi, np.pi) / 2
        at_m = np.add(self.hand.config.origin_m, (*place, _HALF_M))
        return np.array([*at_m, np.cos(half_rad), 0, 0, np.sin(half_rad)])

    def _add_things(self, world: Element) -> None:
        origin = self.hand.config.origin_m
        for i, name in enumerate(self._names):
            block = add_free_body(world, name, (origin[0] + i * _APART_M, origin[1], origin[2] + _HALF_M))
            add_box(block, (0, 0, 0), (_HALF_M,) * 3, _COLOURS[i], mass="0.01", **TOUCHES)
        table = add_body(world, "table", origin)
        half, thick = (_EDGE_M - _BACK_M) / 2, origin[2] / 2
        add_box(table, (0, _EDGE_M - half, -thick), (_WIDE_M, half, thick), WOOD, **FIXED)
        for side in (-1, 1):  # rims, so that nothing falls off elsewhere
            _add_wall(table, (side * _WIDE_M, _EDGE_M - half, 0), (_WALL_M, half, 0.010))
        _add_wall(table, (0, _BACK_M, 0), (_WIDE_M, _WALL_M, 0.010))
        _add_bin(table)


def _add_bin(table: Element) -> None:
    middle, half, deep = _EDGE_M + _BIN_M / 2, _BIN_M / 2, _BIN_DEEP_M
    _add_wall(table, (0, middle, -deep - _WALL_M), (_WIDE_M, half, _WALL_M), DARK)
    _add_wall(table, (0, _EDGE_M + _BIN_M, -deep / 2), (_WIDE_M, _WALL_M, deep / 2 + 0.010))
    for side in (-1, 1):
        _add_wall(table, (side * _WIDE_M, middle, -deep / 2), (_WALL_M, half, deep / 2 + 0.010))


def _add_wall(body: Element, at_m: Vector, half_m: Vector, rgba: str = DARK) -> None:
    add_box(body, at_m, half_m, rgba, **FIXED)


def _scattered(config: TableCleanupConfig, rng: np.random.Generator) -> list[Array]:
    """Places on the table, none too near to another."""
    places: list[Array] = []
    while len(places) < config.blocks:
        place = rng.uniform(config.block_low_m, config.block_high_m)
        if all(np.abs(place - other).max() > _APART_M for other in places):
            places.append(place)
    return places


def _inside(blocks: Array) -> Array:
    """Which of them lie in the bin, and not beside the table."""
    in_width = np.abs(blocks[:, 0]) < _WIDE_M
    in_depth = (blocks[:, 1] > _EDGE_M - _HALF_M) & (blocks[:, 1] < _EDGE_M + _BIN_M)
    inside: Array = in_width & in_depth & (blocks[:, 2] < _IN_M)
    return inside


class _Sweep:
    """Behind the block that is farthest from the bin, down, over the edge with it, up. See hal.sim.script.Script."""

    def __init__(self, names: tuple[str, ...]) -> None:
        self._names = names

    def begin(self) -> None: ...

    def aim(self, glance: Glance) -> Aim:
        pose, blocks = glance.pose, self._left(glance)
        if not len(blocks):
            return Aim(np.array([*pose[:2], _ABOVE_M, 0.0]), np.array([0.0, _EDGE_M, 0.0]))
        ahead = blocks[:, 1] - pose[1]
        before = (np.abs(blocks[:, 0] - pose[0]) < PADDLE_M[0] - 0.006) & (ahead > _TOUCHING_M - 0.006)
        if pose[2] < _SWEEP_M + 0.008 and before.any() and abs(pose[3]) < 0.15:
            block = blocks[before][np.argmin(ahead[before])]  # the one that is being pushed
            return Aim(np.array([block[0], _TO_M, _SWEEP_M, 0.0]), block)
        block = blocks[np.argmin(blocks[:, 1])]
        start = np.array([block[0], max(block[1] - _TOUCHING_M - 0.016, -0.078)])
        ready = np.abs(pose[:2] - start).max() < 0.008 and abs(pose[3]) < 0.08
        high = pose[2] > _ABOVE_M - 0.010
        x, y = start if high or ready else pose[:2]  # up first: never through another block
        return Aim(np.array([x, y, _SWEEP_M if ready else _ABOVE_M, 0.0]), block)

    def left_m(self, glance: Glance) -> float:
        blocks = self._left(glance)
        if not len(blocks):
            return 0.0
        block = blocks[np.argmin(blocks[:, 1])]
        ways = np.maximum(_TO_M - blocks[:, 1], 0.0).sum()
        return float(ways + np.abs(glance.pose[:3] - block).sum())

    def _left(self, glance: Glance) -> Array:
        """[N, 3] the blocks that are not in the bin yet."""
        blocks = np.array([[glance.state[f"{name}.{axis}"] for axis in "xyz"] for name in self._names])
        return blocks[blocks[:, 2] > _IN_M]
