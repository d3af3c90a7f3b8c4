"""What the edge's processes have in common: how they end, what their exit codes mean, and how they log."""

import ctypes
import logging
import os
import signal
import sys
from enum import IntEnum
from types import FrameType
from typing import NoReturn

_PR_SET_PDEATHSIG = 1
FIFO_PRIORITY = 50

log = logging.getLogger(__name__)


class Exit(IntEnum):
    """Why a process ended."""

    CLEAN = 0
    CRASH = 1
    CONFIG = 2  # starting it again would end the same way
    FAULT = 3  # latched: a person looks at the robot first
    HARDWARE = 4  # not reachable, not answering


class StopFlag:
    """True after SIGTERM. Make it in the main thread."""

    def __init__(self, *signals: signal.Signals) -> None:
        self._stopped = 0
        for number in signals or (signal.SIGTERM,):
            signal.signal(number, self._stop)

    def __call__(self) -> bool:
        return self._stopped > 0

    @property
    def count(self) -> int:
        """How often it was asked."""
        return self._stopped

    def _stop(self, number: int, frame: FrameType | None) -> None:
        self._stopped += 1


def become_child(parent: int) -> None:
    """Ends with `parent`, which alone decides when: a SIGTERM follows its death, and the terminal's ^C is its own."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)
    if os.getppid() != parent:  # it died before the line above
        os.kill(os.getpid(), signal.SIGTERM)


def try_realtime() -> None:
    """FIFO scheduling for this process, where permitted; one line where not."""
    try:
        policy = os.SCHED_FIFO | os.SCHED_RESET_ON_FORK
        os.sched_setscheduler(0, policy, os.sched_param(FIFO_PRIORITY))
    except PermissionError:
        log.warning("no FIFO scheduling for this user: steps may be late under load; give it an rtprio limit of 50")


def set_up_logging(name: str) -> None:
    """One line per event on stderr, with the process's name."""
    logging.basicConfig(
        level=logging.INFO, stream=sys.stderr, format=f"%(asctime)s %(levelname)s {name}: %(message)s", force=True
    )


def end_process(code: int) -> NoReturn:
    """Ends at once: everything is closed, and no thread of a driver or a library (gRPC, torch) may delay the end."""
    logging.shutdown()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)
