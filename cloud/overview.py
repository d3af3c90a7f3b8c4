"""Every run in one table, as `user-rl status` shows it. A long name is folded, never cut: `resume` needs it whole."""

import contextlib
import re
from collections.abc import Mapping
from pathlib import Path

from rich.table import Table

from cloud.disk import write_hours
from cloud.progress import Status

NUMBERS = ("episodes", "env_steps", "updates")
ENDED = ("done", "not started")


def overview(statuses: Mapping[str, Status]) -> Table:
    """One row for each run, by name."""
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), caption_justify="left", caption_style="")
    table.add_column("run", overflow="fold")
    table.add_column("phase", overflow="fold")
    for name in ("success", "episodes", "env steps", "updates", "disk full"):
        table.add_column(name, justify="right", no_wrap=True)
    for name, status in statuses.items():
        rate = status.get("success_rate")
        hours = None if status.get("phase") == "done" else status.get("disk_full_in_h")  # what is over fills no disk
        shown = ["-" if rate is None else f"{100 * rate:.0f} %", *(f"{status.get(key) or 0:,}" for key in NUMBERS)]
        table.add_row(name, phase(status), *shown, "-" if hours is None else f"in {write_hours(hours)}")
    if any(phase(status) == "stopped" for status in statuses.values()):
        table.caption = "what is stopped goes on with user-rl resume RUN"
    return table


def phase(status: Status) -> str:
    """The phase in a word or two, `stopped` where the launcher that wrote it is gone."""
    said = str(status.get("phase", "not started"))
    return said if said in ENDED or launcher_lives(status) else "stopped"


def phase_in_full(status: Status) -> str:
    """The phase; where the launcher is gone, what it was doing and what to do."""
    said = str(status.get("phase", "not started"))
    return said if phase(status) == said else f"stopped ({said}); go on with user-rl resume"


def launcher_lives(status: Status) -> bool:
    """Whether the process that writes this status is still there."""
    pid = status.get("driver_pid")
    with contextlib.suppress(OSError):
        return isinstance(pid, int) and bool(
            re.search(b"user-rl|cloud.main", Path(f"/proc/{pid}/cmdline").read_bytes())
        )
    return False
