"""shards: bytes that cross each link for a row, while a shard is killed and comes back; rows lost and doubled.

Three network namespaces, joined by veth pairs: the robots', and one for each of two shards, which are also joined with
each other. The edges' uplinks and spools, the gateways, their logs, the table and its moves are the real ones; the
driver asks a gateway for its cursors over a pipe, as it asks a Ray actor. Bytes are those of /sys/class/net, headers
and all. Needs root and iproute2.
"""

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from contextlib import ExitStack, closing
from pathlib import Path

import numpy as np

from cloud.authority import Authority
from cloud.gateway import Gateway, GatewayConfig
from cloud.run import RunFolder
from cloud.shards.assign import Load
from cloud.shards.keeper import Fenced, Keeper, fence_dead
from cloud.shards.reader import open_log, open_source
from cloud.shards.table import ShardTable, shard_opens_at
from edge.config import LinkConfig
from edge.connection import Connection
from edge.uplink import Uplink
from scripts.benchmarks.machine import record
from user_rl.clock import SystemClock
from user_rl.fleet import Doors
from user_rl.log import Log, Reader, compare
from user_rl.log.compare import NOTHING
from user_rl.rows import Schema, make_schema
from user_rl.specs import Image, box

RUN, CELLS, SIDE = "run", 4, 80
ROWS = 600  # of each cell in each of the three parts
PATIENCE_S = 120.0
PORT = 7700


def schema() -> Schema:
    """Rows of about 20 kB."""
    state = box("state", [("x", "m", -1, 1)])
    image = Image(name="front", height=SIDE, width=SIDE)
    return make_schema({"observation.state": state, "observation.images.front": image}, state)


class Shard:
    """A gateway in a process, and a namespace, of its own, and what it is asked."""

    def __init__(self, number: int, root: Path, names: list[str]) -> None:
        self.number, self.address = number, f"tcp://10.77.{number}.2:{PORT}"
        inside = ["ip", "netns", "exec", names[1 + number], sys.executable, "-m", "scripts.benchmarks.shards"]
        self._process = subprocess.Popen(
            [*inside, "--shard", str(number), "--root", str(root)], stdin=subprocess.PIPE, stdout=subprocess.PIPE,
            text=True,
        )  # fmt: skip
        self.ask("ready")

    def ask(self, *words: str) -> list[object]:
        """One answer of the process."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(json.dumps(words) + "\n")
        self._process.stdin.flush()
        answer: list[object] = json.loads(self._process.stdout.readline())
        return answer

    def fence(self, cell: str) -> Fenced:
        """See Gateway.fence."""
        cursors, seq = self.ask("fence", cell)
        return cursors, seq  # type: ignore[return-value]  # as Gateway.fence gave them

    def kill(self) -> None:
        """At once, as a power cut does it."""
        self._process.kill()
        self._process.wait()


def serve(number: int, root: Path) -> None:
    """The process of a shard: answers the lines of its standard input until it ends."""
    folder, authority = RunFolder(root / RUN), Authority(root / "authority")
    with closing(Log(folder.log_of(number))) as log:
        config = GatewayConfig(host=f"10.77.{number}.2", port=PORT)
        gateway = Gateway(
            RUN, log, folder.weights, config, keys=authority.server_bundle.curve, allowed=authority.allowed,
            tokens=lambda _: 1, demonstrations=0, clock=SystemClock(),
        )  # fmt: skip
        gateway.be_shard(shard_opens_at(folder.shards, number), takes_labels=not number)
        thread = threading.Thread(target=gateway.run)
        thread.start()
        for line in sys.stdin:
            word, *rest = json.loads(line)
            answer = (
                gateway.fence(rest[0]) if word == "fence" else [crossed("between", "tx") + crossed("between", "rx")]
            )
            print(json.dumps(answer), flush=True)  # the answer
        gateway.stop()
        thread.join()


class Edge:
    """One cell's spool and uplink."""

    def __init__(self, root: Path, cell: str, authority: Authority) -> None:
        self.cell, self.stream = cell, f"{cell}/{'0' * 32}/{RUN}"
        self.spool = Log(root / "edges" / cell / "spool")
        self.spool.open_stream(self.stream, schema())
        self.uplink = Uplink(self.spool, LinkConfig(), {})
        self.connection = Connection(authority.mint(cell, kind="edge", fleet_address="10.77.0.1:1"))

    def record(self, count: int) -> None:
        """Puts rows into the spool."""
        rng = np.random.default_rng(self.spool.synced(self.stream) + 1)
        for _ in range(0, count, 50):
            rows, first = schema().new(50), self.spool.synced(self.stream) + 1
            rows["step"], rows["run"], rows["token"] = np.arange(first, first + 50), RUN.encode(), 1
            rows["observation.images.front"] = rng.integers(0, 256, (50, SIDE, SIDE, 3), np.uint8)
            self.spool.append(self.stream, rows)
            self.spool.commit()

    def turn(self, address: str) -> bool:
        """One round, as in edge.link."""
        now_s = time.monotonic()
        self.uplink.serve(RUN, 1, self.stream, now_s)
        self.connection.connect(address, lambda: self.uplink.reconnected(now_s))
        return self.connection.pump(self.uplink, now_s)

    def close(self) -> None:
        self.connection.close()
        self.spool.close()


