"""soak: what weeks do to link's memory and to its round, in minutes: many runs, so many streams, and many rows.

The real link over its real ring, spool, cursors and CURVE socket; the cloud is a process that acknowledges everything
at once, the fleet's answers are put in by hand. Each run records under a boot of its own, as a cell does that moves
from run to run. Growth is counted from the first fifth of the runs on, when caches and the ring are warm.
"""

import argparse
import multiprocessing
import os
import statistics
import tempfile
import time
from multiprocessing.connection import Connection as Pipe
from pathlib import Path

from cloud.authority import Authority
from edge.config import EdgeConfig, LinkConfig
from edge.heart import Answer
from edge.link import Link
from edge.orders import Card
from edge.paths import Straight
from edge.ring import Ring
from edge.shared import make_shared
from edge.spooler import boot_of, stream_name
from scripts.benchmarks.machine import record
from user_rl.channels import ServerChannel
from user_rl.fleet import Assignment
from user_rl.rows import Kind, make_schema
from user_rl.specs import box
from user_rl.trust import Bundle, CurveKeys, load_bundle, save_bundle
from user_rl.wire import Ack, Hello, Rows, Welcome, decode, encode

CELL = "arm"
LINK = LinkConfig(commit_ms=5.0, segment_bytes=4 * 2**20)
PATIENCE_S = 60.0
STATE, COMMAND = box("state", [("x", "m", -1, 1)]), box("command", [("dx", "m", -1, 1)])


def acknowledge(keys: CurveKeys, users: dict[str, str], pipe: Pipe) -> None:
    """The cloud: says where it listens, has nothing of a stream and takes everything."""
    channel = ServerChannel("tcp://127.0.0.1:0", keys, lambda: users)
    pipe.send(channel.address)
    while not pipe.poll():
        received = channel.receive(0.2)
        if received is None:
            continue
        message = decode(received.frames)[0]
        if isinstance(message, Hello):
            channel.send(received.peer, encode(Welcome(message.stream, -1)))
        elif isinstance(message, Rows):
            channel.send(received.peer, encode(Ack(message.stream, message.first + message.count - 1)))
    channel.close()


def publish(ring: Ring, run: str, generation: int, steps: range) -> None:
    """Rows as control writes them: one episode."""
    for step in steps:
        row = ring.rows[ring.slot()]
        row["step"], row["run"], row["kind"] = step, run.encode(), Kind.LAST if step == steps[-1] else Kind.STEP
        ring.publish(generation)


class Soak:
    """A link without a daemon around it."""

    def __init__(self, root: Path, bundle: Bundle, address: str) -> None:
        schema = make_schema({"observation.state": STATE}, COMMAND)
        shared = make_shared(os.urandom(16))
        card = Card(schema=schema.encoded, model="soak", rate_hz=10.0, on_silence="stops")
        config = EdgeConfig(
            name=CELL, bundle="", home=str(root / "edge"), robot={}, task={}, link=LINK, spool_bytes=32 * 2**20
        )  # fmt: skip
        self.ring, self._boot, self._address = shared.make_ring(card, 2**20), shared.boot, address
        self.link = Link(shared, self.ring, card, config, bundle, paths=Straight())
        self._heard = self.link._heart.answers

    def run(self, number: int, rows: int) -> float:
        """One run of the cell: a lease, its rows, every one acknowledged; returns the seconds of an idle round then."""
        run = f"run-{number}"
        self._heard.put(
            Answer(
                Assignment(
                    run=run, token=number + 1, command_ttl_s=5.0, autonomy_s=900.0, wanted=True,
                    experience_address=self._address, weights_address="",
                ), time.monotonic(),
            )
        )  # fmt: skip
        self.link.turn()
        stream, until_s = stream_name(CELL, boot_of(self._boot, number), run), time.monotonic() + PATIENCE_S
        done = 0
        while self.link.uplink.acknowledged.get(stream, -1) < rows - 1:
            assert time.monotonic() < until_s, f"{stream}: {self.link.standing()}"
            if done < rows and self.ring.free() >= min(100, rows - done):
                publish(self.ring, run, number, range(done, done := min(rows, done + 100)))
            self.link.turn()
        return idle_s(self.link)


def idle_s(link: Link) -> float:
    """Seconds of one round with nothing to do."""
    began_s = time.perf_counter()
    for _ in range(20):
        link.turn()
    return (time.perf_counter() - began_s) / 20


def rss_mb() -> float:
    """What this process holds of memory now, without the pages of files, which the kernel takes back when it likes."""
    fields = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines())
    return sum(int(fields[kind].split()[0]) for kind in ("RssAnon", "RssShmem")) / 1e3


def soak(root: Path, runs: int, rows: int) -> dict[str, float]:
    """All runs, one after the other."""
    authority = Authority(root / "authority")
    bundle = authority.mint(CELL, kind="edge", fleet_address="127.0.0.1:1")
    save_bundle(bundle, root / "bundle")
    ours, theirs = multiprocessing.get_context("spawn").Pipe()
    keys, users = authority.server_bundle.curve, dict(authority.allowed())
    cloud = multiprocessing.get_context("spawn").Process(target=acknowledge, args=(keys, users, theirs))
    cloud.start()
    began_s = time.perf_counter()
    try:
        made = Soak(root, load_bundle(root / "bundle"), ours.recv())
        seen = []
        for number in range(runs):
            idle = made.run(number, rows)
            seen.append((rss_mb(), idle))
        made.link.close()
    finally:
        ours.send("stop")
        cloud.join()
    part = max(1, runs // 10)
    early, late = seen[2 * part : 3 * part], seen[-part:]
    return {
        "runs": runs, "rows": runs * rows, "rows_per_s": runs * rows / (time.perf_counter() - began_s),
        "rss_mb": late[-1][0],
        "rss_growth_mb": statistics.median(m for m, _ in late) - statistics.median(m for m, _ in early),
        "idle_round_early_us": 1e6 * statistics.median(s for _, s in early),
        "idle_round_late_us": 1e6 * statistics.median(s for _, s in late),
    }  # fmt: skip


def main() -> None:
    """Measures and prints."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", type=Path)
    parser.add_argument("--runs", type=int, default=500)
    parser.add_argument("--rows", type=int, default=1000, help="of each run")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="user-rl-soak-") as folder:
        record("soak", soak(Path(folder), args.runs, args.rows), args.json and str(args.json))


if __name__ == "__main__":
    main()
