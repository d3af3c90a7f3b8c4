"""`user-rl watch`: what a run's robots do now, from RUN/live, which any program may read as well.

Pictures are drawn with half blocks, two pixels in a character, where the terminal has 256 colours or more.
"""

import argparse
import json
import time
from collections.abc import Callable, Sequence
from io import BytesIO
from pathlib import Path
from typing import Any

from rich.color import Color
from rich.columns import Columns
from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.panel import Panel
from rich.style import Style
from rich.table import Table
from rich.text import Text

from cloud.disk import write_bytes
from cloud.run import RunFolder, find_run, read_json
from user_rl.errors import ConfigError

STALE_S = 3.0  # a cell that has shown nothing for so long
PER_SECOND = 4
COLUMNS, COLUMNS_ALONE = 32, 64  # of a picture, in characters
Shown = dict[str, Any]


def run_watch(args: argparse.Namespace, console: Console) -> int:
    """Shows until interrupted; returns the exit status."""
    folder = find_run(Path(args.runs), args.run)
    if args.json:
        console.print(json.dumps(shown_cells(folder, args.cell), indent=2), soft_wrap=True, highlight=False)
        return 0
    if args.once or not console.is_terminal:
        console.print(screen(folder, args.cell, console))
        return 0
    with Live(console=console, refresh_per_second=PER_SECOND, screen=True) as live:
        while True:
            live.update(screen(folder, args.cell, console))
            time.sleep(1 / PER_SECOND)


def shown_cells(folder: RunFolder, cell: str | None, *, wall_s: Callable[[], float] = time.time) -> list[Shown]:
    """What the cells show, with their age; raises ConfigError for a cell that shows nothing."""
    files = sorted((folder.root / "live").glob("*.json"))
    names = [path.stem for path in files]
    if cell is not None and cell not in names:
        raise ConfigError(f"cell {cell} shows nothing in {folder.name}, allowed {', '.join(names) or 'none yet'}")
    wanted = [path for path in files if cell in (None, path.stem)]
    return [read_json(path) | {"age_s": round(max(0.0, wall_s() - path.stat().st_mtime), 2)} for path in wanted]


def screen(folder: RunFolder, cell: str | None, console: Console) -> RenderableType:
    """Everything that there is to see."""
    cells = shown_cells(folder, cell)
    if not cells:
        text = f"no robot of {folder.name} has shown anything yet; they do once they hold a lease"
        return Panel(Text(text, style="dim"), border_style="cyan", title=f"[bold]{folder.name}[/]")
    wide = COLUMNS_ALONE if cell else COLUMNS
    colours = console.color_system in ("256", "truecolor")
    timings = {shown["cell"]: _late_p99_ms(folder, shown["cell"]) for shown in cells}
    return Group(*(_panel(folder, shown, timings[shown["cell"]], wide if colours else 0) for shown in cells))


def _panel(folder: RunFolder, shown: Shown, late_ms: float | None, wide: int) -> RenderableType:
    parts: list[RenderableType] = [_figures(shown, late_ms)]
    if wide:
        pictures = [_picture(folder, shown["cell"], camera, wide) for camera in shown["cameras"]]
        parts.append(Columns([picture for picture in pictures if picture is not None], padding=(0, 2)))
    elif shown["cameras"]:
        parts.append(Text(f"pictures: {', '.join(shown['cameras'])} (this terminal has too few colours)", style="dim"))
    stale = shown["age_s"] > STALE_S
    age = f"nothing for {shown['age_s']:.0f} s" if stale else f"{shown['age_s']:.1f} s ago"
    return Panel(
        Group(*parts), title=f"[bold]{shown['cell']}[/]  {shown['state']}", subtitle=age, title_align="left",
        subtitle_align="right", border_style="red" if stale else "yellow" if shown["state"] == "fault" else "cyan",
    )  # fmt: skip


def _figures(shown: Shown, late_ms: float | None) -> Table:
    pace, queue_ms = shown["pace_bytes_s"], shown["queue_s"] * 1e3
    pairs: list[tuple[str, RenderableType]] = [
        ("episode", f"{shown['episode']:,}"), ("step", f"{shown['step']:,}"), ("version", f"{shown['version']:,}"),
        ("rate", f"{shown['steps_per_s']:.1f} Hz"), ("late", f"{shown['late']:,}"),
        ("late p99", "-" if late_ms is None else f"{late_ms:.2f} ms"),
        ("round trip", f"{shown['round_trip_s'] * 1e3:.1f} ms"),
        ("queueing", Text(f"{queue_ms:.1f} ms", style="yellow" if queue_ms > 10 else "green")),
        ("uplink", f"{write_bytes(shown['sent_bytes_s'])}/s"),
        ("pace", f"{write_bytes(pace)}/s" if pace else "as fast as it goes"),
        ("waiting", f"{shown['waiting_rows']:,} rows"), ("spool", write_bytes(shown["spool_bytes"])),
    ]  # fmt: skip
    table = Table.grid(padding=(0, 2))
    for _ in range(3):
        table.add_column(style="dim", justify="right")
        table.add_column(min_width=12)
    for first in range(0, len(pairs), 3):
        table.add_row(*(part for pair in pairs[first : first + 3] for part in pair))
    return table


def _late_p99_ms(folder: RunFolder, cell: str) -> float | None:
    """From the newest telemetry, where there is any."""
    path = folder.root / "telemetry" / f"{cell}.jsonl"
    try:
        with path.open("rb") as file:
            file.seek(max(0, path.stat().st_size - 2**16))
            record = json.loads(file.read().splitlines()[-1])
        found = record["timings"]["late"]["p99_ms"]
    except (OSError, IndexError, ValueError, TypeError, KeyError):
        return None
    return float(found) if isinstance(found, int | float) else None


def _picture(folder: RunFolder, cell: str, camera: str, wide: int) -> RenderableType | None:
    from PIL import Image, UnidentifiedImageError

    try:
        data = (folder.root / "live" / f"{cell}-{camera}.jpg").read_bytes()
        with Image.open(BytesIO(data), formats=("JPEG",)) as image:
            high = max(2, round(image.height * wide / image.width / 2) * 2)
            pixels = image.convert("RGB").resize((wide, high)).tobytes()
    except (OSError, UnidentifiedImageError):
        return None
    rows = [[tuple(pixels[3 * (y * wide + x) :][:3]) for x in range(wide)] for y in range(high)]
    return Group(half_blocks(rows), Text(camera.center(wide), style="dim"))


def half_blocks(rows: Sequence[Sequence[tuple[int, ...]]]) -> Text:
    """Pixels (r, g, b), two rows in a line: the upper one is the character's colour, the lower its ground's."""
    text = Text(no_wrap=True)
    for upper, lower in zip(rows[::2], rows[1::2], strict=True):
        for above, below in zip(upper, lower, strict=True):
            text.append("▀", Style(color=Color.from_rgb(*above), bgcolor=Color.from_rgb(*below)))
        text.append("\n")
    text.right_crop(1)
    return text
