"""What writing costs, against a bare LMDB with the same bytes and commits; and what the disk holds after a turnover."""

import dataclasses
import statistics
import time
from pathlib import Path

import lmdb
import numpy as np

from scripts.benchmarks.store_rows import COMMIT, SCHEMA, STREAM
from user_rl.log import Log, LogConfig
from user_rl.log.retention import RetentionConfig
from user_rl.specs import Array

ROUNDS, COMMITS = 7, 20


def insert_ratio(root: Path, rows: Array) -> dict[str, float]:
    """Durable rows/s of the log over those of a bare LMDB, in turns."""
    bare = lmdb.open(str(root / "bare"), map_size=2**36)
    rates = []
    with Log(root / "inserted") as log:
        log.open_stream(STREAM, SCHEMA)
        for turn in range(ROUNDS):
            start_s = time.perf_counter()
            for commit in range(COMMITS):
                _put(bare, rows, turn * COMMITS + commit)
            between_s = time.perf_counter()
            for commit in range(COMMITS):
                log.append(STREAM, _block(rows, turn * COMMITS + commit))
                log.commit()
            rates.append(
                (COMMITS * COMMIT / (between_s - start_s), COMMITS * COMMIT / (time.perf_counter() - between_s))
            )
    bare.close()
    ratio = statistics.median(ours / theirs for theirs, ours in rates)
    return {"insert_ratio": ratio, "insert_rows_s": statistics.median(ours for _, ours in rates)}


def _put(bare: lmdb.Environment, rows: Array, block: int) -> None:
    records = _block(rows, block)
    with bare.begin(write=True) as txn:
        for i, row in enumerate(records):
            txn.put(b"%016d" % (block * COMMIT + i), row.tobytes(), append=True)


def _block(rows: Array, number: int) -> Array:
    """32 rows whose steps go on for ever."""
    start = number * COMMIT % (len(rows) - COMMIT)
    block = rows[start : start + COMMIT].copy()
    block["step"] = number * COMMIT + np.arange(COMMIT)
    return block


def disk_ratio(path: Path, rows: Array) -> dict[str, float]:
    """Bytes on disk per byte of the frames that are kept, after ten times what is kept has gone through."""
    kept = 1000
    config = LogConfig(segment_bytes=16 * 2**20, commit="nosync")
    with Log(path, dataclasses.replace(config, retention=RetentionConfig(keep_rows=kept))) as log:
        log.open_stream(STREAM, SCHEMA)
        for number in range(10 * kept // COMMIT):
            log.append(STREAM, _block(rows, number))
            log.commit()
            log.retain()
        log.sync()
        held = log.synced(STREAM) + 1 - log.first_kept(STREAM)
    disk = sum(file.stat().st_blocks * 512 for file in path.rglob("*") if file.is_file())
    frames = held * sum(SCHEMA.dtype[name].itemsize for name in SCHEMA.observation)
    return {"disk_ratio": disk / frames, "disk_rows": held}
