"""Holding: the command that keeps a robot where it is, and one that is scaled towards it.

An element that says where its axis shall be (`hal.axes`: a target, or one that the state measures under the same name)
keeps what was sent last in this episode, so that a gripper keeps its grip, or else what is measured. Deltas and speeds
are zero. The command stays inside the robot's box. Where an element is none of these, nobody knows what holds it.
"""

import numpy as np

from hal.axes import Way, axis_of, position_of
from hal.robot import RobotSpec
from user_rl.specs import Array

_RATES = {"velocity", "vel", "speed"}  # words in the names of elements that say how fast


class Holding:
    """Of one robot. One thread."""

    def __init__(self, spec: RobotSpec) -> None:
        self._box = spec.command
        axes = [axis_of(name) for name in spec.command.names]
        zero = [way is Way.DELTA or not _RATES.isdisjoint(axis.split(".")) for axis, way in axes]
        found = [position_of(axis, spec.state) for axis, _ in axes]
        self._zero = np.array(zero)
        self._measured = np.array([at is not None for at in found])
        self._at = np.array([at or 0 for at in found], np.intp)
        self._is_named = all(z or w is Way.TARGET or m for z, (_, w), m in zip(zero, axes, self._measured, strict=True))
        self._sent: Array | None = None

    @property
    def has_moved(self) -> bool:
        """Whether anything was sent in this episode."""
        return self._sent is not None

    @property
    def is_known(self) -> bool:
        """Whether it is known what holds the robot: of a target that nothing measures, once it was sent."""
        return self._is_named and (self.has_moved or bool((self._measured | self._zero).all()))

    def begin(self) -> None:
        """An episode starts, or the robot was halted: what was sent before does not count."""
        self._sent = None

    def sent(self, command: Array) -> None:
        """`command` [C] was really sent."""
        self._sent = command.copy()

    def command(self, state: Array) -> Array:
        """Keeps the robot where it is, seen in `state` [S]; [C] float32."""
        kept = np.where(self._measured, state[self._at], 0.0) if self._sent is None else self._sent
        return self._box.clip(np.where(self._zero, np.float32(0.0), kept))

    def slowed(self, action: Array, state: Array, factor: float) -> Array:
        """`factor` of the way from holding to `action` [C]."""
        hold = self.command(state)
        return self._box.clip(hold + np.float32(factor) * (action - hold))
