"""Watch: the thread of link that hears of an emergency stop from the fleet at once, and says what came of it.

It holds one stream of orders open and opens it again when it has ended or has been silent: the fleet sends an order
with the number 0 every second. The way of a stop: posted to control and halt (edge.stop), latched on disk, settled by
whoever has halted the robot, confirmed. An order that was not confirmed comes again with the next stream.
"""

import logging
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Final

from edge.fault import latch
from edge.stop import SAID, Outcome, Stop
from user_rl.clock import Clock
from user_rl.emergency import EmergencyClient, Order
from user_rl.errors import StorageError, UserRlError
from user_rl.fleet import Card
from user_rl.trust import Bundle

log = logging.getLogger(__name__)

DEAD_S: Final = 3.5  # without any word: the stream is dead, whatever TCP thinks
FIRST_PAUSE_S, LONGEST_PAUSE_S = 0.1, 2.0
SETTLED_S: Final = 12.0  # a halt command may take ten
POLL_S: Final = 0.001  # only while a stop waits to be settled
CONFIRMATIONS: Final = 5


class Watch:
    """Set `card` for another boot. `heard_s`: when the fleet last said anything here; 0: never."""

    def __init__(self, bundle: Callable[[], Bundle | None], card: Card, stop: Stop, root: Path, clock: Clock) -> None:
        """`bundle`: the newest that reaches the fleet, for it is renewed while this listens; None: none does yet."""
        self.card, self.heard_s = card, 0.0
        self._bundle, self._stop_word, self._root, self._clock = bundle, stop, root, clock
        self._stopping = threading.Event()
        self._fleet: EmergencyClient | None = None
        self._said_s = 0.0  # when the stream last gave a sign of life, or was opened
        self._thread = threading.Thread(target=self._run, name="orders", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def look(self) -> None:
        """Ends a stream that is dead; call it often, from any thread."""
        fleet = self._fleet
        if fleet is not None and 0 < self._said_s < self._clock.now_s() - DEAD_S:
            self._said_s = 0.0
            fleet.end_watch()

    def stop(self, within_s: float) -> None:
        """Ends the thread."""
        self._stopping.set()
        if self._fleet is not None:
            self._fleet.end_watch()
        if self._thread.is_alive():
            self._thread.join(within_s)

    def _run(self) -> None:
        if self._stop_word.pending:  # a predecessor of this process was killed before it had latched it
            self._carry_out(self._stop_word.text)
        while not self._stopping.is_set():
            bundle = self._bundle()
            if bundle is None:
                self._stopping.wait(FIRST_PAUSE_S)
                continue
            with EmergencyClient(bundle) as self._fleet:
                self._listen_again(self._fleet, bundle)

    def _listen_again(self, fleet: EmergencyClient, bundle: Bundle) -> None:
        """One stream after another, until this bundle is not the newest."""
        pause_s = FIRST_PAUSE_S
        while not self._stopping.is_set() and self._bundle() == bundle:
            opened_s = self._clock.now_s()
            try:
                self._listen(fleet)
            except UserRlError as error:
                log.debug("orders: %s", error)  # the heart says what is wrong with the fleet
            self._said_s = 0.0
            lasted = self._clock.now_s() - opened_s > DEAD_S
            pause_s = FIRST_PAUSE_S if lasted else min(2 * pause_s, LONGEST_PAUSE_S)
            self._stopping.wait(pause_s)

    def _listen(self, fleet: EmergencyClient) -> None:
        """Until the stream ends."""
        card, self._said_s = self.card, self._clock.now_s()
        for order in fleet.watch(card.cell, card.boot):
            self._said_s = self.heard_s = self._clock.now_s()
            if order.kind == "stop":
                self._stop_word.post(order.reason)
                self._confirm(fleet, card, order, self._carry_out(order.reason))
            if card != self.card or self._stopping.is_set():
                return fleet.end_watch()
        return None

    def _carry_out(self, reason: str) -> Outcome:
        """Latches the fault while control halts the robot; how the order was settled, NONE when it was not in time."""
        log.error("%s", reason)
        self._latch(reason)
        until_s = self._clock.now_s() + SETTLED_S
        while self._stop_word.pending and self._clock.now_s() < until_s:
            if not self._stop_word.robot_open:
                self._stop_word.settle(Outcome.CLOSED)
            self._said_s = self._clock.now_s()
            self._clock.sleep_until(self._said_s + POLL_S)
        return Outcome.NONE if self._stop_word.pending else self._stop_word.outcome

    def _latch(self, reason: str) -> None:
        try:
            latch(self._root, self.card.model, reason)
        except (OSError, StorageError) as error:
            log.error("the fault cannot be written down: %s; free space before anybody starts this robot again", error)

    def _confirm(self, fleet: EmergencyClient, card: Card, order: Order, outcome: Outcome) -> None:
        for count in range(CONFIRMATIONS):
            try:
                return fleet.confirm(card.cell, card.boot, order.id, done=outcome.is_halt, detail=SAID[outcome])
            except UserRlError as error:
                log.warning("emergency stop %d: %s", order.id, error)
                self._stopping.wait(FIRST_PAUSE_S * 2**count)
        return None
