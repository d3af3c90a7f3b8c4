"""Pick and place: grasp a cube that lies anywhere in the left half of a table, and put it into a tray in the right one.

The table's top is the height 0 of the work frame. Sparse reward: an episode ends when the cube lies in the tray and the
fingers have let go. The state carries where cube and tray are, and the width between the fingers.
"""

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar
from xml.etree.ElementTree import Element

import numpy as np

from hal.end_effector import DeltaEndEffector
from hal.sim.script import Aim, Glance, Script
from hal.sim.shapes import BLUE, DARK, FIXED, RED, TOUCHES, add_body, add_box, add_free_body, add_table
from hal.sim.tools import Tool
from hal.task import Judgement
from user_rl.specs import Array, Box, box

if TYPE_CHECKING:  # its module loads mujoco, this one must not
    from hal.sim.arm import SimArm

_HALF_M = 0.015  # of the cube
_TRAY_M, _RIM_M, _WALL_M, _FLOOR_M = 0.034, 0.014, 0.003, 0.002  # half its inside, height, thickness
_CUBES_M, _TRAYS_M = -0.050, 0.042  # y of the middles of where the two stand
_LIES_M = _HALF_M + _FLOOR_M + 0.004  # the cube's middle at most, when it lies in the tray
_FREE_M = 2 * _HALF_M + 0.006  # between fingers that have let go
_OPEN_M = 0.052  # wide enough to go round the cube, and too narrow to meet the tray beside it
_GRASP_M, _CARRY_M, _DROP_M, _ABOVE_M = 0.006, 0.040, 0.018, 0.040  # heights of the tip


@dataclass(frozen=True, kw_only=True)
class PickAndPlaceConfig:
    """How far starts are scattered."""

    tool: ClassVar[Tool] = Tool.GRIPPER
    max_steps: int = 200
    cube_spread_m: tuple[float, ...] = (0.050, 0.015)  # ± in x and y
    cube_turn_rad: float = 0.35
    tray_spread_m: tuple[float, ...] = (0.040, 0.003)
    start_height_m: float = 0.080
    start_spread_m: float = 0.050
    start_turn_rad: float = 0.1745

    def __post_init__(self) -> None:
        for name in ("cube_spread_m", "tray_spread_m"):
            if len(getattr(self, name)) != 2:
                raise ValueError(f"{name} = {list(getattr(self, name))}, allowed 2 numbers; change it")
        if self.max_steps < 1:
            raise ValueError(f"max_steps = {self.max_steps}, allowed 1 or more; change it")


class PickAndPlace:
    """See hal.task.Task. Adds table, cube and tray to the simulated world before the robot is opened."""

    def __init__(self, config: PickAndPlaceConfig, hand: DeltaEndEffector, arm: "SimArm") -> None:
        self.config, self.hand, self.arm = config, hand, arm
        self.scene = _scene()
        self._tray = np.zeros(2)
        arm.world.add(self._add_things)

    @property
    def name(self) -> str:
        return "pick_and_place"

    @property
    def max_steps(self) -> int:
        return self.config.max_steps

    def reset(self, seed: int) -> None:
        c, rng = self.config, np.random.default_rng(seed)
        cube = rng.uniform(-1, 1, 2) * c.cube_spread_m + (0, _CUBES_M)
        half_rad = rng.uniform(-c.cube_turn_rad, c.cube_turn_rad) / 2
        self._tray = rng.uniform(-1, 1, 2) * c.tray_spread_m + (0, _TRAYS_M)
        x, y = rng.uniform(-c.start_spread_m, c.start_spread_m, 2)
        pose = np.array([x, y, c.start_height_m, rng.uniform(-c.start_turn_rad, c.start_turn_rad)])
        origin = self.hand.config.origin_m
        at_m = np.add(origin, (*cube, _HALF_M))
        self.arm.world.move("tray", np.add(origin, (*self._tray, 0.0)))
        self.arm.place(self.hand.posture(pose), {"cube": (*at_m, np.cos(half_rad), 0, 0, np.sin(half_rad))})
        self.hand.forget()

    def judge(self) -> Judgement:
        x, y, z, *_ = self._cube()
        inside = max(abs(x - self._tray[0]), abs(y - self._tray[1])) < _TRAY_M
        success = bool(inside and z < _LIES_M and self.arm.world.width_m > _FREE_M)
        return Judgement(reward=float(success), done=success, success=success)

    def see(self) -> Array:
        return np.array([*self._cube(), *self._tray])

    def script(self, hover_m: float) -> Script:
        """See hal.sim.script.Scripted."""
        return _Carry()

    def _cube(self) -> tuple[float, ...]:
        """x, y, z, and sine and cosine of four times its yaw: a cube looks the same from four sides."""
        where = self.arm.world.where("cube")
        w, i, j, k = where[3:]
        turn = 4 * np.arctan2(2 * (w * k + i * j), 1 - 2 * (j * j + k * k))
        x, y, z = where[:3] - self.hand.config.origin_m
        return float(x), float(y), float(z), float(np.sin(turn)), float(np.cos(turn))

    def _add_things(self, world: Element) -> None:
        origin = self.hand.config.origin_m
        add_table(world, origin, 0.0)
        cube = add_free_body(world, "cube", (origin[0], origin[1] + _CUBES_M, origin[2] + _HALF_M))
        add_box(cube, (0, 0, 0), (_HALF_M,) * 3, RED, mass="0.04", **TOUCHES)
        tray = add_body(world, "tray", origin)
        outer = _TRAY_M + _WALL_M
        add_box(tray, (0, 0, _FLOOR_M / 2), (outer, outer, _FLOOR_M / 2), DARK, **FIXED)
        for side in (-1, 1):
            middle, height = side * (_TRAY_M + _WALL_M / 2), _RIM_M / 2
            add_box(tray, (middle, 0, height), (_WALL_M / 2, outer, height), BLUE, **FIXED)
            add_box(tray, (0, middle, height), (_TRAY_M, _WALL_M / 2, height), BLUE, **FIXED)


