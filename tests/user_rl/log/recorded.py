"""Rows as an edge would record them, for the log's tests and their child processes; run as a program: a writer."""

import sys
from pathlib import Path

import lmdb
import numpy as np

from user_rl.log import Log, LogConfig
from user_rl.log.chunk import ORDER_VALUE, RAW, SEQ_KEY, STEP_KEY, trailed
from user_rl.log.segment import TABLES
from user_rl.rows import Kind, Klass, make_schema
from user_rl.specs import Array, box

SCHEMA = make_schema(
    {"observation.state": box("observation.state", [("x", "m", -1, 1), ("y", "m", -1, 1)])},
    box("action", [("dx", "m", -1, 1)]),
)
STREAM = "cell/boot/run"


def rows(first: int, count: int, *, klass: int = Klass.ONLINE, length: int = 5, salt: int = 0) -> Array:
    """Rows `first`.. of a stream whose episodes have `length` rows; bytes follow from step and `salt`."""
    records = SCHEMA.new(count)
    step = np.arange(first, first + count)
    records["step"], records["episode"], records["frame_index"] = step, step // length, step % length
    records["kind"] = np.where(step % length == length - 1, Kind.LAST, Kind.STEP)
    records["klass"], records["version"] = klass, 1 + step // 7
    records["next.reward"] = np.where(records["kind"] == Kind.STEP, 0.5, 0)
    records["next.success"] = records["kind"] * (step // length % 2)
    records["is_intervention"] = step % 3 == 0
    records["observation.state"] = np.stack([np.sin(step + salt), np.cos(step)], axis=1)
    return records


def mixed(first: int, count: int, *, length: int = 5) -> Array:
    """As `rows`, every third episode a demonstration."""
    records = rows(first, count, length=length)
    records["klass"] = np.where(records["episode"] % 3 == 2, Klass.DEMONSTRATION, Klass.ONLINE)
    return records


def write_for_ever(path: Path, seed: int) -> None:
    """Appends and commits without end; prints each synced step once it is synced."""
    rng = np.random.default_rng(seed)
    with Log(path, LogConfig(segment_bytes=96 * 1024)) as log:
        at = log.open_stream(STREAM, SCHEMA) + 1
        while True:
            for count in rng.integers(1, 9, rng.integers(1, 6)):
                log.append(STREAM, mixed(at, int(count), length=20))
                at += int(count)
            sys.stdout.write(f"{log.commit()[STREAM]}\n")
            sys.stdout.flush()


def plant(folder: Path, stream: str, first: int, data: bytes) -> None:
    """Writes a chunk behind the log's back, as only a fault could."""
    with lmdb.open(str(folder), map_size=0, max_dbs=len(TABLES)) as env:
        tables = {name: env.open_db(name.encode()) for name in TABLES}
        with env.begin(write=True) as txn:
            entry = txn.get(stream.encode(), db=tables["streams"])
            assert entry is not None
            (number,) = np.frombuffer(entry[:4], "<u4").tolist()
            count = len(data) // SCHEMA.row_bytes
            txn.put(STEP_KEY.pack(number, first), trailed(memoryview(data), count), db=tables["chunks"])
            cursor = txn.cursor(db=tables["order"])
            cursor.last()
            seq = SEQ_KEY.unpack(cursor.key())[0] + 1
            txn.put(SEQ_KEY.pack(seq), ORDER_VALUE.pack(number, first, count, RAW), db=tables["order"])


if __name__ == "__main__":
    write_for_ever(Path(sys.argv[1]), int(sys.argv[2]))
