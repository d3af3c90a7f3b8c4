"""One writer, two learners and an inspector on one log at once: every row of every batch is a whole row of the source.

A row says by itself whether it is whole: its state's last number is a checksum of the others, and the one before that a
checksum of its action.
"""

import os
import subprocess
import sys
import time
import zlib
from contextlib import closing
from pathlib import Path

import numpy as np
import pytest

from cloud.store.replay import Replay, ReplayConfig
from cloud.testing import episode_rows, state_schema
from user_rl.log import Log, LogConfig, Reader
from user_rl.log.retention import RetentionConfig
from user_rl.log.survey import survey
from user_rl.specs import Array

ROOT = Path(__file__).parents[3]
STATES = 600
SCHEMA = state_schema(STATES)
STATE = "observation.state"
KEEP_ROWS, CAPACITY_ROWS = 12_000, 2000
STREAM = "a/1/run"
ENOUGH = 10  # batches, however slow the machine is


def signed(rows: Array) -> Array:
    """The rows, each with its checksums."""
    for row in rows:
        row[STATE][-2] = checksum(row["action"])
        row[STATE][-1] = checksum(row[STATE][:-1])
    return rows


def checksum(values: Array) -> float:
    """A whole number that float32 holds exactly."""
    return float(zlib.crc32(values.tobytes()) & 0xFFFFFF)


def write(path: Path, seconds: float) -> None:
    """Commits episode after episode, and drops what is old."""
    rng, until_s = np.random.default_rng(0), time.monotonic() + seconds
    config = LogConfig(segment_bytes=2 * 2**20, retention=RetentionConfig(keep_rows=KEEP_ROWS))
    with Log(path, config) as log:
        number = (log.open_stream(STREAM, SCHEMA) + 1) // 20
        while time.monotonic() < until_s:
            log.append(STREAM, signed(episode_rows(SCHEMA, rng, length=19, first_step=20 * number, number=number)))
            log.commit()
            log.retain()
            number += 1
    sys.stdout.write(f"{20 * number}\n")


def learn(path: Path, seconds: float) -> None:
    """Draws batches while the log grows; says how many rows were looked at, and fails at the first that is torn."""
    until_s, number = time.monotonic() + seconds, 0
    config = ReplayConfig(capacity_rows=CAPACITY_ROWS, cache_rows=CAPACITY_ROWS // 10, ahead=4)
    with Reader(path) as reader, closing(Replay(reader, config, SCHEMA, seed=os.getpid())) as replay:
        replay.catch_up()
        while time.monotonic() < until_s or number <= ENOUGH:  # a disk that stands still for seconds stops readers too
            replay.refresh()
            batch = replay.sample(number, 64)
            for state, action, following in zip(
                batch.observation[STATE], batch.action, batch.next_observation[STATE], strict=True
            ):
                assert state[-2] == checksum(action), f"batch {number}: another row's action"
                assert state[-1] == checksum(state[:-1]), f"batch {number}: a torn row"
                assert following[-1] == checksum(following[:-1]), f"batch {number}: a torn successor"
            number += 1
    sys.stdout.write(f"{number}\n")


def inspect(path: Path, seconds: float) -> None:
    """Counts what the log has, again and again."""
    until_s, looks = time.monotonic() + seconds, 0
    while time.monotonic() < until_s:
        assert survey(path, time.time())
        looks += 1
    sys.stdout.write(f"{looks}\n")


def start(what: str, path: Path, seconds: float) -> "subprocess.Popen[str]":
    code = f"from tests.cloud.store.test_concurrency import *\n{what}(Path({str(path)!r}), {seconds})"
    return subprocess.Popen(
        [sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=ROOT
    )  # fmt: skip


@pytest.mark.slow
@pytest.mark.parametrize("seconds", [4.0, pytest.param(60.0, marks=pytest.mark.long)])
def test_no_batch_is_torn_while_one_writes_two_learn_and_one_inspects(tmp_path: Path, seconds: float) -> None:
    write(tmp_path, 0.3)
    processes = [
        start(what, tmp_path, s)
        for what, s in (("write", seconds + 2), ("learn", seconds), ("learn", seconds), ("inspect", seconds))
    ]
    done = [(process.communicate(timeout=seconds + 60), process.returncode) for process in processes]
    for (_, problem), code in done:
        assert code == 0, problem[-3000:]
    written, *_, looks = [int(output) for (output, _), _ in done]  # a learner that ended has drawn ENOUGH
    assert written > 200
    assert looks > 1
