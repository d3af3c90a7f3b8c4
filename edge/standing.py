"""Standing: what the daemon is doing now, in HOME/status.json: link writes it once a second, no cloud is needed."""

import os
from datetime import UTC, datetime
from pathlib import Path

import msgspec

from edge.lease import Lease
from edge.logs import LastTrouble
from edge.orders import Report, State
from edge.uplink import Uplink
from user_rl.clock import Clock
from user_rl.log import Log

FILE = "status.json"
WRITE_S = 1.0


class Standing(msgspec.Struct, frozen=True, kw_only=True):
    """How it stands. What a later version adds has a default, so that a command of another version reads it."""

    written_s: float  # on the machine's monotonic clock
    time: str  # UTC, ISO 8601
    link_pid: int
    cell: str
    boot: str = ""
    run: str = ""
    token: int = 0
    lease_left_s: float = 0.0  # how long the robot may act without an answer of the fleet
    state: str = State.STARTING
    reason: str = ""
    episode: int = 0
    step: int = -1
    steps_per_s: float = 0.0
    late: int = 0  # steps that began after their deadline
    skipped: int = 0
    held: int = 0
    version: int = 0  # that acts
    fetched: int = 0  # newest on the disk
    rows: int = 0  # recorded in this daemon's life
    backlog_rows: int = 0  # of this run, on the disk and not acknowledged
    waiting_rows: int = 0  # of other runs: sent when the cell works for them again
    spool_bytes: int = 0
    spool_bound_bytes: int = 0
    disk_free_bytes: int | None = None
    blocked: str = ""  # why the spool takes no rows
    actor: str = ""  # who acts from afar, and why; empty: this machine's own policy, by its configuration
    pace: str = ""  # how fast rows may go up, and what the link answers
    connections: dict[str, str] = {}
    tunnel: dict[str, str] = {}
    trouble: str = ""  # link's newest warning or error
    trouble_time: str = ""


class StatusFile:
    """Writes it, whole or not at all; not synced, for it is worth nothing after a crash."""

    def __init__(self, root: Path, clock: Clock) -> None:
        self._path, self._clock = root / FILE, clock
        self._part = root / f".{FILE}.{os.getpid()}.part"
        self._due_s = float("-inf")

    def due(self, now_s: float) -> bool:
        """Whether it is time to write it again."""
        return now_s >= self._due_s

    def write(self, standing: Standing) -> None:
        """Replaces the file; a disk that is full leaves the last one there."""
        self._due_s = self._clock.now_s() + WRITE_S
        try:
            self._part.write_bytes(msgspec.json.encode(standing) + b"\n")
            self._part.replace(self._path)
        except OSError:
            return


def make_standing(
    cell: str, report: Report, lease: Lease, spool: Log, uplink: Uplink, *,
    connections: dict[str, str], tunnel: dict[str, str], trouble: LastTrouble, clock: Clock,
) -> Standing:  # fmt: skip
    """What link can say; what it has not heard of has its default."""
    now_s, record = clock.now_s(), lease.record
    unsent = {s: spool.synced(s) - uplink.acknowledged.get(s, -1) for s in spool.streams()}
    ours = sum(rows for stream, rows in unsent.items() if stream.endswith(f"/{record.run}"))
    return Standing(
        written_s=now_s, time=datetime.now(UTC).isoformat(timespec="seconds"), link_pid=os.getpid(), cell=cell,
        run=record.run, token=record.token, lease_left_s=max(0.0, lease.until_s - now_s), state=report.state,
        reason=report.reason, episode=report.episode, step=report.step, steps_per_s=report.steps_per_s,
        late=report.late, skipped=report.skipped, held=report.held, version=report.version, backlog_rows=ours,
        waiting_rows=sum(unsent.values()) - ours, spool_bytes=spool.size_bytes(),
        spool_bound_bytes=spool.config.max_bytes or 0, connections=connections, tunnel=tunnel,
        trouble=trouble.text, trouble_time=trouble.when,
    )  # fmt: skip


def read_standing(root: Path) -> Standing | None:
    """The newest one; None: no daemon has written one there, or not one of this version."""
    try:
        return msgspec.json.decode((root / FILE).read_bytes(), type=Standing)
    except (OSError, msgspec.MsgspecError):
        return None