class Bench:
    """The driver, the edges and the shards."""

    def __init__(self, root: Path, names: list[str]) -> None:
        self._root, self._names, self._folder = root, names, RunFolder(root / RUN)
        authority = Authority(root / "authority")
        self.edges = [Edge(root, f"cell-{i}", authority) for i in range(CELLS)]
        self._table = ShardTable(self._folder.shards)
        self.keeper = Keeper(self._table, self._fence)
        self.shards: dict[int, Shard] = {}
        self.start(0)
        self.start(1)

    def start(self, number: int) -> None:
        """A shard comes, for the first time or again."""
        self.shards[number] = Shard(number, self._root, self._names)

    def kill(self, number: int) -> None:
        """A shard dies."""
        self.shards.pop(number).kill()

    def turn_until(self, done: Callable[[], bool]) -> None:
        """Edges and driver go round until then."""
        until_s = time.monotonic() + PATIENCE_S
        cells = {edge.cell: Load() for edge in self.edges}
        while not done():
            self.keeper.tick(cells, dict.fromkeys(self.shards, ""))
            doors = self.keeper.doors({n: Doors(experience=s.address) for n, s in self.shards.items()})
            busy = [
                edge.turn(doors[edge.cell].experience if edge.cell in doors else self._first) for edge in self.edges
            ]
            if not any(busy):
                time.sleep(0.001)
            if time.monotonic() > until_s:
                raise TimeoutError(f"not done within {PATIENCE_S:.0f} s: {self.keeper.trouble or self.acknowledged}")

    @property
    def all_there(self) -> bool:
        """Whether the cloud has acknowledged every row."""
        return all(
            edge.uplink.acknowledged.get(edge.stream, -1) >= edge.spool.synced(edge.stream) for edge in self.edges
        )

    @property
    def acknowledged(self) -> int:
        """Rows, of all cells."""
        return sum(edge.uplink.acknowledged.get(edge.stream, -1) + 1 for edge in self.edges)

    def part(self) -> tuple[list[int], float]:
        """Every cell records and sends; the bytes that went to each shard, the seconds."""
        before, start_s = [crossed(f"to{n}", "tx") for n in (0, 1)], time.monotonic()
        for edge in self.edges:
            edge.record(ROWS)
        self.turn_until(lambda: self.all_there)
        return [crossed(f"to{n}", "tx") - before[n] for n in (0, 1)], time.monotonic() - start_s

    def home(self, shard: int) -> int:
        """How many cells are at home there."""
        return sum(self._table.now.home(edge.cell).shard == shard for edge in self.edges)

    def _fence(self, shard: int, cell: str) -> Fenced | None:
        if shard in self.shards:
            return self.shards[shard].fence(cell)
        return fence_dead(self._folder.log_of(shard), cell, RUN)

    @property
    def _first(self) -> str:
        return self.shards[0].address

    def compared(self) -> dict[str, float]:
        """Both sides' logs, row by row, and the learner's order."""
        for edge in self.edges:
            edge.close()
        total, folder = NOTHING, self._folder
        with open_log(folder) as cloud:
            for edge in self.edges:
                with Reader(self._root / "edges" / edge.cell / "spool") as spool:
                    total += compare(spool, cloud, RUN)
        with closing(open_source(folder)) as source:
            learned = sum(ref.count for ref in source.refs(0, 10**6))
        return {
            "rows": total.rows, "rows_lost": total.rows_lost, "rows_duplicated": total.rows_duplicated,
            "rows_differing": total.rows_differing, "rows_learned_from": learned, "moves": self.keeper.moved,
        }  # fmt: skip


