"""round_trips: a 1 kB round trip on the live socket while the durable uplink is saturated, over an idle one.

On loopback as it stands here. `scripts.benchmarks.link` calls the same functions over a thin link: a child process is
an edge with a filled spool and its live line; this process asks 1 kB pings of the gateway's live door meanwhile.
"""

import argparse
import multiprocessing
import os
import shutil
import statistics
import sys
import tempfile
import threading
import time
from contextlib import closing
from multiprocessing.connection import Connection as Pipe
from pathlib import Path

import numpy as np

from cloud.authority import Authority
from cloud.gateway import Gateway, GatewayConfig
from edge.config import LinkConfig
from edge.connection import Connection
from edge.live import LiveLine
from edge.live_view import View
from edge.orders import Card
from edge.pace import Pace, chunk_bytes
from edge.shared import Shared, make_shared
from edge.uplink import Uplink
from scripts.benchmarks.machine import record
from user_rl.channels import ClientChannel
from user_rl.clock import SystemClock
from user_rl.log import Log
from user_rl.rows import Schema, make_schema
from user_rl.specs import Image, box
from user_rl.trust import Bundle, load_bundle, save_bundle
from user_rl.wire import Ping, encode

STREAM = "bench/" + "0" * 32 + "/run"
BODY = b"x" * 1024
EVERY_S = 0.01
CONTEXT = multiprocessing.get_context("spawn")


def schema() -> Schema:
    """Rows of about 300 kB."""
    state = box("state", [("x", "m", -1, 1)])
    return make_schema(
        {"observation.state": state, "observation.images.front": Image(name="front", height=316, width=316)}, state
    )


def fill(root: Path, total_bytes: int) -> int:
    """A spool under `root` with so many bytes of rows; returns how many exactly."""
    rows_schema = schema()
    count = total_bytes // rows_schema.row_bytes
    with closing(Log(root / "spool")) as spool:
        spool.open_stream(STREAM, rows_schema)
        for first in range(0, count, 50):
            rows = rows_schema.new(min(50, count - first))
            rows["step"], rows["run"], rows["token"] = np.arange(first, first + len(rows)), b"run", 1
            pixels = rows["observation.images.front"]
            pixels[:] = np.random.default_rng(first).integers(0, 256, pixels.shape, np.uint8)
            spool.append(STREAM, rows)
            spool.commit()
    return count * rows_schema.row_bytes


def serve(root: Path, host: str, pipe: Pipe) -> None:
    """A gateway in this process, until the pipe says stop; tells its two addresses."""
    sys.setswitchinterval(0.0005)  # as the gateway's actor
    authority = Authority(root / "authority")
    with closing(Log(root / "log")) as log:
        gateway = Gateway(
            "run", log, root / "weights", GatewayConfig(host=host), keys=authority.server_bundle.curve,
            allowed=authority.allowed, tokens=lambda _cell: 1, demonstrations=0, clock=SystemClock(),
        )  # fmt: skip
        pipe.send((gateway.experience_address, gateway.live_address))
        threading.Thread(target=lambda: (pipe.recv(), gateway.stop()), daemon=True).start()
        gateway.run()


def upload(root: Path, experience: str, live: str, pipe: Pipe) -> None:
    """An edge's uplink and live line in this process, until the spool is empty; tells when it begins and its MB/s."""
    sys.setswitchinterval(0.0005)  # as link
    bundle, config, clock = load_bundle(root / "bench.json"), LinkConfig(), SystemClock()
    up, down = Pace(config.pace, clock.now_s()), Pace(config.pace, clock.now_s())
    shared = make_shared(os.urandom(16))
    ring = shared.make_ring(Card(schema=schema().encoded, model="bench", rate_hz=10.0, on_silence="stops"), 0)
    line = LiveLine(bundle, View(Shared(shared.fd), ring, "bench"), up, down, config.live_hz)
    line.address = live
    line.start()
    with closing(Log(root / "spool")) as spool, closing(Connection(bundle, up)) as connection:
        uplink = Uplink(spool, config, {})
        connection.connect(experience, lambda: None)
        pipe.send(_pump(uplink, connection, up, pipe))
    line.close()


def _pump(uplink: Uplink, connection: Connection, pace: Pace, pipe: Pipe) -> float:
    begun_s, first = None, 0
    size = schema().row_bytes
    while begun_s is None or not uplink.done:
        now_s = time.monotonic()
        uplink.serve("run", 1, STREAM, now_s)
        uplink.chunk_bytes = chunk_bytes(pace, LinkConfig().chunk_bytes)
        if not connection.pump(uplink, now_s) and connection.socket is not None:
            connection.socket.poll(1)
        acked = uplink.acknowledged.get(STREAM, -1)
        if begun_s is None and acked >= 0:
            begun_s, first = now_s, acked
            pipe.send("begun")
        if pipe.poll():
            break
    return (uplink.acknowledged[STREAM] - first) * size / (time.monotonic() - (begun_s or 0.0))


