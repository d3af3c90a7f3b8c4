"""What the edge's processes have in common: how they end, what their exit codes mean, and their scheduling."""

import logging
import os
import sys
from collections.abc import Collection
from enum import IntEnum
from typing import NoReturn

from user_rl.process import StopFlag, become_child, set_up_logging

__all__ = [
    "Exit", "StopFlag", "become_child", "end_process", "keep_off", "pin", "set_up_logging", "try_realtime",
]  # fmt: skip

FIFO_PRIORITY = 50

log = logging.getLogger(__name__)


class Exit(IntEnum):
    """Why a process ended."""

    CLEAN = 0
    CRASH = 1
    CONFIG = 2  # starting it again would end the same way
    FAULT = 3  # latched: a person looks at the robot first
    HARDWARE = 4  # not reachable, not answering


def try_realtime() -> None:
    """FIFO scheduling for this process, where permitted; one line where not."""
    try:
        policy = os.SCHED_FIFO | os.SCHED_RESET_ON_FORK
        os.sched_setscheduler(0, policy, os.sched_param(FIFO_PRIORITY))
    except PermissionError:
        log.warning("no FIFO scheduling for this user: steps may be late under load; give it an rtprio limit of 50")


def pin(cpus: Collection[int]) -> None:
    """Binds this thread, and those that it starts, to these processors, if any; one line where that is not allowed."""
    if cpus:
        _bind(set(cpus), f"control is not bound to cpus {sorted(cpus)}")


def keep_off(cpus: Collection[int]) -> None:
    """Leaves these processors to control: this process and its children use the others, if there are any."""
    others = os.sched_getaffinity(0) - set(cpus)
    if cpus and others:
        _bind(others, f"cpus {sorted(cpus)} are not control's alone")


def _bind(cpus: set[int], otherwise: str) -> None:
    try:
        os.sched_setaffinity(0, cpus)
    except OSError as error:
        log.warning("%s: %s; this machine has %s", otherwise, error, sorted(os.sched_getaffinity(0)))


def end_process(code: int) -> NoReturn:
    """Ends at once: everything is closed, and no thread of a driver or a library (gRPC, torch) may delay the end."""
    logging.shutdown()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)