def measure(root: Path, names: list[str]) -> dict[str, float]:
    """Three parts: both shards live; one is killed in the middle; it has come back."""
    bench, payload = Bench(root, names), CELLS / 2 * ROWS * schema().row_bytes
    bench.turn_until(lambda: bench.home(1) == CELLS / 2)
    sent, took_s = bench.part()
    figures = {"bytes_per_row_ratio": max(sent) / payload, "bytes_per_row_ratio_min": min(sent) / payload}
    figures["mb_per_s"] = 2 * payload / took_s / 1e6
    figures |= {"back_s": dying(bench)}
    bench.start(1)
    bench.turn_until(lambda: bench.home(1) == CELLS / 2)
    sent, _ = bench.part()
    figures["bytes_per_row_ratio_again"] = max(sent) / payload
    figures["bytes_between_shards"] = float(str(bench.shards[0].ask("between")[0]))
    for shard in list(bench.shards):
        bench.kill(shard)
    return figures | bench.compared()


def dying(bench: Bench) -> float:
    """Shard 1 is killed while rows are on their way; seconds until a cell of its has rows acknowledged elsewhere."""
    for edge in bench.edges:
        edge.record(ROWS)
    before = bench.acknowledged
    bench.turn_until(lambda: bench.acknowledged > before + ROWS // 2)
    bench.kill(1)
    start_s, known = time.monotonic(), bench.acknowledged
    bench.turn_until(lambda: bench.home(1) == 0 and bench.acknowledged > known)
    back_s = time.monotonic() - start_s
    bench.turn_until(lambda: bench.all_there)
    return back_s


def crossed(interface: str, way: str) -> int:
    """Bytes that an interface of this namespace has sent (`tx`) or received (`rx`)."""
    return int(Path(f"/sys/class/net/{interface}/statistics/{way}_bytes").read_text())


def ip(*argv: str) -> None:
    """Runs iproute2's `ip`."""
    subprocess.run(["ip", *argv], check=True)


def make_networks(names: list[str], undo: ExitStack) -> None:
    """The namespaces, the robots' first, and the three links between them."""
    for name in names:
        ip("netns", "add", name)
        undo.callback(ip, "netns", "del", name)
        ip("netns", "exec", name, "sysctl", "-qw", "net.ipv6.conf.all.disable_ipv6=1")
    ends = [(0, "to0", 1, "robots", 0), (0, "to1", 2, "robots", 1), (1, "between", 2, "between", 9)]
    for one, here, other, there, net in ends:
        ip("link", "add", here, "netns", names[one], "type", "veth", "peer", "name", there, "netns", names[other])
        for name, interface, host in ((names[one], here, 1), (names[other], there, 2)):
            ip("-n", name, "addr", "add", f"10.77.{net}.{host}/30", "dev", interface)
            ip("-n", name, "link", "set", "dev", interface, "up")


def main() -> None:
    """Measures in namespaces of its own, which are gone afterwards."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--json")
    parser.add_argument("--shard", type=int, help="be this shard (the benchmark starts itself so)")
    parser.add_argument("--root", type=Path)
    parser.add_argument("--inside", nargs=3, metavar="NAMESPACE", help="be the robots' side")
    args = parser.parse_args()
    if args.shard is not None:
        return serve(args.shard, args.root)
    if args.inside:
        return record("shards", measure(args.root, args.inside), args.json)
    names = [f"shx{os.getpid()}-{what}" for what in ("r", "0", "1")]
    root = Path(tempfile.mkdtemp(prefix="shards-bench-"))
    with ExitStack() as undo:
        undo.callback(shutil.rmtree, root)
        make_networks(names, undo)
        argv = ["ip", "netns", "exec", names[0], sys.executable, "-m", "scripts.benchmarks.shards", "--inside", *names]
        subprocess.run([*argv, "--root", str(root), *(["--json", args.json] if args.json else [])], check=True)
    return None


if __name__ == "__main__":
    main()
