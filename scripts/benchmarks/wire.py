"""wire: the durable uplink's MB/s over the smaller of a bare CURVE socket's and a bare synced LMDB's.

At steps of 100 and 300 kB, the spool filled beforehand. The system is the edge's real uplink in one process and the
real gateway in another: spool -> CURVE -> checks -> log, fsync -> ack, from the first acknowledgement on to the last.
The three are interleaved and every figure is the median of the repeats.
"""

import argparse
import multiprocessing
import os
import shutil
import statistics
import tempfile
import threading
import time
from contextlib import closing
from multiprocessing.connection import Connection as Pipe
from pathlib import Path

import lmdb
import numpy as np
import zmq

from cloud.authority import Authority
from cloud.gateway import Gateway, GatewayConfig
from edge.config import LinkConfig
from edge.connection import Connection
from edge.uplink import Uplink
from scripts.benchmarks.link_ingest import thread_seconds
from scripts.benchmarks.machine import record
from user_rl.clock import SystemClock
from user_rl.log import Log
from user_rl.rows import make_schema
from user_rl.specs import Image, box

SIZES = {"100kB": 100_000, "300kB": 300_000}
TOTAL_BYTES = 400_000_000
REPEATS = 5
LMDB_GROUP = 32  # values in one transaction of the bare LMDB


def bare_curve(size: int) -> float:
    """MB/s of DEALER -> ROUTER, CURVE, two processes, messages of `size` bytes."""
    count = TOTAL_BYTES // size
    server, client = zmq.curve_keypair(), zmq.curve_keypair()
    context = zmq.Context()
    router = context.socket(zmq.ROUTER)
    router.curve_server, (router.curve_publickey, router.curve_secretkey) = True, server
    port = router.bind_to_random_port("tcp://127.0.0.1")
    child = multiprocessing.get_context("spawn").Process(target=_send, args=(port, size, count, server[0], client))
    child.start()
    router.recv_multipart()
    start_s = time.perf_counter()
    for _ in range(count):
        router.recv_multipart(copy=False)
    took_s = time.perf_counter() - start_s
    child.join()
    context.destroy(linger=0)
    return count * size / took_s / 1e6


def _send(port: int, size: int, count: int, server_public: bytes, keys: tuple[bytes, bytes]) -> None:
    context = zmq.Context()
    dealer = context.socket(zmq.DEALER)
    dealer.curve_serverkey, (dealer.curve_publickey, dealer.curve_secretkey) = server_public, keys
    dealer.connect(f"tcp://127.0.0.1:{port}")
    payload = np.random.default_rng(0).bytes(size)
    for _ in range(count + 1):
        dealer.send(payload, copy=False)
    context.destroy(linger=60_000)


