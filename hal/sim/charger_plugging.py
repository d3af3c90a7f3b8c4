"""Charger plugging: bring a charger with two pins from a random start into a socket that stands elsewhere each time.

The socket's face is the height 0 of the work frame; its holes are `clearance_m` wider than the pins. Two pins 20 mm
apart let in no charger that is turned. Sparse reward: an episode ends when the pins are `depth_m` inside. The state
carries where the socket stands and how it is turned.
"""

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar
from xml.etree.ElementTree import Element

import numpy as np

from hal.end_effector import DeltaEndEffector
from hal.sim.script import Glance, Hole, Insert, Script
from hal.sim.shapes import BLACK, FIXED, GREEN, WHITE, add_body, add_box, add_cylinder, add_table
from hal.sim.tools import PIN_APART_M, PIN_LENGTH_M, PIN_RADIUS_M, Tool
from hal.task import Judgement
from user_rl.specs import Array, Box, box

if TYPE_CHECKING:  # its module loads mujoco, this one must not
    from hal.sim.arm import SimArm

_LONG_M, _WIDE_M = 0.040, 0.026  # half the socket along the row of holes, and across
_DEEP_M = 0.020
_FLOOR_M = 0.004
_INSIDE_M, _INSIDE_RAD = 0.003, 0.1  # beside and askew of it at most, when both pins are in
_HOLE = Hole(aligned_m=0.0005, goal_m=-0.025)


@dataclass(frozen=True, kw_only=True)
class ChargerPluggingConfig:
    """The socket, what counts as plugged in, and how far starts are scattered."""

    tool: ClassVar[Tool] = Tool.CHARGER
    max_steps: int = 200
    clearance_m: float = 0.0012  # holes' width less the pins'
    depth_m: float = 0.014
    socket_spread_m: float = 0.020  # ±, in x and y, around the work frame's origin
    socket_turn_rad: float = 0.1745
    start_height_m: float = 0.060
    start_spread_m: float = 0.050
    start_turn_rad: float = 0.1745

    def __post_init__(self) -> None:
        if not 0 < self.clearance_m <= 0.01:
            raise ValueError(f"clearance_m = {self.clearance_m}, allowed above 0 to 0.01; change it")
        if not 0 < self.depth_m < PIN_LENGTH_M:
            raise ValueError(f"depth_m = {self.depth_m}, allowed above 0 and below {PIN_LENGTH_M}; change it")
        if self.max_steps < 1:
            raise ValueError(f"max_steps = {self.max_steps}, allowed 1 or more; change it")


class ChargerPlugging:
    """See hal.task.Task. Adds its socket to the simulated world, so it is made before the robot is opened."""

    def __init__(self, config: ChargerPluggingConfig, hand: DeltaEndEffector, arm: "SimArm") -> None:
        self.config, self.hand, self.arm = config, hand, arm
        self.scene = _scene()
        self._socket = np.zeros(3)  # x, y, yaw
        arm.world.add(self._add_socket)

    @property
    def name(self) -> str:
        return "charger_plugging"

    @property
    def max_steps(self) -> int:
        return self.config.max_steps

    def reset(self, seed: int) -> None:
        c, rng = self.config, np.random.default_rng(seed)
        place, turn = rng.uniform(-c.socket_spread_m, c.socket_spread_m, 2), rng.uniform(-1, 1) * c.socket_turn_rad
        x, y = rng.uniform(-c.start_spread_m, c.start_spread_m, 2)
        pose = np.array([x, y, c.start_height_m, rng.uniform(-c.start_turn_rad, c.start_turn_rad)])
        self._socket = np.append(place, turn)
        self.arm.world.move("socket", np.add(self.hand.config.origin_m, (*place, 0.0)), turn)
        self.arm.place(self.hand.posture(pose))
        self.hand.forget()

    def judge(self) -> Judgement:
        x, y, z, sine, cosine = self.hand.read().values[:5]
        off_m = np.abs(self._socket[:2] - (x, y)).max()
        turned_rad = abs(np.arctan2(sine, cosine) - self._socket[2])
        success = bool(off_m < _INSIDE_M and turned_rad < _INSIDE_RAD and z <= -self.config.depth_m)
        return Judgement(reward=float(success), done=success, success=success)

    def see(self) -> Array:
        return self._socket

    def script(self, hover_m: float) -> Script:
        """See hal.sim.script.Scripted."""
        return Insert(_HOLE, hover_m, _socket)

    def _add_socket(self, world: Element) -> None:
        """Two square holes in a row along y, out of walls and a floor, the face at the work frame's height 0."""
        add_table(world, self.hand.config.origin_m, -_DEEP_M - 2 * _FLOOR_M)
        socket = add_body(world, "socket", self.hand.config.origin_m)
        hole, z, half = PIN_RADIUS_M + self.config.clearance_m / 2, -_DEEP_M / 2, _DEEP_M / 2
        across, along = (_WIDE_M - hole) / 2, (_LONG_M - PIN_APART_M - hole) / 2
        for side in (-1, 1):
            add_box(socket, (side * (hole + across), 0, z), (across, _LONG_M, half), WHITE, **FIXED)
            add_box(socket, (0, side * (_LONG_M - along), z), (hole, along, half), WHITE, **FIXED)
            add_box(socket, (0, side * PIN_APART_M, -_DEEP_M / 2), (hole, hole, 1e-3), BLACK)
        add_box(socket, (0, 0, z), (hole, PIN_APART_M - hole, half), WHITE, **FIXED)
        add_box(socket, (0, 0, -_DEEP_M - _FLOOR_M), (_WIDE_M, _LONG_M, _FLOOR_M), BLACK, **FIXED)
        for side in (-1, 1):  # screws, to be seen
            add_cylinder(socket, (0, side * 0.028, 0), (0.003, 3e-4), GREEN)


def _socket(glance: Glance) -> Array:
    return np.array([glance.state[f"socket.{axis}"] for axis in ("x", "y", "yaw")])


def _scene() -> Box:
    where = [(f"socket.{axis}", "m", -0.2, 0.2) for axis in "xy"]
    return box("scene", [*where, ("socket.yaw", "rad", -1.0, 1.0)])
