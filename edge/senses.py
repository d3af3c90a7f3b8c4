"""Senses: how the cell's parts are, looked at once a second between episodes, and what is broken opened again.

Within an episode every step looks at every part anyway.
"""

from edge.orders import PartReport
from hal.cell import Cell
from hal.resources import Condition
from user_rl.clock import Clock

LOOK_S = 1.0
ROBOT, TELEOP = "robot", "teleop"  # what the fleet calls these parts; the others are cameras


class Senses:
    """One cell's. One thread."""

    def __init__(self, cell: Cell, clock: Clock) -> None:
        self._cell, self._clock = cell, clock
        self._looked_s: float | None = None  # None: the cell is not open yet

    @property
    def trouble(self) -> str:
        """Why no episode may begin; empty: everything answers."""
        return "; ".join(f"camera {name}: {why}" for name, why in self._cell.broken.items())

    def seen(self) -> None:
        """The cell was opened, or an episode has ended: everything was looked at just now."""
        self._looked_s = self._clock.now_s()

    def look(self) -> None:
        """Looks, if that is due; raises what the robot raises."""
        now_s = self._clock.now_s()
        if self._looked_s is not None and now_s - self._looked_s >= LOOK_S:
            self._looked_s = now_s
            self._cell.robot.read()
            self._cell.mend()

    def parts(self) -> tuple[PartReport, ...]:
        """Each part and how it is; none while the cell is not open."""
        if self._looked_s is None:
            return ()
        cell = self._cell
        fine = [ROBOT, *([TELEOP] if cell.teleop is not None else [])]
        return (
            *(PartReport(name=name, health=Condition.OK) for name in fine),
            *(
                PartReport(name=name, health=Condition.BROKEN if name in cell.broken else Condition.OK,
                           reason=cell.broken.get(name, ""))
                for name in sorted(cell.cameras)
            ),
        )  # fmt: skip
