"""link_ingest: simulated edges of real link code against one gateway; `link` runs it.

Each edge has keys, a connection, a spool and an uplink of its own, and records 10 rows a second with two JPEG pictures
of about 5 kB, coded beforehand. Rows gather before they are spooled for as long as the gateway says, as in the daemon;
their age counts from their capture. The spools lie in memory where there is a tmpfs: every edge has a disk of its own,
this machine has one. The gateway's log lies on the disk.
"""

import multiprocessing
import resource
import shutil
import tempfile
import threading
import time
from collections import deque
from contextlib import closing
from dataclasses import dataclass
from multiprocessing.connection import Connection as Pipe
from pathlib import Path

import numpy as np
import zmq

from cloud.authority import Authority
from cloud.gateway import Gateway, GatewayConfig
from edge.config import LinkConfig
from edge.connection import Connection
from edge.uplink import Uplink
from user_rl.clock import SystemClock
from user_rl.log import Log, LogConfig, Reader
from user_rl.log.codec import make_codec
from user_rl.log.coded import Coded, packed
from user_rl.rows import Schema, make_schema
from user_rl.specs import Array, Image, box
from user_rl.trust import Bundle

RATE_HZ = 10.0
LATE_S = 1.0
MOST_GATHERED, TRIM_EVERY = 10, 50  # rows
PICTURE_BYTES = 5000
SETTLE_S, DRAIN_S = 5.0, 15.0
CAMERAS = ("observation.images.front", "observation.images.wrist")
SPAWN = multiprocessing.get_context("spawn")


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """What became of so many edges."""

    edges: int
    rows: int
    missing: int  # rows made that the log has not, or has twice
    late: int  # rows acknowledged later than LATE_S after their capture
    worst_s: float
    grown_mb: float  # of the gateway's own memory, from the first quarter to the end
    gateway_cpu: float  # cores
    edges_cpu: float  # cores that all edges took, with their start

    @property
    def held(self) -> bool:
        return self.missing == 0 and self.late == 0 and self.grown_mb < 32 + self.edges / 16


def the_schema() -> Schema:
    """Two cameras of 128 x 128 and a state."""
    state = box("observation.state", [(f"s{i}", "", -10.0, 10.0) for i in range(14)])
    images = {name: Image(name=name, height=128, width=128) for name in CAMERAS}
    return make_schema({state.name: state, **images}, box("action", [(f"a{i}", "", -1.0, 1.0) for i in range(7)]))


def picture(seed: int) -> tuple[Array, str]:
    """A picture, and the codec that makes about PICTURE_BYTES of it."""
    rng = np.random.default_rng(seed)
    coarse = rng.integers(0, 256, (16, 16, 3)).repeat(8, 0).repeat(8, 1)
    made = np.clip(coarse + rng.normal(0, 12, (128, 128, 3)), 0, 255).astype(np.uint8)
    sizes = {q: len(make_codec("p", f"jpeg:{q}", "|u1", made.shape).encode(made.reshape(-1))) for q in range(10, 96, 5)}
    return made, f"jpeg:{min(sizes, key=lambda q: abs(sizes[q] - PICTURE_BYTES))}"


def template(schema: Schema, count: int) -> bytes:
    """So many coded rows in one chunk, to be stamped."""
    row, (made, codec) = schema.new(count), picture(1)
    for name in CAMERAS:
        row[name] = made
    row["run"], row["token"], row["task"] = b"run", 1, b"bench"
    stored = packed(row, dict.fromkeys(CAMERAS, codec))
    assert stored is not None
    return stored


class Chunk:
    """The coded rows of one template."""

    def __init__(self, stored: bytes, count: int, schema: Schema) -> None:
        self._stored, self.count = bytearray(stored), count
        self._plain = Coded(memoryview(self._stored), count, schema.dtype).plain

    def stamped(self, first: int) -> bytes:
        """With the numbers from `first` on."""
        self._plain["step"] = self._plain["frame_index"] = np.arange(first, first + self.count)
        return bytes(self._stored)


