"""A run with several shards in one process: real logs, ingests, table and uplink, no socket."""

from pathlib import Path

import numpy as np

from cloud.ingest import GatewayConfig, Ingest
from cloud.shards.keeper import Fenced, Keeper, fence_dead
from cloud.shards.table import ShardTable, shard_opens_at
from cloud.testing import episode_rows, state_schema
from edge.config import LinkConfig
from edge.uplink import Uplink
from user_rl.channels import Received
from user_rl.clock import FakeClock
from user_rl.errors import StorageError
from user_rl.log import Log
from user_rl.rows import Klass
from user_rl.specs import Array
from user_rl.wire import Message, decode, encode

SCHEMA = state_schema()
CELL, RUN = "cell-0", "run"
STREAM = f"{CELL}/b1/{RUN}"


def rows_at(first: int, count: int, *, klass: Klass = Klass.ONLINE, seed: int = 0) -> Array:
    """An episode of `count` rows from step `first`, the same ones for the same arguments."""
    return episode_rows(
        SCHEMA, np.random.default_rng([first, seed]), length=count - 1, first_step=first, number=first, klass=klass
    )


class Edge:
    """One cell: its spool, its uplink, and the shard that it talks to."""

    def __init__(self, root: Path, cell: str = CELL) -> None:
        self.cell, self.stream = cell, f"{cell}/b1/{RUN}"
        self.spool = Log(root / f"spool-{cell}")
        self.spool.open_stream(self.stream, SCHEMA)
        self.uplink = Uplink(self.spool, LinkConfig(), {})
        self.uplink.serve(RUN, 1, self.stream, 0.0)
        self.shard = 0
        self.now_s = 0.0

    def record(self, count: int, klass: Klass = Klass.ONLINE) -> None:
        self.spool.append(self.stream, rows_at(self.spool.synced(self.stream) + 1, count, klass=klass))
        self.spool.commit()


class World:
    """`shards`: the ingests that run. Everything else is on the disk."""

    def __init__(self, root: Path, count: int = 2) -> None:
        self.root = root / RUN
        self.root.mkdir(parents=True)
        self.shards: dict[int, Ingest] = {}
        self.logs: dict[int, Log] = {}
        ShardTable(self.table)
        for number in range(count):
            self.start(number)

    @property
    def table(self) -> Path:
        return self.root / "shards.json"

    def folder(self, shard: int) -> Path:
        return self.root / (f"log-{shard}" if shard else "log")

    def start(self, shard: int) -> None:
        if shard not in self.shards:
            log = self.logs[shard] = Log(self.folder(shard))
            ingest = Ingest(RUN, log, GatewayConfig(), tokens=lambda _: 1, demonstrations=0, clock=FakeClock())
            ingest.opens_at = shard_opens_at(self.table, shard)
            self.shards[shard] = ingest

    def kill(self, shard: int) -> None:
        """What was not committed is gone."""
        if self.shards.pop(shard, None) is not None:
            self.logs.pop(shard).close()

    def fence(self, shard: int, cell: str) -> Fenced | None:
        if shard not in self.shards:
            return fence_dead(self.folder(shard), cell, RUN)
        return self.shards[shard].fence(cell)

    def keeper(self) -> Keeper:
        """A driver that has just come."""
        return Keeper(ShardTable(self.table), self.fence)

    def send(self, edge: Edge, *, commit: bool = True) -> None:
        """The edge says what there is to say to its shard, and hears the answers."""
        ingest = self.shards.get(edge.shard)
        edge.now_s += 1000.0  # whatever waited has waited enough
        while ingest is not None and (out := edge.uplink.next(edge.now_s)) is not None:
            message, payload = out
            edge.uplink.sent(edge.now_s)
            frames = encode(message) if payload is None else encode(message, payload)
            received = Received(edge.cell.encode(), f"edge:{edge.cell}", [memoryview(frame) for frame in frames])
            answers = ingest.receive(received)
            self._hear(edge, answers + (ingest.commit() if commit else []))

    def follow(self, edge: Edge) -> None:
        """The edge hears from the fleet where its shard is."""
        home = ShardTable(self.table).now.home(edge.cell).shard
        if home != edge.shard:
            edge.shard = home
            edge.uplink.reconnected(edge.now_s)

    def _hear(self, edge: Edge, answers: list[tuple[bytes, Message]]) -> None:
        for peer, answer in answers:
            if peer == edge.cell.encode():
                message = decode([memoryview(frame) for frame in encode(answer)])[0]
                edge.uplink.receive(message, None, edge.now_s)

    def close(self) -> None:
        for shard in list(self.shards):
            self.kill(shard)


class Crash(StorageError):
    """The driver dies here."""
