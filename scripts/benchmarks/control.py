"""control: how long 100 steps at 10 Hz take beside a learner on the same cores, how late steps begin; 100 Hz alone.

The real daemon in real pace: a fake arm and two cameras of 128x128 at 30 Hz (their reads wait, so each has its thread),
its uplink, a CNN policy on the edge, newer weights at each episode's start. The real launcher beside it on the same
cores: fleet, gateway, and a SAC learner from both cameras that updates without rest at nice 10. Times are those in the
rows of the edge's own log; lateness and ages are the edge's telemetry. Once with FIFO scheduling, once without.
Then 100 Hz from the state alone, on a core that nothing else uses, while the learner waits.

`Row` says where things run, so that the same rows can be measured over a network: `edge_prefix` and `cloud_prefix` are
put in front of the commands (ip netns exec NAME), `host` is where the edge finds fleet and gateway.
"""

import argparse
import contextlib
import itertools
import json
import os
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from cloud.authority import Authority
from cloud.fleet.server import read_address
from edge.telemetry import histograms, read_records
from scripts.benchmarks.machine import record
from user_rl.errors import StorageError
from user_rl.log import Reader
from user_rl.rows import Kind
from user_rl.specs import Array
from user_rl.trust import save_bundle

CELL, RUN = "arm", "bench"
EPISODES, IDLE_S = 11, 60.0
STEPS = 100
PATIENCE_S = 120.0
RLINF_S = {"asynchronous": 13.1, "synchronous": 20.3}  # the same, as RLinf-USER reports it
LEARNS = (
    "algorithm.policy.kind=cnn", "algorithm.batch_size=16", "algorithm.update_ratio=90", "learner.warmup_rows=50",
    "learner.publish_every=5",
)  # fmt: skip
Alive = Callable[[], object]  # ends the benchmark with what a process said, once that has ended
WAITS = ("learner.warmup_rows=1000000000",)


@dataclass(frozen=True, kw_only=True)
class Row:
    """One measurement: what is run, and where."""

    episodes: int = EPISODES  # the first of them is left out: weights and caches are cold
    steps: int = STEPS
    rate_hz: float = 10.0
    cameras: int = 2
    learner: tuple[str, ...] = LEARNS
    host: str = "127.0.0.1"  # where fleet and gateway listen
    edge_prefix: tuple[str, ...] = ()
    cloud_prefix: tuple[str, ...] = ()
    cloud_cpus: frozenset[int] = frozenset(os.sched_getaffinity(0))
    edge: Mapping[str, Any] = field(default_factory=dict)  # further keys of the daemon


def edge_tree(row: Row, root: Path) -> dict[str, Any]:
    """The daemon's configuration: nothing ever succeeds, so every episode has all of its steps."""
    camera = {"name": "fake", "height": 128, "width": 128, "rate_hz": 30.0}
    return {
        "name": CELL, "bundle": str(root / "arm.bundle"), "home": str(root / "edge"),
        "robot": {"name": "fake", "rate_hz": row.rate_hz},
        "task": {"name": "fake", "max_steps": row.steps, "near_m": 1e-9},
        "cameras": dict.fromkeys(("front", "wrist")[: row.cameras], camera),
        **row.edge,
    }  # fmt: skip


@contextlib.contextmanager
def process(argv: list[str], said: Path, cpus: frozenset[int], within_s: float = PATIENCE_S) -> Iterator[Alive]:
    """A command while it runs, and whether it does; what it says goes into a file. SIGTERM at the end."""
    with said.open("ab") as out:
        child = subprocess.Popen(argv, stdout=out, stderr=out, preexec_fn=lambda: os.sched_setaffinity(0, cpus))
    try:
        yield lambda: child.poll() is None or sys.exit(f"{' '.join(argv)} has ended:\n{said.read_text()[-2000:]}")
    finally:
        child.send_signal(signal.SIGTERM)
        child.wait(within_s)


@contextlib.contextmanager
def cloud(row: Row, root: Path) -> Iterator[Alive]:
    """Fleet, gateway and learner; the edge's bundle lies in `root` when this is entered."""
    home, python = root / "home", [*row.cloud_prefix, sys.executable, "-m"]
    authority = Authority(home / "authority")
    fleet = [*python, "cloud.fleet", "--home", str(home), "--listen", f"{row.host}:0"]
    launch = [
        *python, "cloud.main", "launch", f"runs={root}/runs", f"home={home}", f"run={RUN}", "algorithm=sac",
        "robot=fake", "task=fake", "teleop=none", "cameras=none", "robots.simulated=false",
        f"robots.cameras={row.cameras}", f"gateway.host={row.host}", "learner.pace_robots=false", *row.learner,
    ]  # fmt: skip
    with process(fleet, root / "fleet.log", row.cloud_cpus):
        wait(lambda: read_address(home) is not None, "the fleet")
        said = read_address(home)
        assert said is not None
        save_bundle(authority.mint(CELL, kind="edge", fleet_address=said.address), root / "arm.bundle")
        with process(launch, root / "launch.log", row.cloud_cpus) as alive:
            yield alive


