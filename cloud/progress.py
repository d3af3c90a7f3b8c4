"""The live view of a run: what a person wants to see while a robot learns, on a terminal or line by line in a log."""

from collections.abc import Callable, Mapping
from typing import Any, TextIO

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.panel import Panel
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from cloud.disk import write_bytes, write_hours
from user_rl.clock import Clock

Status = Mapping[str, Any]
LINE_EVERY_S = 10.0
SPARKS = " ▁▂▃▄▅▆▇█"
CELLS = 6  # shown, those with the fullest disks
HISTORY = 60  # success rates shown in the small curve


class Progress:
    """Shows a status often; on a terminal as a live panel, elsewhere as one line every ten seconds."""

    def __init__(self, run: str, *, clock: Clock, file: TextIO | None = None) -> None:
        self._run, self._clock = run, clock
        self._console = Console(file=file, highlight=False)
        self._live = Live(console=self._console, refresh_per_second=4, transient=True)
        self._history: list[float] = []
        self._next_line_s = self._next_point_s = clock.now_s()
        if self._console.is_terminal:
            self._live.start()

    def show(self, status: Status) -> None:
        """Draws `status` as `Driver.status` returns it."""
        now_s = self._clock.now_s()
        if now_s >= self._next_point_s and status.get("success_rate") is not None:
            self._history = [*self._history, float(status["success_rate"])][-HISTORY:]
            self._next_point_s = now_s + 5.0
        if self._console.is_terminal:
            self._live.update(panel(self._run, status, self._history))
        elif now_s >= self._next_line_s:
            self._next_line_s = now_s + LINE_EVERY_S
            self._console.print(line(status), soft_wrap=True)

    def say(self, text: str) -> None:
        """One line above the live view."""
        self._console.print(text, soft_wrap=True)

    def close(self) -> None:
        """Gives the terminal back; safe to call twice."""
        if self._live.is_started:
            self._live.stop()


def panel(run: str, status: Status, history: list[float]) -> RenderableType:
    """The live view as one framed block."""
    table = Table.grid(padding=(0, 2))
    for _ in range(2):
        table.add_column(style="dim", justify="right")
        table.add_column(min_width=18)
    cells = [(name, write(status)) for name, write in FIELDS]
    for left, right in zip(cells[::2], [*cells[1::2], ("", "")][: (len(cells) + 1) // 2], strict=True):
        table.add_row(*left, *right)
    parts: list[RenderableType] = [_bar(status), table]
    if status.get("cells"):
        parts.append(_cells(status["cells"], status.get("success_by_cell") or {}))
    if history:
        parts.append(Text.assemble(("  success  ", "dim"), (spark(history), "green")))
    if status.get("trouble"):
        parts.append(Text(f"  {status['trouble']}", style="yellow"))
    return Panel(
        Group(*parts), title=f"[bold]{run}[/]", subtitle=str(status.get("phase", "")), border_style="cyan", width=80
    )


def line(status: Status) -> str:
    """The same in one line, for logs."""
    return (
        f"{status.get('phase', '?')}: "
        + ", ".join(f"{name} {write(status)}" for name, write in FIELDS)
        + (f"; {status['trouble']}" if status.get("trouble") else "")
    )


def spark(values: list[float]) -> str:
    """Rates in [0, 1] as a small curve of block characters."""
    return "".join(SPARKS[round(min(max(v, 0.0), 1.0) * (len(SPARKS) - 1))] for v in values)


def _bar(status: Status) -> RenderableType:
    share = float(status.get("finished_share", 0.0))
    row = Table.grid(padding=(0, 1))
    row.add_row(ProgressBar(total=1.0, completed=min(share, 1.0), width=64), f"{100 * share:4.0f} %")
    return row


def _cells(cells: Mapping[str, Mapping[str, Any]], success: Mapping[str, float]) -> RenderableType:
    """The cells' success and disks, the fullest first; a cell whose edge does not say comes last."""
    table = Table.grid(padding=(0, 2))
    for style in ("dim", "", "green", "dim", "dim"):
        table.add_column(style=style)
    for name, cell in sorted(cells.items(), key=lambda item: _free(item[1]))[:CELLS]:
        free = cell.get("disk_free_bytes")
        left = "" if free is None else f"{write_bytes(free)} free"
        rate = f"{100 * success[name]:.0f} %" if name in success else "-"
        table.add_row(f"  {name}", str(cell["state"]), rate, f"spool {write_bytes(cell['spool_bytes'])}", left)
    if len(cells) > CELLS:
        table.add_row(f"  and {len(cells) - CELLS} more")
    return table


def _free(cell: Mapping[str, Any]) -> float:
    free = cell.get("disk_free_bytes")
    return float("inf") if free is None else float(free)


def _percent(key: str) -> Callable[[Status], str]:
    return lambda status: f"{100 * status[key]:.0f} %" if status.get(key) is not None else "-"


def _count(key: str) -> Callable[[Status], str]:
    return lambda status: f"{status[key]:,}" if status.get(key) is not None else "-"


def _rate(key: str) -> Callable[[Status], str]:
    return lambda status: f"{status[key]:.1f}" if status.get(key) is not None else "-"


def _version(status: Status) -> str:
    lag = status.get("version_lag")
    return f"{status.get('version', 0)}" + (f" (lag {lag:.1f})" if lag is not None else "")


def _disk(status: Status) -> str:
    free = status.get("disk_free_bytes")
    return "-" if free is None else f"{write_bytes(free)} free"


def _full(status: Status) -> str:
    hours = status.get("disk_full_in_h")
    if hours is None or status.get("phase") == "done":  # what is over fills no disk
        return "-"
    return f"{write_hours(hours)} ({write_bytes(status['disk_bytes_per_hour'])}/h)"


FIELDS: tuple[tuple[str, Callable[[Status], str]], ...] = (
    ("success, last 50", _percent("success_rate")),
    ("episodes", _count("episodes")),
    ("env steps", _count("env_steps")),
    ("env steps/s", _rate("env_steps_per_s")),
    ("updates", _count("updates")),
    ("updates/s", _rate("updates_per_s")),
    ("updates per step", _rate("update_ratio")),
    ("buffer rows", _count("buffer_rows")),
    ("weight version", _version),
    ("interventions", _percent("intervention_rate")),
    ("disk", _disk),
    ("disk full in", _full),
)
