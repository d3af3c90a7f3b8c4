"""Heart: the thread of link that talks to the fleet, so that nothing else ever waits for it.

It registers the cell, says once a second how it is, hands on what the fleet answers, and renews the cell's certificate
when it is time. It decides nothing.
"""

import logging
import queue
import threading
from collections.abc import Callable
from dataclasses import dataclass

from edge.fleet_line import FleetLine, reachable
from edge.paths import Paths, Straight
from user_rl.clock import Clock
from user_rl.errors import LeaseLost, Unauthorized, Unreachable, WireError
from user_rl.fleet import Assignment, Card, Status
from user_rl.renewal import Renewal
from user_rl.trust import Bundle

log = logging.getLogger(__name__)

FIRST_PAUSE_S, LONGEST_PAUSE_S = 0.2, 5.0  # after a beat that failed: a tunnel opens within such times
KEEP_OFFSET_S = 60.0  # an estimate of the clocks' offset is used for so long, unless a quicker answer gives a better


@dataclass(frozen=True)
class Answer:
    """What the fleet says; `sent_s` and `clock_offset_s` are of the edge's monotonic clock."""

    assignment: Assignment | None  # None: another daemon has taken this cell's place, or `revoked`
    sent_s: float
    clock_offset_s: float = 0.0
    revoked: bool = False  # the fleet does not know this cell's name any more


class Heart:
    """Set `status` (and `card`, for another boot) whenever they change; take `answers`."""

    def __init__(
        self, bundle: Bundle, card: Card, clock: Clock, every_s: float, *,
        paths: Paths | None = None, keep: Callable[[Bundle], None] = lambda bundle: None,
    ) -> None:  # fmt: skip
        """`keep` stores a renewed bundle."""
        self.card, self.status = card, Status(state="starting")
        self.answers: queue.SimpleQueue[Answer] = queue.SimpleQueue()
        self._clock, self._every_s, self._paths = clock, every_s, paths or Straight()
        self._renewal = Renewal(bundle, keep)
        self._failed_s = FIRST_PAUSE_S
        self._stop = threading.Event()
        self._hurry = threading.Event()
        self._registered: Card | None = None
        self._complaint = ""
        self._offset = (float("inf"), 0.0, 0.0)  # round trip, offset, when
        self._thread = threading.Thread(target=self._run, name="fleet", daemon=True)

    @property
    def bundle(self) -> Bundle | None:
        """The newest, with the fleet's addresses as they are reached from here; None: the tunnel has none yet."""
        return reachable(self._renewal.bundle, self._paths)

    @property
    def state(self) -> str:
        """The way to the fleet in words; `open` when it is."""
        return self._complaint or ("open" if self._registered else "not registered yet")

    def start(self) -> None:
        self._thread.start()

    def hurry(self) -> None:
        """The next heartbeat is due now: there is news."""
        self._hurry.set()

    def pause_s(self, *, answered: bool) -> float:
        """Until the next heartbeat, after one that was answered or not."""
        if answered:
            self._failed_s = FIRST_PAUSE_S
            return self._every_s
        pause_s, self._failed_s = self._failed_s, min(2 * self._failed_s, LONGEST_PAUSE_S)
        return pause_s

    def stop(self, within_s: float) -> None:
        """One last heartbeat if the fleet answers, then the end of the thread."""
        self._stop.set()
        self._hurry.set()
        self._thread.join(within_s)

    def _run(self) -> None:
        with FleetLine(lambda: self.bundle, deadline_s=5.0) as line:
            while True:
                last = self._stop.is_set()
                pause_s = self.pause_s(answered=self._beat(line))
                if last:
                    return
                self._hurry.wait(pause_s)
                self._hurry.clear()

    def _beat(self, line: FleetLine) -> bool:
        card = self.card
        try:
            fleet = line.client()
            if self._registered != card:
                fleet.register(card)
                self._registered = card
            sent_s = self._clock.now_s()
            beat = fleet.heartbeat(card.cell, card.boot, self.status)
        except LeaseLost as error:
            self._complain(f"{error}; this daemon no longer moves the robot")
            self.answers.put(Answer(None, self._clock.now_s()))
            return False
        except (Unreachable, Unauthorized, WireError) as error:
            if isinstance(error, Unreachable):
                self._registered = None
            if isinstance(error, Unauthorized):
                self.answers.put(Answer(None, self._clock.now_s(), revoked=True))
            self._complain(str(error))
            return False
        if self._complaint:
            log.info("the fleet at %s answers again", fleet.address)
            self._complaint = ""
        self.answers.put(Answer(beat.assignment, sent_s, self._offset_s(beat.clock_s, sent_s)))
        self._renewal.tick(fleet)
        return True

    def _complain(self, what: str) -> None:
        if what != self._complaint:
            log.warning("%s", what)
            self._complaint = what

    def _offset_s(self, fleet_s: float, sent_s: float) -> float:
        """Fleet time minus edge time, from the quickest answer of the last minute."""
        now_s = self._clock.now_s()
        best_s, offset_s, when_s = self._offset
        if now_s - sent_s < best_s or now_s - when_s > KEEP_OFFSET_S:
            offset_s = fleet_s - (now_s + sent_s) / 2
            self._offset = (now_s - sent_s, offset_s, now_s)
        return offset_s
