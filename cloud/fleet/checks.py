"""Checks: what a cell's edge says of its parts, held against its card, and for how long it has been so.

A heartbeat *confirms* the card when the robot works and every camera and teleop on the card is among the parts. One
that is broken is among them too: it degrades the cell and takes nothing else away. Times are the monotonic clock's,
none is stored.
"""

from dataclasses import dataclass

from cloud.fleet.store import Quarantine
from user_rl.fleet import FAULT, ROBOT, TELEOP, Card, Part, Status

UNHEARD = "registered, but has not said how its parts are"


@dataclass(frozen=True, kw_only=True)
class CheckConfig:
    """How long a cell may take to say how its parts are, seconds."""

    check_s: float = 2.0  # from its registration to the first heartbeat, and to parts that agree with the card
    open_s: float = 60.0  # while it says that it lives: robots take long to open
    readmit_s: float = 2.0  # a check is passed when everything was well for so long


class Checks:
    """The newest status of every cell, and what follows from it."""

    def __init__(self, config: CheckConfig) -> None:
        self._config = config
        self._status: dict[str, Status] = {}  # of cells whose current boot and card have been heard
        self._doubt_since_s: dict[str, float] = {}
        self._sound_since_s: dict[str, float] = {}

    def begin(self, cell: str, now_s: float, *, anew: bool) -> None:
        """It has registered and must confirm, `anew` when it has another boot or another card."""
        if anew:
            self._status.pop(cell, None)
            self._doubt_since_s.pop(cell, None)
            self._sound_since_s.pop(cell, None)
        if cell not in self._status:
            self._doubt_since_s.setdefault(cell, now_s)

    def again(self, cell: str, now_s: float) -> None:
        """What it has not confirmed yet, it has its time for once more."""
        if cell in self._doubt_since_s:
            self._doubt_since_s[cell] = now_s

    def hear(self, card: Card, status: Status, now_s: float) -> None:
        """Takes in a heartbeat."""
        self._status[card.cell] = status
        if doubt(card, status):
            self._sound_since_s.pop(card.cell, None)
            self._doubt_since_s.setdefault(card.cell, now_s)
        else:
            self._doubt_since_s.pop(card.cell, None)
            self._sound_since_s.setdefault(card.cell, now_s)

    def miss(self, cell: str) -> None:
        """It is silent: whatever was well need not be so any more."""
        self._sound_since_s.pop(cell, None)

    def status(self, cell: str) -> Status | None:
        """The newest; None: not heard since its registration or since the fleet's start."""
        return self._status.get(cell)

    def passed(self, cell: str, now_s: float) -> bool:
        """Whether everything has been well for long enough to end a quarantine."""
        since_s = self._sound_since_s.get(cell)
        return since_s is not None and now_s - since_s >= self._config.readmit_s

    def failed(self, card: Card, now_s: float) -> Quarantine | None:
        """Why the cell must not be used, when that is certain."""
        since_s = self._doubt_since_s.get(card.cell)
        if since_s is None:
            return None
        status = self._status.get(card.cell)
        if status is not None and status.state == FAULT:
            return Quarantine(cause="fault", reason=doubt(card, status))
        if status is not None and _broken(status):
            return Quarantine(cause="check", reason=doubt(card, status))
        limit_s = self._config.open_s if status is not None and not status.parts else self._config.check_s
        if now_s - since_s < limit_s:
            return None
        why = doubt(card, status) if status is not None else UNHEARD
        return Quarantine(cause="check", reason=f"{why} for {limit_s:g} s" if why == UNHEARD else why)


def doubt(card: Card, status: Status) -> str:
    """Why this heartbeat does not confirm the card; empty when it does."""
    if status.state == FAULT:
        return f"fault: {status.reason}"
    if not card.dof:
        return ""
    if not status.parts:
        return UNHEARD
    if broken := _broken(status):
        return _said(broken)
    named = [part.name for part in status.parts]
    claimed = [ROBOT, *card.cameras, *([TELEOP] if card.teleop else [])]
    missing = [_name(part) for part in claimed if part not in named]
    if missing:
        return f"claims {', '.join(missing)}; its parts confirm only {', '.join(map(_name, named))}"
    return ""


def trouble(status: Status) -> str:
    """What of the cell does not work as it should; empty when all does."""
    return "; ".join(_said(part) for part in status.parts if part.health != "ok")


def working_cameras(card: Card, status: Status | None) -> tuple[str, ...]:
    """Those of the card that are not known to be broken."""
    parts = status.parts if status is not None else ()
    broken = {part.name for part in parts if part.health == "broken"}
    return tuple(camera for camera in card.cameras if camera not in broken)


def _broken(status: Status) -> Part | None:
    return next((part for part in status.parts if part.name == ROBOT and part.health == "broken"), None)


def _said(part: Part) -> str:
    return f"{_name(part.name)} is {part.health}: {part.reason or 'no reason given'}"


def _name(part: str) -> str:
    return f"the {part}" if part in (ROBOT, TELEOP) else f"camera {part}"
