"""Telemetry: every few seconds one line about control's steps, in files of bounded size. link writes it.

A line is a `Record` as JSON: the counters, and for each of edge.timings' histograms its percentiles and itself, so that
any lines can be added up again. `HOME/telemetry/NNNNNNNN.jsonl`; the oldest file goes when there are too many. Nothing
is synced: a power cut costs the last lines, and a line that is not whole is left out.
"""

import logging
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import msgspec

from edge.orders import Orders, Report
from edge.timings import Timings
from user_rl.clock import Clock
from user_rl.errors import WireError
from user_rl.histogram import Histogram, histogram_from_bytes, merged

log = logging.getLogger(__name__)

FOLDER = "telemetry"
PERCENTILES = {"p50_ms": 50.0, "p90_ms": 90.0, "p99_ms": 99.0, "p999_ms": 99.9, "max_ms": 100.0}


@dataclass(frozen=True, kw_only=True)
class TelemetryConfig:
    """How often, and how much is kept."""

    every_s: float = 10.0
    file_bytes: int = 2**20
    files: int = 8

    def __post_init__(self) -> None:
        for name, least in (("every_s", 0.1), ("file_bytes", 2**12), ("files", 2)):
            if getattr(self, name) < least:
                raise ValueError(f"{name} = {getattr(self, name)}, allowed {least:g} or more; change it")


class Timing(msgspec.Struct, frozen=True, kw_only=True):
    """One histogram and what is asked of it most."""

    count: int
    p50_ms: float
    p90_ms: float
    p99_ms: float
    p999_ms: float
    max_ms: float
    histogram: bytes  # user_rl.histogram


class Record(msgspec.Struct, frozen=True, kw_only=True):
    """What one line says. The counters are those of control's life, the timings those of `over_s`."""

    at: str  # UTC, ISO 8601
    over_s: float
    run: str
    boot: str
    step: int
    version: int
    late: int
    skipped: int
    held: int
    unserved: int
    timings: dict[str, Timing]  # by edge.timings.NAMES


class Telemetry:
    """The writer under `home`. One thread."""

    def __init__(self, home: Path, timings: Timings, config: TelemetryConfig, clock: Clock) -> None:
        self._root, self._timings, self._config, self._clock = home / FOLDER, timings, config, clock
        self._since_s = clock.now_s()
        self._newest: bytes | None = None
        self._complaint = ""
        self._torn = True  # the newest file may end in half a line of a predecessor's

    def newest(self) -> bytes | None:
        """The last record, as JSON; None before the first of this process."""
        return self._newest

    def turn(self, report: Report, orders: Orders) -> None:
        """Writes a record, if one is due."""
        if self._clock.now_s() - self._since_s >= self._config.every_s:
            self.write(report, orders)

    def write(self, report: Report, orders: Orders) -> None:
        """Writes a record now, if control has made a step since the last one."""
        now_s = self._clock.now_s()
        over_s, self._since_s = now_s - self._since_s, now_s
        timings = {name: timing(one) for name, one in self._timings.take().items() if one.count}
        if not timings:
            return
        record = Record(
            at=datetime.now(UTC).isoformat(timespec="milliseconds"), over_s=round(over_s, 3), run=orders.run,
            boot=orders.boot, step=report.step, version=report.version, late=report.late, skipped=report.skipped,
            held=report.held, unserved=report.unserved, timings=timings,
        )  # fmt: skip
        self._newest = msgspec.json.encode(record)
        try:
            self._append(self._newest + b"\n")
            self._complaint = ""
        except OSError as error:
            if str(error) != self._complaint:
                log.warning("telemetry is not kept: %s; free space", error)
            self._complaint = str(error)

    def _append(self, line: bytes) -> None:
        self._root.mkdir(parents=True, exist_ok=True)
        files = record_files(self._root)
        number = int(files[-1].stem) if files else 1
        if files and files[-1].stat().st_size + len(line) > self._config.file_bytes:
            number += 1
        with (self._root / f"{number:08d}.jsonl").open("ab") as file:
            file.write(b"\n" + line if self._torn and file.tell() else line)
        self._torn = False
        for old in record_files(self._root)[: -self._config.files]:
            old.unlink()


def timing(histogram: Histogram) -> Timing:
    """A histogram that is not empty, as a record has it."""
    figures = {name: round(histogram.percentile(p) * 1e3, 4) for name, p in PERCENTILES.items()}
    return Timing(count=histogram.count, histogram=histogram.encoded, **figures)


def record_files(root: Path) -> list[Path]:
    """The files of records in the folder `root`, oldest first."""
    return sorted(path for path in root.glob("*.jsonl") if path.stem.isdigit())


def read_records(home: Path) -> Iterator[Record]:
    """Every whole record that an edge's home holds, oldest first."""
    for path in record_files(home / FOLDER):
        for line in path.read_bytes().splitlines():
            try:
                yield msgspec.json.decode(line, type=Record)
            except (msgspec.MsgspecError, UnicodeDecodeError):
                continue


def histograms(records: Iterable[Record]) -> dict[str, Histogram]:
    """All that the records' timings have counted, by name; one that cannot be read is left out."""
    found: dict[str, list[Histogram]] = {}
    for record in records:
        for name, one in record.timings.items():
            try:
                found.setdefault(name, []).append(histogram_from_bytes(one.histogram))
            except WireError as error:
                log.warning("%s of %s: %s", name, record.at, error)
    return {name: merged(ones) for name, ones in found.items()}
