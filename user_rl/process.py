"""What processes have in common: how they are told to stop, whose children they are, and how they log."""

import ctypes
import logging
import os
import signal
import sys
from types import FrameType

_PR_SET_PDEATHSIG = 1


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


def set_up_logging(name: str) -> None:
    """One line per event on stderr, with the process's name."""
    logging.basicConfig(
        level=logging.INFO, stream=sys.stderr, format=f"%(asctime)s %(levelname)s {name}: %(message)s", force=True
    )