class Edge:
    """One of them."""

    def __init__(self, bundle: Bundle, address: str, root: Path, schema: Schema, chunks: list[Chunk]) -> None:
        self.stream = f"{bundle.name}/{'0' * 32}/run"
        self.spool = Log(root / bundle.name, LogConfig(segment_bytes=2**20, max_bytes=2**23))
        self.spool.open_stream(self.stream, schema)
        self.uplink, self.connection = Uplink(self.spool, LinkConfig(), {}), Connection(bundle)
        self.connection.connect(address, lambda: None)
        self._chunks = chunks
        self.due_s, self.made, self.spooled, self.worst_s, self.late = 0.0, 0, 0, 0.0, 0
        self.waiting: deque[tuple[int, float]] = deque()  # step, capture

    @property
    def ready_s(self) -> float:
        """When it has something to do: another row is due, or those that were gathered are."""
        return self.due_s if self.made == self.spooled else min(self.due_s, self._ripe_s)

    def record(self, now_s: float, *, last: bool = False) -> None:
        """What is due by now is captured; what has gathered long enough goes into the spool, committed."""
        while self.due_s <= now_s and not last:
            self.waiting.append((self.made, self.due_s))
            self.made += 1
            self.due_s += 1.0 / RATE_HZ
        gathered = self.made - self.spooled
        if not gathered or (now_s < self._ripe_s and gathered < len(self._chunks) and not last):
            return
        self.spool.append_coded(self.stream, self._chunks[gathered - 1].stamped(self.spooled), gathered)
        self.spool.commit()
        self.spooled = self.made
        if self.made % TRIM_EVERY < gathered:
            self.spool.trim(self.uplink.acknowledged)

    @property
    def _ripe_s(self) -> float:
        """When the oldest row that is not spooled has been gathered long enough."""
        oldest_s = self.due_s - (self.made - self.spooled) / RATE_HZ
        return oldest_s + self.uplink.gather_s

    def pump(self, now_s: float) -> None:
        """Says and hears what there is."""
        self.uplink.serve("run", 1, self.stream, now_s)
        self.connection.pump(self.uplink, now_s)
        cursor = self.uplink.acknowledged.get(self.stream, -1)
        while self.waiting and self.waiting[0][0] <= cursor:
            age_s = time.monotonic() - self.waiting.popleft()[1]
            self.worst_s, self.late = max(self.worst_s, age_s), self.late + (age_s > LATE_S)

    def close(self) -> None:
        self.connection.close()
        self.spool.close()


def generate(bundles: list[Bundle], address: str, root: Path, seconds: float, pipe: Pipe) -> None:
    """A process with some edges: connects, waits for the word, records for so long, drains, tells."""
    raise_limits()
    schema = the_schema()
    chunks = [Chunk(template(schema, count), count, schema) for count in range(1, MOST_GATHERED + 1)]
    edges = [Edge(bundle, address, root, schema, chunks) for bundle in bundles]
    poller = zmq.Poller()
    by_socket = {edge.connection.socket: edge for edge in edges}
    for socket in by_socket:
        poller.register(socket, zmq.POLLIN)
    while any(edge.stream not in edge.uplink.acknowledged for edge in edges):
        for edge in edges:
            edge.pump(time.monotonic())
        time.sleep(0.01)
    pipe.send("there")
    start_s = float(pipe.recv())
    for i, edge in enumerate(edges):
        edge.due_s = start_s + i / len(edges) / RATE_HZ
    end_s = start_s + seconds
    while (now_s := time.monotonic()) < end_s + DRAIN_S and (now_s < end_s or any(e.waiting for e in edges)):
        over = now_s >= end_s
        due = [e for e in edges if (e.ready_s <= now_s and not over) or (over and e.made > e.spooled)]
        for edge in due:
            edge.record(now_s, last=over)
            edge.pump(now_s)
        for socket, _ in poller.poll(0 if due else 2):
            by_socket[socket].pump(now_s)
    pipe.send([(e.made, e.late + len(e.waiting), e.worst_s) for e in edges])
    for edge in edges:
        edge.close()


