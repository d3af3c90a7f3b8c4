"""Holding: the command that keeps a robot where it is, and one that is scaled towards it.

An element that says where its axis shall be (`hal.axes`: a target, or one that the state measures under the same name)
keeps what was sent last in this episode, so that a gripper keeps its grip, or else what is measured. All others, deltas
and speeds, are zero. The command stays inside the robot's box.
"""

import numpy as np

from hal.axes import Way, axis_of, position_of
from hal.robot import RobotSpec
from user_rl.specs import Array


class Holding:
    """Of one robot. One thread."""

    def __init__(self, spec: RobotSpec) -> None:
        self._box = spec.command
        kinds = [axis_of(name) for name in spec.command.names]
        found = [None if way is Way.DELTA else position_of(axis, spec.state) for axis, way in kinds]
        self._absolute = np.array(
            [way is Way.TARGET or at is not None for (_, way), at in zip(kinds, found, strict=True)]
        )
        self._measured = np.array([at is not None for at in found])
        self._at = np.array([at or 0 for at in found], np.intp)
        self._sent: Array | None = None

    @property
    def has_moved(self) -> bool:
        """Whether anything was sent in this episode."""
        return self._sent is not None

    @property
    def is_known(self) -> bool:
        """Whether it is known where the robot is: a target that nothing measures is known once it was sent."""
        return self.has_moved or bool(self._measured[self._absolute].all())

    def begin(self) -> None:
        """An episode starts, or the robot was halted: what was sent before does not count."""
        self._sent = None

    def sent(self, command: Array) -> None:
        """`command` [C] was really sent."""
        self._sent = command.copy()

    def command(self, state: Array) -> Array:
        """Keeps the robot where it is, seen in `state` [S]; [C] float32."""
        kept = np.zeros(len(self._absolute), np.float32) if self._sent is None else self._sent
        if self._sent is None:
            kept = np.where(self._measured, state[self._at], kept)
        return self._box.clip(np.where(self._absolute, kept, np.float32(0.0)))

    def slowed(self, action: Array, state: Array, factor: float) -> Array:
        """`factor` of the way from holding to `action` [C]."""
        hold = self.command(state)
        return self._box.clip(hold + np.float32(factor) * (action - hold))
