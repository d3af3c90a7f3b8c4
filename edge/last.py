"""The last one standing: who halts the robot when the process that owns it is gone, and the halt that is out of band.

That is the daemon's first process. When it dies too, and control with it, link is the last one and does it. When all
three die at once nothing of ours is left: that is what a robot's own watchdog, `on_silence = stops`, is for.
"""

import contextlib
import logging
import os
import select
import signal
import subprocess
import time

from edge.config import HALT_COMMAND_S
from edge.orders import Card
from edge.shared import Shared
from edge.stop import Outcome
from hal.robot import OnSilence

log = logging.getLogger(__name__)

TRIES = 5  # of the last one standing
LOOK_S = 0.02  # between two looks at control


def halt_robot(card: Card | None) -> Outcome:
    """Runs the halt command of a robot that has one, its control being gone; what came of it."""
    if card is None:
        return Outcome.CLOSED  # control posts the card before it opens the robot
    if card.on_silence != OnSilence.OUT_OF_BAND:
        return Outcome.KILLED
    log.error("control is gone: halting the robot with %s", " ".join(card.halt_command))
    try:
        subprocess.run(card.halt_command, timeout=HALT_COMMAND_S, check=True)
    except (OSError, subprocess.SubprocessError) as error:
        log.error("THE ROBOT MAY STILL MOVE: %s; use the emergency stop", error)
        return Outcome.FAILED
    return Outcome.OUT_OF_BAND


class Survivor:
    """link's eye on control, for the case that halt dies: it must be opened while control lives."""

    def __init__(self, shared: Shared) -> None:
        self._shared = shared
        self._pid = self._fd = 0

    def look(self) -> None:
        """Takes hold of control's present process; call it often."""
        pid = self._shared.control_pid
        if pid != self._pid:
            self.close()
            self._pid = pid
            with contextlib.suppress(ProcessLookupError):
                self._fd = os.pidfd_open(pid)

    def outlive(self) -> None:
        """halt is dead: waits for control, which was told so by the kernel, to end; halts the robot that it left open.

        A control that is silent for longer than it promised is killed.
        """
        while self._lives():
            alive_until_s = self._shared.pulse.alive_until_s
            if 0 < alive_until_s < time.monotonic():
                log.error("halt is dead and control is silent; control is killed and the robot halted")
                with contextlib.suppress(ProcessLookupError):
                    signal.pidfd_send_signal(self._fd, signal.SIGKILL)
            time.sleep(LOOK_S)
        if self._shared.stop.robot_open:
            outcome = halt_robot(self._shared.card.read())
            for _ in range(TRIES - 1):  # nobody comes after this process: a busy machine may take longer than one try
                if outcome is not Outcome.FAILED:
                    break
                outcome = halt_robot(self._shared.card.read())
            self._shared.stop.settle(outcome)

    def close(self) -> None:
        """Lets go of the process; safe to call twice."""
        if self._fd:
            os.close(self._fd)
        self._fd = self._pid = 0

    def _lives(self) -> bool:
        return self._fd > 0 and not select.select([self._fd], [], [], 0.0)[0]
