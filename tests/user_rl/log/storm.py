"""A writer that does everything at once, to be killed: inserts, commits, seals, drops, takes snapshots and pins them.

It says what it called done, one line each: `synced STREAM STEP`, `kept JSON` (a snapshot whose segments are pinned).
"""

import sys
from pathlib import Path

import msgspec
import numpy as np

from tests.user_rl.log.recorded import SCHEMA, mixed
from user_rl.log import Log, LogConfig
from user_rl.log.retention import RetentionConfig
from user_rl.log.snapshot import Wanted, taken
from user_rl.specs import Array

STREAMS = ("cell/one/run", "cell/two/run")
KEEP_ROWS = 400
CONFIG = LogConfig(segment_bytes=96 * 1024, retention=RetentionConfig(keep_rows=KEEP_ROWS))


def rows_of(first: int, count: int) -> Array:
    """What both streams record."""
    return mixed(first, count, length=20)


def rage(path: Path, seed: int) -> None:
    """Never ends by itself."""
    rng = np.random.default_rng(seed)
    with Log(path, CONFIG) as log:
        at = {name: log.open_stream(name, SCHEMA) + 1 for name in STREAMS}
        while True:
            for _ in range(int(rng.integers(1, 6))):
                name, count = STREAMS[int(rng.integers(2))], int(rng.integers(1, 30))
                log.append(name, rows_of(at[name], count))
                at[name] += count
            say(*(f"synced {name} {step}" for name, step in log.commit().items()))
            if rng.integers(2):
                log.retain()
            if not rng.integers(4):
                keep(log)


def keep(log: Log) -> None:
    """A snapshot, pinned in place of the one before."""
    shelf = log._shelf
    found = taken(shelf.segments, shelf.names, log.log_id, shelf.next_seq - 1, Wanted(online_rows=KEEP_ROWS // 2))
    log.pin("checkpoint", found.segments, seqs=[found.seq])
    say(f"kept {msgspec.json.encode(found).decode()}")


def say(*lines: str) -> None:
    sys.stdout.write("".join(f"{line}\n" for line in lines))
    sys.stdout.flush()


if __name__ == "__main__":
    rage(Path(sys.argv[1]), int(sys.argv[2]))
