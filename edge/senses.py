"""Senses: how the cell's parts are, looked at once a second between episodes, and what is broken opened again.

Within an episode every step looks at every part anyway. A robot that can say how its own emergency stop stands is
asked: while it is pressed no episode begins.
"""

from edge.orders import PartReport
from hal.cell import Cell
from hal.resources import Condition
from hal.robot import tells_emergency_stop
from user_rl.clock import Clock

LOOK_S = 1.0
ROBOT, TELEOP = "robot", "teleop"  # what the fleet calls these parts; the others are cameras


class Senses:
    """One cell's. One thread."""

    def __init__(self, cell: Cell, clock: Clock) -> None:
        self._cell, self._clock = cell, clock
        self._looked_s: float | None = None  # None: the cell is not open yet
        self._pendant = tells_emergency_stop(cell.robot)
        self._pressed = ""  # what is to be said of the robot's emergency stop

    @property
    def trouble(self) -> str:
        """Why no episode may begin; empty: everything answers."""
        cameras = [f"camera {name}: {why}" for name, why in self._cell.broken.items()]
        return "; ".join([*([self._pressed] if self._pressed else []), *cameras])

    def seen(self) -> None:
        """The cell was opened, or an episode has ended: everything was looked at just now, but for the pendant."""
        self._looked_s = self._clock.now_s()
        self._ask_pendant()

    def look(self) -> None:
        """Looks, if that is due; raises what the robot raises."""
        now_s = self._clock.now_s()
        if self._looked_s is not None and now_s - self._looked_s >= LOOK_S:
            self._looked_s = now_s
            self._cell.robot.read()
            self._cell.mend()
            self._ask_pendant()

    def parts(self) -> tuple[PartReport, ...]:
        """Each part and how it is; none while the cell is not open."""
        if self._looked_s is None:
            return ()
        cell = self._cell
        pressed = self._pressed
        return (
            PartReport(name=ROBOT, health=Condition.DEGRADED if pressed else Condition.OK, reason=pressed),
            *([PartReport(name=TELEOP, health=Condition.OK)] if cell.teleop is not None else []),
            *(
                PartReport(name=name, health=Condition.BROKEN if name in cell.broken else Condition.OK,
                           reason=cell.broken.get(name, ""))
                for name in sorted(cell.cameras)
            ),
        )  # fmt: skip

    def _ask_pendant(self) -> None:
        if self._pendant is not None:
            pressed = self._pendant.emergency_stop_pressed()
            self._pressed = "its emergency stop is pressed; see why, then release it" if pressed else ""
