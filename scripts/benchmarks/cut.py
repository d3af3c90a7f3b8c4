"""cut: the link is cut for ten minutes' worth of rows (6,000) and mended; what was lost, and how fast the rest came.

A whole system in a lab: the robot at 100 Hz with a small camera, 80 ms and 20 Mbit/s without loss from its
cloud. Caught up is what the cloud's log has, in bytes as they are stored, from the first row after the cut until the
backlog is a second's; over it stands what iperf3, or a bare TCP stream where that is not installed, carries between the
same namespaces under the same congestion control. Lateness and skipped steps are of the rows recorded during the cut.
"""

import argparse
import json
import shutil
import subprocess
import sys
import tempfile
import time
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from scripts.benchmarks.machine import record
from scripts.benchmarks.site import Site
from scripts.netlab import Lab, missing
from scripts.netlab.lab import CLOUD, WAN
from user_rl.errors import UserRlError
from user_rl.log import Reader, Stored, compare
from user_rl.specs import Array

ROWS, RATE_HZ = 6000, 100.0
SIZE = 48  # of a picture: 6.9 kB, so that 6,000 rows are 43 MB
STEADY_S, PROBE_S = 5.0, 10.0
PORT = 5201
EDGE: dict[str, Any] = {
    "robot": {"name": "fake", "rate_hz": RATE_HZ}, "task": {"name": "fake", "max_steps": 1000, "near_m": 0.0},
    "cameras": {"front": {"name": "fake", "height": SIZE, "width": SIZE}},
    "drain_s": 120.0,
}  # fmt: skip
RUN = ("learner.warmup_rows=1000000000",)


@dataclass
class Progress:
    """How far the cloud's log is, at which times."""

    path: Path
    points: list[tuple[float, dict[str, int]]] = field(default_factory=list)
    _reader: Reader | None = None

    def look(self) -> int:
        """Rows in all, now; written down with the time."""
        with suppress(UserRlError, FileNotFoundError):
            self._reader = self._reader or Reader(self.path)
            found = {stream: self._reader.synced(stream) for stream in self._reader.streams()}
            self.points.append((time.monotonic(), found))
        return rows_of(self.points[-1][1]) if self.points else 0

    def close(self) -> None:
        """Lets go of the log."""
        if self._reader is not None:
            self._reader.close()


def rows_of(cursors: dict[str, int]) -> int:
    """How many rows such cursors stand for."""
    return sum(last + 1 for last in cursors.values())


def storm(root: Path, lab: Lab, rows: int) -> dict[str, float]:
    """One cut of so many rows, mended, caught up, compared."""
    site = Site(root, cloud=lab.cloud.prefix, robot=lab.robot.prefix, host=CLOUD, edge=EDGE, run=RUN)
    far, near = Progress(site.folder.log), Progress(site.spool)
    try:
        site.start_fleet()
        site.start_cloud()
        site.start_edge()
        site.wait(lambda: far.look() > STEADY_S * RATE_HZ, "rows in the cloud")
        lab.link.cut()
        began_s, before = time.monotonic(), near.look()
        site.wait(lambda: near.look() >= before + rows, "rows beside the robot", within_s=60 + 3 * rows / RATE_HZ)
        lab.link.mend()
        mended_s, stood_at = time.monotonic(), far.look()
        site.wait(lambda: far.look() > stood_at, "the first row after the cut")
        first = far.points[-1]
        site.wait(lambda: near.look() - far.look() < RATE_HZ, "the backlog is sent", within_s=600)
        caught = far.points[-1]
    finally:
        far.close()
        near.close()
        site.close()
    took_s = caught[0] - first[0]
    with Reader(site.spool) as edge, Reader(site.folder.log) as cloud:
        found = compare(edge, cloud, "r")
        size = stored_bytes(cloud, first[1], caught[1])
        late_s, skipped = lateness(edge, began_s, mended_s)
    return {
        "cut_lost": found.rows_lost, "cut_doubled": found.rows_duplicated, "cut_rows": found.rows,
        "cut_s": mended_s - began_s, "cut_back_s": first[0] - mended_s, "caught_up_s": took_s,
        "caught_up_mb": size / 1e6, "caught_up_mb_s": size / 1e6 / took_s,
        "cut_late_p99_ms": 1e3 * float(np.percentile(late_s, 99)), "cut_skipped": skipped,
    }  # fmt: skip