def bare_lmdb(size: int) -> float:
    """MB/s of synced LMDB transactions of 32 values of `size` bytes."""
    values = [np.random.default_rng(i).bytes(size) for i in range(LMDB_GROUP)]
    folder = tempfile.mkdtemp(prefix="bench-wire-")
    with lmdb.open(folder, map_size=2 * TOTAL_BYTES) as env:
        start_s = time.perf_counter()
        for group in range(TOTAL_BYTES // size // LMDB_GROUP):
            with env.begin(write=True) as transaction:
                for i, value in enumerate(values):
                    transaction.put((group * LMDB_GROUP + i).to_bytes(8, "big"), value, append=True)
        took_s = time.perf_counter() - start_s
    shutil.rmtree(folder)
    return TOTAL_BYTES // size // LMDB_GROUP * LMDB_GROUP * size / took_s / 1e6


class System:
    """A filled spool, and a gateway in a process of its own, anew for every measurement."""

    def __init__(self, size: int) -> None:
        self._root = Path(tempfile.mkdtemp(prefix="bench-wire-"))
        authority = Authority(self._root / "authority")
        self._bundle = authority.mint("bench", kind="edge", fleet_address="nowhere:0")
        self._rows = TOTAL_BYTES // size
        self._bytes = self._fill(size)
        self.shares: dict[str, float] = {}  # of the last rate's time: what each thread was busy, user and system apart

    def rate(self) -> float:
        """MB/s from the first row sent to the last one acknowledged."""
        context = multiprocessing.get_context("spawn")
        here, there = context.Pipe()
        child = context.Process(target=_gateway, args=(self._root, there))
        child.start()
        address = here.recv()
        with closing(Log(self._root / "spool")) as spool:
            uplink, connection = Uplink(spool, LinkConfig(), {}), Connection(self._bundle)
            connection.connect(address, lambda: None)
            before = _threads(child.pid)
            took_s = self._send(uplink, connection)
            self.shares = {name: (s - before.get(name, 0.0)) / took_s for name, s in _threads(child.pid).items()}
            connection.close()
        here.send("stop")
        child.join()
        return self._bytes / took_s / 1e6

    def _send(self, uplink: Uplink, connection: Connection) -> float:
        start_s = None
        while not uplink.done or start_s is None:
            now_s = time.monotonic()
            uplink.serve("run", 1, STREAM, now_s)
            if not connection.pump(uplink, now_s) and connection.socket is not None:
                connection.socket.poll(1)
            if start_s is None and uplink.acknowledged.get(STREAM, -1) >= 0:
                start_s = now_s  # the handshakes are not part of the rate
        return time.monotonic() - start_s

    def close(self) -> None:
        """Removes everything."""
        shutil.rmtree(self._root)

    def _fill(self, size: int) -> int:
        side = round((size / 3) ** 0.5)
        image = Image(name="front", height=side, width=side)
        state = box("state", [("x", "m", -1, 1)])
        schema = make_schema({"observation.state": state, "observation.images.front": image}, state)
        with closing(Log(self._root / "spool")) as spool:
            spool.open_stream(STREAM, schema)
            for first in range(0, self._rows, 50):
                rows = schema.new(min(50, self._rows - first))
                rows["step"], rows["run"], rows["token"] = np.arange(first, first + len(rows)), b"run", 1
                rows["observation.images.front"] = np.random.default_rng(first).integers(0, 256, image.shape, np.uint8)
                spool.append(STREAM, rows)
                spool.commit()
        return self._rows * schema.row_bytes


def _threads(gateway: int | None) -> dict[str, float]:
    """CPU seconds of the threads that have any, of both processes."""
    assert gateway is not None
    named = [("edge", os.getpid()), ("gateway", gateway)]
    return {
        f"{who} {thread} {kind}": seconds
        for who, pid in named
        for thread, both in thread_seconds(pid).items()
        for kind, seconds in zip(("user", "system"), both, strict=True)
        if seconds > 0.05
    }


STREAM = "bench/" + "0" * 32 + "/run"


def _gateway(root: Path, pipe: Pipe) -> None:
    shutil.rmtree(root / "log", ignore_errors=True)
    authority = Authority(root / "authority")
    with closing(Log(root / "log")) as log:
        gateway = Gateway(
            "run", log, root / "weights", GatewayConfig(), keys=authority.server_bundle.curve,
            allowed=authority.allowed, tokens=lambda _cell: 1, demonstrations=0, clock=SystemClock(),
        )  # fmt: skip
        pipe.send(gateway.experience_address)
        threading.Thread(target=lambda: (pipe.recv(), gateway.stop()), daemon=True).start()
        gateway.run()


def measure(repeats: int) -> dict[str, float]:
    """Every figure, from interleaved repeats."""
    figures: dict[str, float] = {}
    for name, size in SIZES.items():
        system = System(size)
        rates = [(bare_curve(size), bare_lmdb(size), system.rate()) for _ in range(repeats)]
        system.close()
        curve, store, uplink = (statistics.median(column) for column in zip(*rates, strict=True))
        figures |= {f"curve_mb_s_{name}": curve, f"lmdb_mb_s_{name}": store, f"uplink_mb_s_{name}": uplink}
        figures[f"uplink_ratio_{name}"] = statistics.median(u / min(c, s) for c, s, u in rates)
        print(f"{name}: curve, lmdb, uplink in MB/s: {[[round(x) for x in row] for row in rates]}")
    return {"uplink_ratio": min(figures[f"uplink_ratio_{name}"] for name in SIZES), **figures}


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json")
    parser.add_argument("--repeats", type=int, default=REPEATS)
    args = parser.parse_args()
    record("wire", measure(args.repeats), args.json)
