"""Stop: the software emergency stop on its way through the edge's processes, as a few words of shared memory.

link posts the order and latches the fault on disk. Control looks whenever it waits, at least every `SLICE_S`, and
before each command: it halts the robot and settles the order. Where it does not within `ANSWER_S`, halt kills it, runs
the out-of-band halt and settles the order itself. link settles it where no robot is open. A settled order is reported
to the fleet with its outcome.
"""

import threading
from enum import IntEnum
from typing import Final

from edge.mailbox import Mailbox
from edge.orders import StopOrder
from user_rl.clock import Clock
from user_rl.errors import RobotFault

SLICE_S: Final = 0.01  # of control's sleep: so late it notices at most
ANSWER_S: Final = 0.1  # control has so long to halt the robot
LONGEST_TEXT: Final = 400  # characters


class Outcome(IntEnum):
    """How an order was settled."""

    NONE = 0
    HALTED = 1  # by control, through the driver
    CLOSED = 2  # the robot was not open: nothing of ours moves it
    OUT_OF_BAND = 3  # control was killed, or gone, and the halt command has run
    KILLED = 4  # control was killed, or gone, and the robot stops by itself when commands stop
    FAILED = 5  # the halt command did not work

    @property
    def is_halt(self) -> bool:
        """Whether somebody has halted the robot, or nobody was moving it."""
        return self in (Outcome.HALTED, Outcome.CLOSED, Outcome.OUT_OF_BAND)


SAID: Final = {
    Outcome.NONE: "neither control nor halt has answered",
    Outcome.HALTED: "halted",
    Outcome.CLOSED: "the robot was not open",
    Outcome.OUT_OF_BAND: "control did not answer and was ended; the halt command has run",
    Outcome.KILLED: "control did not answer and was ended; the robot is said to stop by itself, which nobody has seen",
    Outcome.FAILED: "control did not answer and was ended; the halt command failed",
}


class Stop:
    """One process's view. `words` are four of 64 bits."""

    def __init__(self, words: memoryview, orders: Mailbox[StopOrder]) -> None:
        self.deaf = False  # control is halting the robot already
        self._words, self._orders = words, orders

    def post(self, text: str) -> None:
        """link: a person wants this robot halted, at once."""
        self._orders.post(StopOrder(text=text[:LONGEST_TEXT]))

    @property
    def pending(self) -> bool:
        """Whether an order has been posted that nobody has settled."""
        return self._orders.number != self._words[0]

    @property
    def text(self) -> str:
        """Who stopped it and why, of the newest order."""
        order = self._orders.read()
        return "" if order is None else order.text

    @property
    def outcome(self) -> Outcome:
        """Of the order that was settled last."""
        return Outcome(self._words[1])

    @property
    def robot_open(self) -> bool:
        """Whether control has, or is about to have, the robot open."""
        return self._words[2] != 0

    @robot_open.setter
    def robot_open(self, is_open: bool) -> None:
        self._words[2] = int(is_open)

    def check(self) -> None:
        """Control, with the robot open: raises RobotFault while an order waits."""
        if self.pending and self.robot_open and not self.deaf:
            raise RobotFault(self.text)

    def settle(self, outcome: Outcome) -> None:
        """The newest order is settled; one that was settled already stays as it was."""
        number = self._orders.number
        if number != self._words[0]:
            self._words[1] = outcome
            self._words[0] = number


class ListeningClock:
    """See user_rl.clock.Clock: `clock`, whose sleeps in the thread that made this end with RobotFault when a stop is
    ordered, within `SLICE_S`."""

    def __init__(self, clock: Clock, stop: Stop) -> None:
        self._clock, self._stop, self._thread = clock, stop, threading.get_ident()

    def now_s(self) -> float:
        return self._clock.now_s()

    def sleep_until(self, deadline_s: float) -> None:
        if threading.get_ident() != self._thread:
            return self._clock.sleep_until(deadline_s)
        self._stop.check()
        while (slice_s := self._clock.now_s() + SLICE_S) < deadline_s:
            self._clock.sleep_until(slice_s)
            self._stop.check()
            if self._clock.now_s() < slice_s:
                break  # this clock does not wait
        self._clock.sleep_until(deadline_s)
        return self._stop.check()
