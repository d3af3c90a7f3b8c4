"""The disk that holds a run: is there room to start, how fast it fills, and one line to the operator in good time."""

import logging
import os
import shutil
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cloud.forecast import Alarm, DiskForecast, Forecast, planned_end_h
from user_rl.clock import Clock
from user_rl.errors import StorageFull

log = logging.getLogger(__name__)

SAMPLE_S = 10.0  # between two samples; one costs a walk over the run's files
UNITS = ("B", "kB", "MB", "GB", "TB", "PB")
DAY_H, YEAR_H = 24.0, 24.0 * 365
BLOCK_BYTES = 512  # of st_blocks
DISK_KEYS = ("disk_free_bytes", "disk_bytes_per_hour", "disk_full_in_h")  # of status.json and report.json


@dataclass(frozen=True, kw_only=True)
class DiskConfig:
    """What a run wants of the disk that holds it."""

    floor_bytes: int = 2**30  # free space below which no run is started
    warn_within_h: float = 24.0  # a forecast shorter than this is told

    def __post_init__(self) -> None:
        if self.floor_bytes < 0:
            raise ValueError(f"floor_bytes = {self.floor_bytes}, allowed 0 or more; 0 starts on any disk")
        if not self.warn_within_h >= 0:
            raise ValueError(f"warn_within_h = {self.warn_within_h}, allowed 0 or more; give hours")


Measure = Callable[[Path], tuple[int, int]]  # a run's folder -> bytes that it uses, bytes free on its disk


class DiskWatch:
    """Looks at a run's disk now and then. All calls from one thread."""

    def __init__(self, root: Path, config: DiskConfig, *, clock: Clock, measure: "Measure | None" = None) -> None:
        self._root, self._clock, self._measure = root, clock, measure or used_and_free
        self._forecast, self._alarm = DiskForecast(), Alarm(config.warn_within_h)
        self._next_s = clock.now_s()
        self.trouble = ""  # the warning with the newest figures, while there is reason for one
        self.figures: dict[str, Any] = {}  # as in status.json and report.json

    def tick(self, status: Mapping[str, Any]) -> None:
        """Takes a sample when one is due; `status` says when the run is planned to end."""
        now_s = self._clock.now_s()
        if now_s < self._next_s:
            return
        self._next_s = now_s + SAMPLE_S
        forecast = self._forecast.add(now_s, *self._measure(self._root))
        self.figures = figures(forecast)
        ends_in_h = planned_end_h(float(status.get("finished_share") or 0.0), float(status.get("wall_s") or 0.0))
        near = self._alarm.is_near(forecast.full_in_h, ends_in_h)
        self.trouble = warning(self._root, forecast, ends_in_h) if near else ""
        if self._alarm.rings(forecast.full_in_h, ends_in_h):
            log.warning("%s", self.trouble)


def figures(forecast: Forecast) -> dict[str, Any]:
    """A forecast as plain data; null where it is not known."""
    rate, hours = forecast.bytes_per_hour, forecast.full_in_h
    shown = (forecast.free_bytes, None if rate is None else round(rate), None if hours is None else round(hours, 3))
    return dict(zip(DISK_KEYS, shown, strict=True))


def warning(root: Path, forecast: Forecast, ends_in_h: float | None) -> str:
    """The operator's line: which disk, what is left, how fast, how long, what to do."""
    rate, hours = forecast.bytes_per_hour or 0.0, forecast.full_in_h or 0.0
    end = f", the run is planned to end in {write_hours(ends_in_h)}" if ends_in_h is not None else ""
    return (
        f"the disk {mount_of(root)}, which holds {root}, has {write_bytes(forecast.free_bytes)} free and fills at "
        f"{write_bytes(rate)}/h: full in {write_hours(hours)}{end}; delete runs that nobody needs, or stop this one, "
        "move its folder to a larger disk and go on with user-rl resume FOLDER"
    )


def check_space(folder: Path, floor_bytes: int) -> None:
    """Raises StorageFull when the disk that holds (or will hold) `folder` has less than `floor_bytes` free."""
    free = shutil.disk_usage(_existing(folder)).free
    if free < floor_bytes:
        raise StorageFull(
            f"the disk {mount_of(folder)}, which holds {folder}, has {write_bytes(free)} free, allowed "
            f"{write_bytes(floor_bytes)} or more to start a run; free space, or lower disk.floor_bytes"
        )


def used_and_free(root: Path) -> tuple[int, int]:
    """Bytes that the files under `root` occupy (holes do not count), and bytes free beside them."""
    used = 0
    for folder, _, names in os.walk(root):
        for name in names:
            with suppress(FileNotFoundError):  # it was deleted meanwhile
                used += os.lstat(os.path.join(folder, name)).st_blocks * BLOCK_BYTES
    return used, shutil.disk_usage(_existing(root)).free


def mount_of(path: Path) -> Path:
    """Where the disk that holds `path` is mounted."""
    path = _existing(path).resolve()
    return next(p for p in (path, *path.parents) if p.is_mount())


def write_bytes(count: float) -> str:
    """`12.3 GB`: three digits and a decimal unit."""
    power = 0
    while abs(count) >= 999.5 and power < len(UNITS) - 1:
        count, power = count / 1000, power + 1
    return f"{count:.3g} {UNITS[power]}"


def write_hours(hours: float) -> str:
    """`40 min`, `9.5 h`, `12 d`."""
    if hours < 1:
        return f"{hours * 60:.0f} min"
    if hours < 2 * DAY_H:
        return f"{hours:.1f} h" if hours < 10 else f"{hours:.0f} h"
    return f"{hours / DAY_H:.0f} d" if hours < YEAR_H else "over a year"


def _existing(path: Path) -> Path:
    return next(p for p in (path, *path.absolute().parents) if p.exists())