def measure_row(row: Row) -> dict[str, float]:
    """Runs it and returns its figures; see `figures`."""
    with tempfile.TemporaryDirectory(prefix="bench-control-") as folder:
        root = Path(folder)
        config, home = root / "edge.json", root / "edge"
        config.write_text(json.dumps(edge_tree(row, root)))
        run = [*row.edge_prefix, sys.executable, "-m", "edge.main", "run", "--config", str(config)]
        everywhere = frozenset(os.sched_getaffinity(0))
        with cloud(row, root) as cloud_alive, process(run, root / "edge.log", everywhere) as edge_alive:
            steps = row.episodes * (row.steps + 1)
            took_s = steps / row.rate_hz
            wait(
                lambda: bool(cloud_alive() and edge_alive() and rows_in(home) >= steps), "all episodes",
                PATIENCE_S + 3 * took_s,
            )  # fmt: skip
        if "no FIFO scheduling" in (root / "edge.log").read_text():
            print("no FIFO scheduling is permitted here: the figures with it are without it")
        return figures(row, home)


def rows_in(home: Path) -> int:
    """What the edge has recorded, durably."""
    try:
        with Reader(home / "spool") as spool:
            return sum(spool.synced(stream) + 1 for stream in spool.streams())
    except (StorageError, FileNotFoundError):
        return 0


def figures(row: Row, home: Path) -> dict[str, float]:
    """episode_s, its longest, swaps per episode; lateness and ages in ms; counters."""
    lengths_s, versions = episodes_in(home, row)
    records = list(read_records(home))
    found, newest = histograms(records), records[-1]
    ms = {f"late_p{p:g}".replace(".", ""): 1e3 * found["late"].percentile(p) for p in (50.0, 99.0, 99.9, 100.0)}
    return {
        "episode_s": statistics.fmean(lengths_s), "episode_longest_s": max(lengths_s), "episodes": len(lengths_s),
        "swaps": sum(a != b for a, b in itertools.pairwise(versions)) / max(1, len(versions) - 1),
        **{f"{name}_ms": value for name, value in ms.items()},
        "work_p99_ms": 1e3 * found["work"].percentile(99), "obs_age_p99_ms": 1e3 * found["age"].percentile(99),
        "propose_p99_ms": 1e3 * found["propose"].percentile(99),
        "steps_skipped": newest.skipped, "actions_held": newest.held, "steps_without_action": newest.unserved,
    }  # fmt: skip


def episodes_in(home: Path, row: Row) -> tuple[list[float], list[int]]:
    """Of the whole episodes after the first: seconds from the first observation to the one after the last step, and
    the version that acted."""
    lengths_s: list[float] = []
    versions: list[int] = []
    with Reader(home / "spool") as spool:
        for stream, schema in spool.streams().items():
            began_s = np.nan
            for chunk in spool.scan(stream):
                rows: Array = schema.view(chunk.data)
                for one in rows[["frame_index", "kind", "version", "stamp.observation.state"]]:
                    frame, kind, version, stamp_s = one.item()
                    began_s = stamp_s if frame == 0 else began_s
                    if kind == Kind.LAST and frame == row.steps:
                        lengths_s.append(stamp_s - began_s)
                        versions.append(version)
    return lengths_s[1 : row.episodes], versions[1 : row.episodes]


def wait(condition: Callable[[], bool], what: str, within_s: float = PATIENCE_S) -> None:
    """Returns when `condition()` holds."""
    until_s = time.monotonic() + within_s
    while not condition():
        if time.monotonic() > until_s:
            raise SystemExit(f"{what}: not within {within_s:.0f} s")
        time.sleep(0.5)


def idle_row(seconds: float) -> Row:
    """100 Hz, state alone; control has the last core for itself, if there are two."""
    cores = sorted(os.sched_getaffinity(0))
    own = cores[-1:] if len(cores) > 1 else []
    steps = round(seconds * 10)
    return Row(
        episodes=11, steps=steps, rate_hz=100.0, cameras=0, learner=WAITS, edge={"cpus": own},
        cloud_cpus=frozenset(cores) - set(own),
    )  # fmt: skip


def measure(episodes: int, idle_s: float) -> dict[str, float]:
    """Every figure of this machine."""
    row = Row(episodes=episodes)
    fifo = show("10 Hz, FIFO", measure_row(row))
    plain = show("10 Hz, without FIFO", measure_row(replace(row, edge={"realtime": "off"})))
    idle = show("100 Hz", measure_row(idle_row(idle_s)))
    keys = {
        "episode_10hz_s": "episode_s", "late_p99_ms": "late_p99_ms", "steps_skipped": "steps_skipped",
        "actions_held": "actions_held", "obs_age_p99_ms": "obs_age_p99_ms", "swaps_per_episode": "swaps",
    }  # fmt: skip
    return {
        **{key: fifo[name] for key, name in keys.items()},
        **{f"{key}_no_fifo": plain[name] for key, name in keys.items()},
        "late_100hz_p999_ms": idle["late_p999_ms"], "late_100hz_max_ms": idle["late_p100_ms"],
        "steps_skipped_100hz": idle["steps_skipped"],
        **{f"rlinf_{name}_s": value for name, value in RLINF_S.items()},
    }  # fmt: skip


def show(what: str, found: dict[str, float]) -> dict[str, float]:
    """The figures of one row, printed."""
    print(what, " ".join(f"{name}={value:.4g}" for name, value in found.items()), flush=True)
    return found


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json")
    parser.add_argument("--episodes", type=int, default=EPISODES, help="of 100 steps at 10 Hz; the first is left out")
    parser.add_argument("--idle-s", type=float, default=IDLE_S, help="of the 100 Hz row")
    parser.add_argument("--only", choices=("here", "wan"), help="without a network, or over a lab's link")
    args = parser.parse_args()
    found = measure(args.episodes, args.idle_s) if args.only in (None, "here") else {}
    if args.only in (None, "wan"):
        from scripts.benchmarks import control_wan  # it measures this module's rows

        found |= control_wan.measure(Row(episodes=args.episodes))
    record("control", found, args.json)
