"""store: the experience store against RAM arrays, bare LMDB and bare reads; with --peers other libraries' buffers too.

Rows of two 128x128x3 cameras, 20 numbers and a 7-d action; batches of 256 with their next observations, each byte of
which is read. The yardstick is `np.take` of the same shapes from RAM arrays into reused output arrays, in the same
process, in turns. A ratio is a median of seven rounds of at least 30 batches; 1.0 is as fast as memory.
"""

import argparse
import dataclasses
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch

from cloud.store.replay import Replay, ReplayConfig
from scripts.benchmarks.machine import record
from scripts.benchmarks.store_cold import cold_ratio
from scripts.benchmarks.store_disk import disk_ratio, insert_ratio
from scripts.benchmarks.store_peers import installed
from scripts.benchmarks.store_rows import BATCH, SCHEMA, filled_log, small_log
from user_rl.log import LogConfig, Reader
from user_rl.specs import Array

ROWS, ROUNDS, BATCHES = 4000, 7, 30
JPEG = LogConfig(codecs={"observation.images.*": "jpeg:90"})
CONFIG = ReplayConfig(capacity_rows=2 * ROWS)


class Yardstick:
    """The same rows as arrays in memory, taken into arrays that are made once."""

    def __init__(self, rows: Array) -> None:
        names = [*SCHEMA.observation, "action", "next.reward", "next.done"]
        self._columns = {name: np.ascontiguousarray(rows[name]) for name in names}
        self._steps = np.flatnonzero(rows["kind"] == 0)
        self._out = {n: np.empty((BATCH, *c.shape[1:]), c.dtype) for n, c in self._columns.items()}
        self._after = {n: np.empty_like(self._out[n]) for n in SCHEMA.observation}
        self._rng = np.random.default_rng(0)

    def batch(self, _: int) -> list[Array]:
        here = self._steps[self._rng.integers(len(self._steps), size=BATCH)]
        for name, column in self._columns.items():
            np.take(column, here, axis=0, out=self._out[name], mode="clip")
            if name in self._after:
                np.take(column, here + 1, axis=0, out=self._after[name], mode="clip")
        return [*self._out.values(), *self._after.values()]


class Store:
    """The replay on a log, as a learner uses it."""

    def __init__(self, path: Path, config: ReplayConfig) -> None:
        self.reader = Reader(path)
        self.replay = Replay(self.reader, config, SCHEMA, seed=0)
        self.replay.catch_up()
        self._number = 0

    def batch(self, _: int) -> list[Array]:
        found = self.replay.sample(self._number, BATCH)
        self._number += 1
        return [*found.observation.values(), found.action, found.reward, found.done, *found.next_observation.values()]

    def close(self) -> None:
        self.replay.close()
        self.reader.close()


def read(arrays: list[Array]) -> None:
    """What a consumer does at least: every byte."""
    for array in arrays:
        array.max()


def seconds(batch: Callable[[int], list[Array]], count: int) -> float:
    """Of one batch, drawn and read."""
    start_s = time.perf_counter()
    for n in range(count):
        read(batch(n))
    return (time.perf_counter() - start_s) / count


Draw = Callable[[int], list[Array]]


def sample_ratio(name: str, yardstick: Yardstick, draw: Draw, warm_up: int) -> dict[str, float]:
    """How fast the store is against the yardstick, and what it costs in CPU time against it."""
    seconds(draw, warm_up)
    rounds, cpu = [], []
    for _ in range(ROUNDS):
        clock = time.process_time()
        bare = seconds(yardstick.batch, BATCHES)
        between = time.process_time()
        ours = seconds(draw, BATCHES)
        cpu.append((time.process_time() - between) / max(1e-9, between - clock))
        rounds.append((bare, ours))
    ratio = statistics.median(bare / ours for bare, ours in rounds)
    ours_ms = 1e3 * statistics.median(ours for _, ours in rounds)
    print(f"{name}: {ratio:.2f} ({ours_ms:.1f} ms a batch, {statistics.median(cpu):.2f} of the CPU time)", flush=True)
    return {f"{name}_ratio": ratio, f"{name}_ms": ours_ms, f"{name}_cpu_ratio": statistics.median(cpu)}


def wait_share(store: Store) -> float:
    """The share of a loop of 50 ms updates that waits for its batch."""
    torch.set_num_threads(1)  # as the learner does
    waited_s, start_s, work = 0.0, time.perf_counter(), torch.ones((256, 256))
    for n in range(100):
        before_s = time.perf_counter()
        read(store.batch(n)[:1])
        waited_s += time.perf_counter() - before_s
        until_s = time.perf_counter() + 0.05
        while time.perf_counter() < until_s:
            torch.mm(work, work)
    return waited_s / (time.perf_counter() - start_s)


def open_seconds(path: Path, rows: int) -> float:
    """From nothing to the first batch of a log with a million small rows."""
    reader, schema = small_log(path, rows)
    found = []
    for _ in range(3):
        start_s = time.perf_counter()
        with Reader(reader) as log:
            replay = Replay(log, ReplayConfig(capacity_rows=2 * rows, cache_rows=10_000), schema, seed=0)
            replay.catch_up()
            replay.sample(0, BATCH)
            found.append(time.perf_counter() - start_s)
            replay.close()
    return statistics.median(found)


def pause_ms(path: Path) -> float:
    """What a checkpoint makes the learner wait for, of the store's: with a priority for each of 100 k rows."""
    with Reader(path) as log:
        schema = next(iter(log.streams().values()))
        config = ReplayConfig(capacity_rows=2_000_000, cache_rows=1000, sampler={"name": "prioritised"})
        replay = Replay(log, config, schema, seed=0)
        replay.intake.advance(100_000 // 32)
        for number in range(10):
            batch = replay.sample(number, BATCH)
            replay.learned(number, np.abs(batch.reward) + 1)
        start_s = time.perf_counter()
        replay.state_dict(10)
        took_s = time.perf_counter() - start_s
        replay.close()
    return 1e3 * took_s


def measure(root: Path, *, peers: bool) -> dict[str, float]:
    """Every figure."""
    rows = filled_log(root / "raw", ROWS, LogConfig())
    filled_log(root / "jpeg", ROWS, JPEG)
    yardstick, figures = Yardstick(rows), dict[str, float]()
    cases: list[tuple[str, str, float, dict[str, Any]]] = [
        ("sample_ram", "raw", 1.0, {}), ("sample_cache10_raw", "raw", 0.1, {}), ("sample_cache10_jpeg", "jpeg", 0.1, {})
    ]  # fmt: skip
    for name, log, share, more in cases:
        config = dataclasses.replace(CONFIG, cache_rows=int(share * ROWS * 1.02), **more)
        store = Store(root / log, config)
        figures |= sample_ratio(name, yardstick, store.batch, warm_up=60 if share == 1.0 else 10)
        if name == "sample_cache10_raw":
            figures["learner_wait_share"] = wait_share(store)
        store.close()
    if peers:
        for name, make in installed().items():
            figures |= sample_ratio(f"peer_{name}", yardstick, make(rows), warm_up=10)
    figures |= insert_ratio(root, rows) | disk_ratio(root / "turned", rows)
    figures["open_1m_s"] = open_seconds(root / "million", 1_000_000)
    figures["snapshot_pause_ms"] = pause_ms(root / "million")
    return figures | cold_ratio(root)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json")
    parser.add_argument("--peers", action="store_true", help="also run the peers that are installed")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="bench-store-") as folder:
        record("store", measure(Path(folder), peers=args.peers), args.json)
