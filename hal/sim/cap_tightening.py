"""Cap tightening: turn a cap on a bottle clockwise until it is tight, letting go and grasping again on the way.

The cap has eight sides; it turns on the bottle's thread against friction, up to a stop. The hand turns by half a radian
at most to either side, so that most starts need two strokes. The cap's middle is the height 0 of the work frame.
Sparse reward: an episode ends when the cap is at its stop. The state carries where the bottle stands, how much is left
to turn, and how the sides lie.
"""

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar
from xml.etree.ElementTree import Element, SubElement

import numpy as np

from hal.end_effector import DeltaEndEffector
from hal.sim.script import TURN_M, Aim, Glance, Script
from hal.sim.shapes import BLUE, FIXED, ORANGE, WHITE, YELLOW, add_body, add_box, add_cylinder, add_table, text
from hal.sim.tools import Tool
from hal.task import Judgement
from user_rl.specs import Array, Box, box

if TYPE_CHECKING:  # its module loads mujoco, this one must not
    from hal.sim.arm import SimArm

_SIDES = 8
_SIDE_RAD = 2 * np.pi / _SIDES
_HALF_M, _HEIGHT_M = 0.015, 0.010  # of the cap: from its middle to a side; half its height
_TABLE_M = 0.06  # below the cap's middle
_FRICTION_NM = 0.08  # of the thread
_MAX_TURN_RAD = 3.0
_HELD_M = 2 * _HALF_M + 0.003  # between fingers that hold it
_OPEN_M = 0.060
_GRASP_M, _ABOVE_M = -0.006, 0.030  # heights of the tip
_FROM_RAD, _TO_RAD = 0.42, -0.42  # a stroke's widest range: its ends are within the hand's, a side apart


@dataclass(frozen=True, kw_only=True)
class CapTighteningConfig:
    """What counts as tight, and how far starts are scattered."""

    tool: ClassVar[Tool] = Tool.GRIPPER
    max_steps: int = 300
    tight_rad: float = 0.03  # left to turn at most
    turn_rad: tuple[float, ...] = (0.5, 1.3)  # left to turn at the start
    bottle_spread_m: float = 0.040  # ±, in x and y, around the work frame's origin
    start_height_m: float = 0.060
    start_spread_m: float = 0.050
    start_turn_rad: float = 0.1745

    def __post_init__(self) -> None:
        if not (len(self.turn_rad) == 2 and 0 < self.tight_rad < self.turn_rad[0] <= self.turn_rad[1] <= _MAX_TURN_RAD):
            given, most = f"turn_rad = {list(self.turn_rad)}, tight_rad = {self.tight_rad}", _MAX_TURN_RAD
            raise ValueError(f"{given}, allowed 0 < tight_rad < low <= high <= {most}; change them")
        if self.max_steps < 1:
            raise ValueError(f"max_steps = {self.max_steps}, allowed 1 or more; change it")