class _Carry:
    """Over the cube, around it, up, over the tray, down, let go. See hal.sim.script.Script."""

    def begin(self) -> None: ...

    def aim(self, glance: Glance) -> Aim:
        pose, cube, tray, yaw, width = _things(glance)
        holds = width < _FREE_M - 0.002 and np.abs(pose[:3] - cube).max() < _HALF_M
        if holds:
            return _bring(pose, cube, tray)
        if np.abs(cube[:2] - tray[:2]).max() < _TRAY_M:  # it is there: let go
            return Aim(np.array([*pose[:2], _ABOVE_M, pose[3]]), tray, _OPEN_M)
        low, closes = pose[2] < _ABOVE_M - 0.01, pose[2] < _GRASP_M + 0.004
        slack = 2 if closes else 1  # what has begun is not broken off for a shake of the hand
        if np.abs(pose[:2] - cube[:2]).max() < 0.004 * slack and abs(pose[3] - yaw) < 0.08 * slack:
            return Aim(np.array([*cube[:2], _GRASP_M, yaw]), cube, 0.0 if closes else _OPEN_M)
        x, y = pose[:2] if low and np.abs(pose[:2] - cube[:2]).max() > 0.008 else cube[:2]  # never through the cube
        return Aim(np.array([x, y, _ABOVE_M, yaw]), cube, _OPEN_M)

    def left_m(self, glance: Glance) -> float:
        pose, cube, tray, _, _ = _things(glance)
        return float(np.abs(pose[:3] - cube).sum() + np.abs(cube - tray)[:2].sum())


def _bring(pose: Array, cube: Array, tray: Array) -> Aim:
    """What to do with a cube that is held."""
    off = tray[:2] - cube[:2]
    if np.abs(off).max() < 0.012:
        drops = pose[2] < _DROP_M + 0.004
        return Aim(np.array([*(pose[:2] + off), _DROP_M, pose[3]]), tray, _OPEN_M if drops else 0.0)
    x, y = pose[:2] + off if pose[2] > _CARRY_M - 0.008 else pose[:2]  # up first: the rim is in the way
    return Aim(np.array([x, y, _CARRY_M, pose[3]]), tray, 0.0)


def _things(glance: Glance) -> tuple[Array, Array, Array, float, float]:
    s = glance.state
    cube = np.array([s["cube.x"], s["cube.y"], s["cube.z"]])
    tray = np.array([s["tray.x"], s["tray.y"], 0.0])
    return glance.pose, cube, tray, float(np.arctan2(s["cube.turn.sin"], s["cube.turn.cos"])) / 4, s["gripper.width"]


def _scene() -> Box:
    where = [(f"cube.{axis}", "m", -1.0, 1.0) for axis in "xyz"]
    where += [("cube.turn.sin", "", -1.0, 1.0), ("cube.turn.cos", "", -1.0, 1.0)]
    return box("scene", [*where, *((f"tray.{axis}", "m", -0.2, 0.2) for axis in "xy")])
