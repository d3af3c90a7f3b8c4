"""Sampling when memory holds a quarter of the data: a child in a control group, against bare random reads there."""

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import numpy as np

from cloud.store.replay import Replay, ReplayConfig
from scripts.benchmarks.store_rows import BATCH, SCHEMA, filled_log
from user_rl.log import LogConfig, Reader

ROWS, BATCHES, ROUNDS = 16_000, 30, 7
WARM_UP = 60  # batches, until the places of most chunks are known
CGROUP = Path("/sys/fs/cgroup")
V1 = CGROUP / "memory"  # else one tree for all controllers


def cold_ratio(root: Path) -> dict[str, float]:
    """Rows/s of the store over those of `pread` at random places into a batch's buffer, each byte of which is read.

    Nothing where control groups are not ours to make.
    """
    group = (V1 if V1.exists() else CGROUP) / f"bench-store-{os.getpid()}"
    try:
        group.mkdir()
    except OSError as error:
        print(f"sample_cold_ratio: left out, {group}: {error.strerror}; run it as root", flush=True)
        return {}
    try:
        return _in_group(group, root)
    finally:
        group.rmdir()


def _in_group(group: Path, root: Path) -> dict[str, float]:
    rows = filled_log(root / "cold", ROWS, LogConfig())
    (root / "flat").write_bytes(rows.tobytes())
    size = rows.nbytes
    del rows
    _forget(root)
    limit = "memory.limit_in_bytes" if V1.exists() else "memory.max"
    (group / limit).write_text(str(size // 4))
    argv = [sys.executable, "-m", "scripts.benchmarks.store_cold", str(root), str(group)]
    done = subprocess.run(argv, stdout=subprocess.PIPE, check=True, text=True)
    return dict(json.loads(done.stdout))


def _forget(root: Path) -> None:
    """Puts the files out of memory: pages that another group's process has written count there, whatever our limit."""
    os.sync()
    for path in (root / "flat", *(root / "cold").rglob("*.mdb")):
        with path.open("rb") as file:
            os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


def _measure(root: Path) -> dict[str, float]:
    rng, ratios = np.random.default_rng(1), list[float]()
    batch = np.zeros((BATCH, 2 * SCHEMA.row_bytes), np.uint8)
    file = os.open(root / "flat", os.O_RDONLY)
    with Reader(root / "cold") as reader:
        replay = Replay(reader, ReplayConfig(capacity_rows=2 * ROWS, cache_rows=0), SCHEMA, seed=0)
        replay.catch_up()
        for number in range(WARM_UP):
            replay.sample(number, BATCH)
        for turn in range(ROUNDS):
            start_s = time.perf_counter()
            for _ in range(BATCHES):
                for place, row in enumerate(rng.integers(ROWS - 1, size=BATCH).tolist()):
                    os.preadv(file, [batch[place]], row * SCHEMA.row_bytes)
                batch.max()
            between_s = time.perf_counter()
            for number in range(BATCHES):
                found = replay.sample(WARM_UP + turn * BATCHES + number, BATCH)
                for pictures in (found.observation, found.next_observation):
                    for array in pictures.values():
                        array.max()
            ratios.append((between_s - start_s) / (time.perf_counter() - between_s))
        replay.close()
    return {"sample_cold_ratio": float(np.median(ratios))}


if __name__ == "__main__":
    (Path(sys.argv[2]) / "cgroup.procs").write_text(str(os.getpid()))
    print(json.dumps(_measure(Path(sys.argv[1]))))
