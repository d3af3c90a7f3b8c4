"""What surrounds a cell: the machine that runs it, and the way to its fleet."""

import os
import shutil
import statistics
import time
from collections.abc import Callable
from pathlib import Path

from edge.doctor.diagnosis import Result, Row, judged
from edge.process import FIFO_PRIORITY
from user_rl.errors import UserRlError
from user_rl.fleet import FleetClient
from user_rl.trust import load_bundle

_FREE_BYTES = 2 * 2**30  # an hour of two cameras at 10 Hz, as JPEG, takes about half of it
_CALLS = 5


def host_rows(home: Path) -> list[Row]:
    """Space for the spool, and whether the loop may have FIFO scheduling."""
    there = next(folder for folder in (home, *home.parents) if folder.exists())
    free_bytes = shutil.disk_usage(there).free
    value, allowed = f"{free_bytes / 2**30:.1f} GiB free at {there}", f"≥ {_FREE_BYTES / 2**30:.0f} GiB"
    holds, fix = free_bytes >= _FREE_BYTES, "free space, or name another home"
    disk = judged("host", "disk space", holds=holds, value=value, allowed=allowed, fix=fix)
    fifo = may_have_fifo()
    value = "permitted" if fifo else "not permitted"
    fix = f"rtprio {FIFO_PRIORITY} for this user in /etc/security/limits.conf; without it steps may be late under load"
    return [
        disk,
        judged("host", "FIFO", holds=fifo, value=value, allowed="permitted", fix=fix, otherwise=Result.WARN),
    ]


def may_have_fifo() -> bool:
    """Tries it, and goes back."""
    policy, parameters = os.sched_getscheduler(0), os.sched_getparam(0)
    try:
        os.sched_setscheduler(0, os.SCHED_FIFO, os.sched_param(FIFO_PRIORITY))
    except PermissionError:
        return False
    os.sched_setscheduler(0, policy, parameters)
    return True


def fleet_rows(bundle_file: Path) -> list[Row]:
    """Whether the fleet answers to this cell's bundle, and how fast."""
    try:
        bundle = load_bundle(bundle_file)
        with FleetClient(bundle) as fleet:
            trips_s = [_timed(fleet.list) for _ in range(_CALLS)]
    except UserRlError as error:
        said, _, fix = str(error).rpartition("; ")
        return [Row(about="fleet", check="answers", result=Result.FAIL, value=said or str(error), fix=fix)]
    trip_s = statistics.median(trips_s[1:])  # the first one makes the connection
    value, allowed = f"{bundle.fleet_address} in {trip_s * 1e3:.1f} ms", "with this bundle's keys"
    answers = Row(about="fleet", check="answers", result=Result.OK, value=value, allowed=allowed)
    value = f"known to ± {trip_s * 500:.1f} ms once the daemon registers"
    return [answers, Row(about="fleet", check="clock", result=Result.SKIP, value=value)]


def _timed(call: Callable[[], object]) -> float:
    began_s = time.monotonic()
    call()
    return time.monotonic() - began_s
