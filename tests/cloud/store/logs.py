"""Real logs for the store's tests: many small segments, some of which are dropped or damaged."""

import subprocess
import sys
from pathlib import Path

import numpy as np

from cloud.testing import episode_rows
from user_rl.columns import Columns, column_from_name
from user_rl.columns.testing import Bounds, all_written
from user_rl.log import Log, LogConfig
from user_rl.log.retention import RetentionConfig
from user_rl.rows import Klass, Schema
from user_rl.specs import Array

STREAM = "a/1/run"
ROOT = Path(__file__).parents[3]
SEGMENT_BYTES = 96 * 2**10


def write(path: Path, schema: Schema, episodes: int = 60, *, first: int = 0, keep_rows: int | None = None) -> None:
    """Episodes number `first` and on, of 9 steps; the first three are demonstrations. Keeps the newest `keep_rows`."""
    config = LogConfig(segment_bytes=SEGMENT_BYTES, retention=RetentionConfig(keep_rows=keep_rows))
    with Log(path, config) as log:
        log.open_stream(STREAM, schema)
        for number in range(first, episodes):
            log.append(STREAM, rows_of(schema, number))
            log.commit()
        while keep_rows is not None and log.retain():
            pass


def elsewhere(call: str) -> None:
    """Runs `call`, of a function of this module, in another process: one opens a log's segments once."""
    imports = "from pathlib import Path\nfrom cloud.testing import state_schema\nfrom tests.cloud.store import logs\n"
    subprocess.run([sys.executable, "-c", imports + call], check=True, cwd=ROOT, timeout=60)


def rows_of(schema: Schema, number: int) -> Array:
    """Episode `number`, the same in every process."""
    klass = Klass.DEMONSTRATION if number < 3 else Klass.ONLINE
    rng, hand = np.random.default_rng(number), (4, 5) if klass == Klass.ONLINE else ()
    return episode_rows(schema, rng, length=9, first_step=10 * number, number=number, klass=klass, interventions=hand)


def flip(path: Path, episode: Array, *, back: bool = False) -> None:
    """Turns over one bit in the stored rows of `episode`."""
    wanted = episode["observation.state"][3].tobytes()
    if back:
        wanted = bytes([wanted[0] ^ 1]) + wanted[1:]
    for file in sorted(path.glob("online-*/data.mdb")):
        data = bytearray(file.read_bytes())
        if (at := data.find(wanted)) >= 0:
            data[at] ^= 1
            file.write_bytes(data)
            return
    raise AssertionError("the episode is not in the log")


def unflip(path: Path, episode: Array) -> None:
    """Mends what `flip` did."""
    flip(path, episode, back=True)


def online(path: Path) -> list[str]:
    """The segments of online rows."""
    return sorted(folder.name for folder in path.glob("online-*"))


def label(run: Path, identity: str, ids: list[int], values: list[float], *, per: str = "row") -> None:
    """Writes a late column of STREAM."""
    dtype = "u1" if per == "episode" else "<f4"
    with Columns(run / "columns", Bounds({STREAM: 10_000}), wait_s=5.0) as columns:
        columns.add(column_from_name(identity, dtype=dtype, per=per))
        assert all_written(columns.write(identity, STREAM, np.array(ids), np.array(values)))
        columns.commit()