def pings_s(address: str, bundle: Bundle, *, seconds: float, until: Pipe | None = None) -> list[float]:
    """1 kB round trips for so long, or until the pipe has something."""
    with closing(ClientChannel(address, bundle.curve, bundle.server_curve_public)) as channel:
        if not channel.ready(20.0):
            raise RuntimeError(f"no live door at {address}")
        found, end_s = [], time.monotonic() + seconds
        while time.monotonic() < end_s and not (until is not None and until.poll()):
            start_s = time.monotonic()
            channel.send(encode(Ping(start_s, BODY)))
            if channel.receive(10.0) is None:
                raise RuntimeError(f"no answer from {address} within 10 s")
            found.append(time.monotonic() - start_s)
            time.sleep(max(0.0, EVERY_S - found[-1]))
        return found


def under_load(root: Path, experience: str, live: str, *, seconds: float) -> tuple[list[float], list[float], float]:
    """Idle and loaded round trips in s, and the uplink's bytes/s, over any link to these doors. See `fill`."""
    bundle = load_bundle(root / "bench.json")
    idle = pings_s(live, bundle, seconds=seconds / 2)
    here, there = CONTEXT.Pipe()
    child = CONTEXT.Process(target=upload, args=(root, experience, live, there))
    child.start()
    here.recv()  # "begun"
    time.sleep(1.0 if seconds > 4 else 0.0)  # the pace has found the link
    loaded = pings_s(live, bundle, seconds=seconds, until=here)
    here.send("stop")
    rate = here.recv()
    child.join()
    return idle, loaded, float(rate)


def figures(idle: list[float], loaded: list[float], rate: float) -> dict[str, float]:
    """Medians, tails and what is added, in ms; `uplink_mb_s`."""
    tail = {p: (_at(idle, p), _at(loaded, p)) for p in (0.5, 0.95, 0.99)}
    return {
        "rtt_under_load_ratio": tail[0.5][1] / tail[0.5][0],
        "rtt_added_p95_ms": (tail[0.95][1] - statistics.median(idle)) * 1e3,
        "rtt_added_p99_ms": (tail[0.99][1] - tail[0.99][0]) * 1e3,
        "rtt_idle_ms": tail[0.5][0] * 1e3, "rtt_loaded_ms": tail[0.5][1] * 1e3,
        "rtt_loaded_p99_ms": tail[0.99][1] * 1e3, "uplink_mb_s": rate / 1e6,
    }  # fmt: skip


def rtt_added_wan_ms(root: Path, experience: str, live: str, *, seconds: float = 30.0) -> dict[str, float]:
    """`rtt_added_wan_ms` (p95) and the uplink's rate, over the link to these doors."""
    found = figures(*under_load(root, experience, live, seconds=seconds))
    return {"rtt_added_wan_ms": found["rtt_added_p95_ms"], **found}


def catch_up_ratio(root: Path, experience: str, live: str, *, link_bytes_s: float, seconds: float = 30.0) -> float:
    """Rows that come in from a filled spool, over what the link carries."""
    _, _, rate = under_load(root, experience, live, seconds=seconds)
    return rate / link_bytes_s


def measure(total_bytes: int, seconds: float) -> dict[str, float]:
    """On loopback."""
    root = Path(tempfile.mkdtemp(prefix="bench-round-trips-"))
    try:
        save_bundle(Authority(root / "authority").mint("bench", kind="edge", fleet_address="no:0"), root / "bench.json")
        fill(root, total_bytes)
        here, there = CONTEXT.Pipe()
        gateway = CONTEXT.Process(target=serve, args=(root, "127.0.0.1", there))
        gateway.start()
        experience, live = here.recv()
        found = figures(*under_load(root, experience, live, seconds=seconds))
        here.send("stop")
        gateway.join()
        return found
    finally:
        shutil.rmtree(root)


def _at(values: list[float], share: float) -> float:
    return sorted(values)[int(share * (len(values) - 1))]


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json")
    parser.add_argument("--megabytes", type=int, default=1500)
    parser.add_argument("--seconds", type=float, default=8.0)
    args = parser.parse_args()
    record("round_trips", measure(args.megabytes * 1_000_000, args.seconds), args.json)