class CapTightening:
    """See hal.task.Task. Adds its bottle to the simulated world, so it is made before the robot is opened."""

    def __init__(self, config: CapTighteningConfig, hand: DeltaEndEffector, arm: "SimArm") -> None:
        self.config, self.hand, self.arm = config, hand, arm
        self.scene = _scene()
        self._bottle = np.zeros(2)
        arm.world.add(self._add_bottle)

    @property
    def name(self) -> str:
        return "cap_tightening"

    @property
    def max_steps(self) -> int:
        return self.config.max_steps

    def reset(self, seed: int) -> None:
        c, rng = self.config, np.random.default_rng(seed)
        self._bottle = rng.uniform(-c.bottle_spread_m, c.bottle_spread_m, 2)
        turn = rng.uniform(c.turn_rad[0], c.turn_rad[1])
        x, y = rng.uniform(-c.start_spread_m, c.start_spread_m, 2)
        pose = np.array([x, y, c.start_height_m, rng.uniform(-c.start_turn_rad, c.start_turn_rad)])
        self.arm.world.move("bottle", np.add(self.hand.config.origin_m, (*self._bottle, 0.0)))
        self.arm.place(self.hand.posture(pose), {"cap_turn": [turn]})
        self.hand.forget()

    def judge(self) -> Judgement:
        success = self._left_rad() <= self.config.tight_rad
        return Judgement(reward=float(success), done=success, success=success)

    def see(self) -> Array:
        left = self._left_rad()
        return np.array([*self._bottle, left, np.sin(_SIDES * left), np.cos(_SIDES * left)])

    def script(self, hover_m: float) -> Script:
        """See hal.sim.script.Scripted."""
        return _Tighten()

    def _left_rad(self) -> float:
        return float(self.arm.world.where("cap_turn")[0])

    def _add_bottle(self, world: Element) -> None:
        origin = self.hand.config.origin_m
        add_table(world, origin, -_TABLE_M)
        bottle = add_body(world, "bottle", origin)
        neck = 0.012
        half = (_TABLE_M - _HEIGHT_M - neck) / 2
        add_cylinder(bottle, (0, 0, -_TABLE_M + half), (0.026, half), BLUE, **FIXED)
        add_cylinder(bottle, (0, 0, -_HEIGHT_M - neck / 2), (0.010, neck / 2), WHITE, **FIXED)
        cap = SubElement(bottle, "body", name="cap", gravcomp="1")
        SubElement(
            cap, "joint", name="cap_turn", type="hinge", axis="0 0 1", range=f"0 {_MAX_TURN_RAD}",
            frictionloss=str(_FRICTION_NM), damping="0.01", armature="0.0005",
        )  # fmt: skip
        across = _HALF_M * np.tan(_SIDE_RAD / 2)
        for i in range(_SIDES // 2):  # a prism of eight sides is what four boxes cover
            turn = text((np.cos(i * _SIDE_RAD / 2), 0, 0, np.sin(i * _SIDE_RAD / 2)))
            add_box(cap, (0, 0, 0), (_HALF_M, across, _HEIGHT_M), ORANGE, quat=turn, mass="0.01", **FIXED)
        add_box(cap, (0.009, 0, _HEIGHT_M), (0.005, 0.0015, 4e-4), YELLOW)  # a mark, to be seen


class _Tighten:
    """Over the cap, around two of its sides, clockwise; lets go, turns back, again. See hal.sim.script.Script."""

    def begin(self) -> None: ...

    def aim(self, glance: Glance) -> Aim:
        cap, left, width = _seen(glance)
        pose = glance.pose
        low = pose[2] < _GRASP_M + 0.006
        centred = np.abs(pose[:2] - cap[:2]).max() < (0.006 if low else 0.003)
        if centred and low and width < _HELD_M and pose[3] > _TO_RAD:
            return Aim(np.array([*cap[:2], _GRASP_M, pose[3] - left - 0.2]), cap, 0.0)
        yaw = _FROM_RAD - (_FROM_RAD - left) % _SIDE_RAD  # the sides nearest to where a stroke begins
        if centred and low:
            closes = abs(pose[3] - yaw) < (0.15 if width < _OPEN_M - 0.01 else 0.05)
            return Aim(np.array([*cap[:2], _GRASP_M, yaw]), cap, 0.0 if closes else _OPEN_M)
        if centred and abs(pose[3] - yaw) < 0.1:
            return Aim(np.array([*cap[:2], _GRASP_M, yaw]), cap, _OPEN_M)
        x, y = cap[:2] if pose[2] > _ABOVE_M - 0.01 or np.abs(pose[:2] - cap[:2]).max() < 0.006 else pose[:2]
        return Aim(np.array([x, y, _ABOVE_M, yaw]), cap, _OPEN_M)

    def left_m(self, glance: Glance) -> float:
        cap, left, _ = _seen(glance)
        return float(np.abs(glance.pose[:3] - cap).sum() + 2 * TURN_M * left)


def _seen(glance: Glance) -> tuple[Array, float, float]:
    s = glance.state
    return np.array([s["cap.x"], s["cap.y"], _GRASP_M]), s["cap.left"], s["gripper.width"]


def _scene() -> Box:
    where = [(f"cap.{axis}", "m", -0.2, 0.2) for axis in "xy"]
    sides = [("cap.sides.sin", "", -1.0, 1.0), ("cap.sides.cos", "", -1.0, 1.0)]
    return box("scene", [*where, ("cap.left", "rad", -0.2, _MAX_TURN_RAD + 0.2), *sides])
