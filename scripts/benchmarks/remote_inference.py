"""remote_inference: 100-step episodes at 10 Hz, acted from afar with chunks of 10, over a delayed link.

A whole real system: fleet, launcher with gateway, learner and the server that infers, and one robot's daemon with two
cameras. `episodes` takes the networks that both sides run in; run by itself, everything is on loopback behind proxies
that delay each data channel (scripts/netlab/delay.py). Figures are of the rows in the run's own log: an episode lasts
from its first observation to its last, and a step without action is a period within it that left no row. How many steps
the policy beside the robot acted at instead (before the first chunk of each episode) is what the daemon says.
"""

import argparse
import re
import socket
import statistics
import tempfile
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np

from scripts.benchmarks.machine import record
from scripts.benchmarks.site import Site
from scripts.netlab.delay import DelayProxy
from user_rl.errors import StorageError
from user_rl.log import Reader
from user_rl.rows import Kind
from user_rl.specs import Array

RATE_HZ, STEPS, EPISODES = 10.0, 100, 3
SIZE = 128  # pixels each way
PROXIED = "127.0.0.2"  # where the robot finds what listens at 127.0.0.1
SAID = re.compile(r"of the episode before, (\d+) steps were chunks', (\d+) the fallback's")
EDGE: dict[str, Any] = {
    "robot": {"name": "fake", "rate_hz": RATE_HZ}, "task": {"name": "fake", "max_steps": STEPS, "near_m": 0.0},
    "cameras": {name: {"name": "fake", "height": SIZE, "width": SIZE} for name in ("front", "wrist")},
    "inference": {"where": "remote", "horizon": 10, "execute": 5},
}  # fmt: skip


def episodes(root: Path, *, count: int = EPISODES, **site: Any) -> dict[str, float]:  # noqa: ANN401  # Site's own
    """The figures of `count` whole episodes; `site` is given on to Site (cloud, robot, host, port, run)."""
    run = (*site.pop("run", ()), "inference.serve=true")
    made = Site(root, run=run, edge=EDGE, **site)
    try:
        made.start_fleet()
        made.start_cloud()
        made.start_edge()
        patience_s = 60 + 2 * (count + 2) * STEPS / RATE_HZ
        made.wait(lambda: len(said(made)) > count, "episodes in the robot", within_s=patience_s)
        made.wait(lambda: len(whole(made)) > count, "the same episodes in the log")  # the first is not measured
        return figures(whole(made)[1 : count + 1], said(made)[1 : count + 1])
    finally:
        made.close()


def whole(site: Site) -> list[Array]:
    """The episodes in the run's log that have their closing rows, each as its rows."""
    found: list[Array] = []
    try:
        with Reader(site.folder.log) as reader:
            for stream, schema in reader.streams().items():
                chunks = reader.read(stream, 0, (reader.synced(stream) + 1) * schema.row_bytes)
                rows = np.concatenate([schema.view(chunk.data) for chunk in chunks]) if chunks else schema.new(0)
                found += [
                    rows[rows["episode"] == e] for e in rows["episode"][rows["kind"] == Kind.LAST]
                ]  # fmt: skip
    except StorageError:
        return []  # not there yet
    return found


def said(site: Site) -> list[tuple[int, int]]:
    """What the daemon says of each episode: steps by chunks, and by the policy beside the robot."""
    return [(int(a), int(b)) for a, b in SAID.findall((site.root / "edge.log").read_text())]


def figures(measured: Sequence[Array], counts: Sequence[tuple[int, int]]) -> dict[str, float]:
    """What an episode took, and what was missing in all of them."""
    stamps = [rows["stamp.observation.state"] for rows in measured]
    took_s = [float(s[-1] - s[0]) for s in stamps]
    periods = [round(t * RATE_HZ) for t in took_s]
    return {
        "episode_wan_remote_s": statistics.median(took_s),
        "episode_wan_remote_worst_s": max(took_s),
        "steps_without_action": sum(max(0, p - len(rows) + 1) for p, rows in zip(periods, measured, strict=True)),
        "steps": sum(len(rows) - 1 for rows in measured),
        "steps_by_chunks": sum(chunks for chunks, _ in counts),
        "steps_by_fallback": sum(local for _, local in counts),
    }


def over_proxies(root: Path, delay_s: float, count: int) -> dict[str, float]:
    """The same on loopback; `delay_s` is of one way, on experience, weights and inference each."""
    ports = dict(zip(("gateway.port", "gateway.weights_port", "inference.port"), free_ports(3), strict=True))
    run = [f"{key}={port}" for key, port in ports.items()]
    run += ["gateway.host=127.0.0.1", f"gateway.advertise={PROXIED}"]
    with ExitStack() as stack:
        for port in ports.values():
            stack.enter_context(DelayProxy(f"tcp://127.0.0.1:{port}", delay_s, listen=(PROXIED, port)))
        return episodes(root, count=count, run=run)


def free_ports(count: int) -> list[int]:
    """Ports that nobody listens at."""
    with ExitStack() as stack:
        probes = [stack.enter_context(socket.socket()) for _ in range(count)]
        for probe in probes:
            probe.bind(("127.0.0.1", 0))
        return [probe.getsockname()[1] for probe in probes]


def main() -> None:
    """Prints the figures."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", metavar="FILE")
    parser.add_argument("--round-trip-ms", type=float, default=80.0)
    parser.add_argument("--episodes", type=int, default=EPISODES)
    args = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="remote-inference-") as root:
        record("remote_inference", over_proxies(Path(root), args.round_trip_ms / 2e3, args.episodes), args.json)


if __name__ == "__main__":
    main()