def serve(root: Path, pipe: Pipe) -> None:
    """The gateway's process."""
    raise_limits()
    authority = Authority(root / "authority")
    with closing(Log(root / "log")) as log:
        gateway = Gateway(
            "run", log, root / "weights", GatewayConfig(), keys=authority.server_bundle.curve,
            allowed=authority.allowed, tokens=lambda _cell: 1, demonstrations=0, clock=SystemClock(),
        )  # fmt: skip
        pipe.send(gateway.experience_address)
        threading.Thread(target=lambda: (pipe.recv(), gateway.stop()), daemon=True).start()
        gateway.run()


def raise_limits() -> None:
    """As many files as this user may have."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


def trial(count: int, seconds: float, per_process: int = 64) -> Outcome:
    """`count` edges for so long."""
    root = Path(tempfile.mkdtemp(prefix="bench-ingest-"))
    memory = Path(tempfile.mkdtemp(prefix="bench-ingest-", dir="/dev/shm" if Path("/dev/shm").is_dir() else None))
    try:
        return _trial(root, memory, count, seconds, per_process)
    finally:
        shutil.rmtree(root)
        shutil.rmtree(memory)


def _trial(root: Path, memory: Path, count: int, seconds: float, per_process: int) -> Outcome:
    authority = Authority(root / "authority")
    bundles = [authority.mint(f"edge-{i}", kind="edge", fleet_address="nowhere:0") for i in range(count)]
    here, there = SPAWN.Pipe()
    gateway = SPAWN.Process(target=serve, args=(root, there))
    gateway.start()
    address, pipes, children = here.recv(), [], []
    for first in range(0, count, per_process):
        mine, its = SPAWN.Pipe()
        part = bundles[first : first + per_process]
        children.append(SPAWN.Process(target=generate, args=(part, address, memory, seconds, its)))
        children[-1].start()
        pipes.append(mine)
    for pipe in pipes:
        pipe.recv()
    start_s = time.monotonic() + SETTLE_S / 5
    for pipe in pipes:
        pipe.send(start_s)
    assert gateway.pid is not None
    time.sleep(max(0.0, start_s + seconds / 4 - time.monotonic()))
    before_mb, before_s = own_mb(gateway.pid), cpu_s(gateway.pid)
    time.sleep(max(0.0, start_s + seconds - time.monotonic()))
    grown_mb, cpu = own_mb(gateway.pid) - before_mb, (cpu_s(gateway.pid) - before_s) / (0.75 * seconds)
    told = [edge for pipe in pipes for edge in pipe.recv()]
    spent_s = children_s()
    for child in children:
        child.join()
    spent_s = children_s() - spent_s
    here.send("stop")
    gateway.join()
    made = sum(rows for rows, _, _ in told)
    return Outcome(
        edges=count, rows=made, missing=abs(made - rows_in(root / "log")), late=sum(late for _, late, _ in told),
        worst_s=max(worst for _, _, worst in told), grown_mb=grown_mb, gateway_cpu=cpu, edges_cpu=spent_s / seconds,
    )  # fmt: skip


def rows_in(path: Path) -> int:
    """Every row that stands in a log."""
    with Reader(path) as reader:
        return sum(span.rows for spans in reader.spans().values() for span in spans.values())


def own_mb(pid: int) -> float:
    """Memory of a process without the files that it maps."""
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return int(next(line.split()[1] for line in lines if line.startswith("RssAnon"))) / 1024


def children_s() -> float:
    """CPU seconds of the processes that were started here and have ended."""
    spent = resource.getrusage(resource.RUSAGE_CHILDREN)
    return spent.ru_utime + spent.ru_stime


def cpu_s(pid: int) -> float:
    """CPU seconds of all threads of a process."""
    return sum(sum(seconds) for seconds in thread_seconds(pid).values())


def thread_seconds(pid: int) -> dict[str, tuple[float, float]]:
    """(user, system) CPU seconds of a process by its threads' names; threads of one name together."""
    found: dict[str, tuple[float, float]] = {}
    for task in Path(f"/proc/{pid}/task").iterdir():
        name, _, rest = (task / "stat").read_text().partition("(")[2].rpartition(")")
        user, system = (int(ticks) / 100 for ticks in rest.split()[11:13])
        before = found.get(name, (0.0, 0.0))
        found[name] = (before[0] + user, before[1] + system)
    return found
