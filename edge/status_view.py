"""How `user-rl-edge status` looks on a terminal."""

from itertools import pairwise

from edge.standing import Standing
from edge.status import Look

BOLD, RED, GREEN, DIM, END = "\033[1m", "\033[31m", "\033[32m", "\033[2m", "\033[0m"
NAME = 12  # characters of the first column
UNITS = ((86400.0, "d"), (3600.0, "h"), (60.0, "min"), (1.0, "s"))
SIZES = ((1e12, "TB"), (1e9, "GB"), (1e6, "MB"), (1e3, "kB"))


def as_text(found: Look, *, colour: bool) -> str:
    """A page of at most a screen: what it does, what it has, how its ways are, what is wrong."""
    paint = Paint(colour)
    standing = found.standing
    if not found.pids or standing is None:
        where = standing.cell if standing else found.home
        what = "starting" if found.pids else "does not run"
        lines = [paint.title(f"{where}: {what}", "", ok=False)]
        if standing and not found.pids:
            lines.append(row("last seen", f"{standing.time}, {standing.state}, {backlog(standing)}"))
    else:
        lines = [*summary(found, standing, paint), *ways(standing, paint)]
    lines += [row("processes", ", ".join(f"{n} {p}" for n, p in found.pids.items()))] if found.pids else []
    if standing and standing.trouble and found.pids:
        lines.append(row("last trouble", f"{standing.trouble_time}: {standing.trouble}"))
    return "\n".join([*lines, *(paint.bad(f"! {trouble}") for trouble in found.troubles)])


class Paint:
    """Colours, where there are any."""

    def __init__(self, on: bool) -> None:
        self._on = on

    def title(self, what: str, after: str, *, ok: bool) -> str:
        dot = self._in(GREEN if ok else RED, "●")
        return f"{dot} {self._in(BOLD, what)}{self._in(DIM, after)}"

    def bad(self, text: str) -> str:
        return self._in(RED, text)

    def way(self, state: str) -> str:
        return self._in(GREEN if state == "open" else RED, state)

    def _in(self, colour: str, text: str) -> str:
        return f"{colour}{text}{END}" if self._on and text else text


def summary(found: Look, standing: Standing, paint: Paint) -> list[str]:
    """What it does and what it has."""
    run = f", run {standing.run}" if standing.run else ""
    reason = f": {standing.reason}" if standing.reason else ""
    up = f"  up {duration(found.up_s)}"
    lines = [paint.title(f"{standing.cell}: {standing.state}{run}{reason}", up, ok=not found.troubles)]
    if standing.step >= 0:
        counts = f"late {standing.late:,}, left out {standing.skipped:,}, held {standing.held:,}"
        speed = f"{standing.steps_per_s:.1f} steps/s"
        lines.append(row("episode", f"{standing.episode:,}, step {standing.step:,}, {speed}; {counts}"))
    newer = f", {standing.fetched} is fetched" if standing.fetched != standing.version else ""
    lines.append(row("weights", f"version {standing.version}{newer}" if standing.fetched else "none yet"))
    if standing.actor:
        lines.append(row("actor", standing.actor))
    lines.append(row("lease", lease(standing)))
    free = f", {size(standing.disk_free_bytes)} free on its disk" if standing.disk_free_bytes is not None else ""
    bound = size(standing.spool_bound_bytes)
    return [*lines, row("spool", f"{size(standing.spool_bytes)} of {bound}, {backlog(standing)}{free}")]


def ways(standing: Standing, paint: Paint) -> list[str]:
    """How it reaches the cloud."""
    lines = [row(name, paint.way(state)) for name, state in standing.connections.items()]
    lines += [row("pace", standing.pace)] if standing.pace else []
    tunnel = ", ".join(f"{way} {paint.way(state)}" for way, state in standing.tunnel.items())
    return [*lines, row("tunnel", tunnel)] if tunnel else lines


def row(name: str, text: str) -> str:
    """A line with its name in the first column."""
    return f"  {name:<{NAME}}  {text}"


def lease(standing: Standing) -> str:
    """Under what it acts."""
    if not standing.token or standing.lease_left_s <= 0:
        return "none"
    return f"{standing.token}, for {duration(standing.lease_left_s)} more without an answer of the fleet"


def backlog(standing: Standing) -> str:
    """What waits for the cloud."""
    others = f", {standing.waiting_rows:,} of other runs" if standing.waiting_rows else ""
    return f"{standing.backlog_rows:,} rows to send{others}"


def duration(seconds: float) -> str:
    """The two largest units of it."""
    for (unit_s, name), (lower_s, lower) in pairwise(UNITS):
        if seconds >= unit_s:
            return f"{seconds // unit_s:.0f} {name} {seconds % unit_s // lower_s:.0f} {lower}"
    return f"{seconds:.0f} s"


def size(count: int) -> str:
    """Bytes, for people."""
    return next((f"{count / unit:.1f} {name}" for unit, name in SIZES if count >= unit), f"{count} bytes")