def stored_bytes(log: Reader, after: dict[str, int], until: dict[str, int]) -> int:
    """Bytes of the rows between two sets of cursors, as they are stored."""

    def within(chunk: Stored, stream: str) -> bool:
        return after.get(stream, -1) < chunk.last <= until[stream]

    return sum(len(chunk.data) for stream in until for chunk in log.scan_stored(stream) if within(chunk, stream))


def lateness(log: Reader, began_s: float, until_s: float) -> tuple[Array, float]:
    """Of the steps in between: how far each observation is from a period after the one before, and how many periods
    have none."""
    gaps = [np.zeros(0)]
    for stream, schema in log.streams().items():
        parts = [schema.view(chunk.data)[["episode", "stamp.observation.state"]] for chunk in log.scan(stream)]
        rows = np.concatenate(parts) if parts else schema.new(0)
        stamps_s = rows["stamp.observation.state"]
        whole = (np.diff(rows["episode"]) == 0) & (stamps_s[1:] > began_s) & (stamps_s[1:] < until_s)
        gaps.append(np.diff(stamps_s)[whole])
    gaps_s = np.concatenate(gaps)
    return np.abs(gaps_s - 1 / RATE_HZ), float(np.maximum(0, np.round(gaps_s * RATE_HZ) - 1).sum())


def link_rate(lab: Lab) -> float:
    """Bytes/s that one TCP stream brings from the robot to the cloud."""
    program = shutil.which("iperf3")
    if program is None:
        print("no iperf3 here: the link's rate is that of a bare TCP stream")
        return _bare_rate(lab)
    null = subprocess.DEVNULL
    serve = [*lab.cloud.prefix, program, "-s", "-1", "-p", str(PORT)]
    with subprocess.Popen(serve, stdout=null, stderr=null) as far:
        time.sleep(1.0)  # it says nothing when it listens
        argv = [program, "-J", "-c", CLOUD, "-p", str(PORT), "-t", str(round(PROBE_S)), "-O", "2"]
        try:
            said = json.loads(lab.robot.run(*argv))
        finally:
            far.terminate()
    return float(said["end"]["sum_received"]["bits_per_second"]) / 8


SERVE = """
import socket, sys, time
with socket.create_server(("0.0.0.0", int(sys.argv[1]))) as door:
    print("listening", flush=True)
    line, size, began_s = door.accept()[0], 0, time.monotonic()
    while data := line.recv(2**16):
        size += len(data)
    print(size / (time.monotonic() - began_s), flush=True)
"""
SEND = """
import socket, sys, time
with socket.create_connection((sys.argv[1], int(sys.argv[2]))) as line:
    until_s = time.monotonic() + float(sys.argv[3])
    while time.monotonic() < until_s:
        line.sendall(bytes(2**16))
"""


def _bare_rate(lab: Lab) -> float:
    argv = [*lab.cloud.prefix, sys.executable, "-c", SERVE, str(PORT)]
    with subprocess.Popen(argv, stdout=subprocess.PIPE, text=True) as far:
        assert far.stdout is not None
        far.stdout.readline()
        lab.robot.run(sys.executable, "-c", SEND, CLOUD, str(PORT), str(PROBE_S))
        return float(far.stdout.readline())


def measure(rows: int = ROWS, controls: tuple[str, ...] = ("bbr", "cubic")) -> dict[str, float]:
    """Every figure: under the first congestion control, and what the others catch up with."""
    figures: dict[str, float] = {}
    for i, control in enumerate(controls):
        with tempfile.TemporaryDirectory(prefix="bench-cut-") as path, Lab() as lab:
            for space in (lab.robot, lab.cloud):
                space.congestion(control)
            lab.link.shape(WAN)
            rate = link_rate(lab)
            found = storm(Path(path), lab, rows)
        found |= {"catch_up_ratio": 1e6 * found["caught_up_mb_s"] / rate, "link_mb_s": rate / 1e6}
        print(control, " ".join(f"{name}={value:.4g}" for name, value in found.items()), flush=True)
        figures |= {f"{name}_{control}" if i else name: value for name, value in found.items()}
    return figures


def main() -> None:
    """Measures and prints."""
    parser = argparse.ArgumentParser(prog="scripts/bench cut", description=__doc__)
    parser.add_argument("--json", help="where to write the figures")
    parser.add_argument("--rows", type=int, default=ROWS, help="recorded during the cut")
    parser.add_argument("--congestion", nargs="+", default=["bbr", "cubic"])
    options = parser.parse_args()
    if missing():
        raise SystemExit(f"cut: {missing()}")
    record("cut", measure(options.rows, tuple(options.congestion)), options.json)


if __name__ == "__main__":
    main()
