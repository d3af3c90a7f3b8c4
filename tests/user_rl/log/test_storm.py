"""Kill -9 at random points of insert, commit, evict and snapshot: nothing acknowledged is lost beyond what retention
was allowed to drop, nothing is invented, and the same log goes on, life after life."""

import subprocess
import sys
import time
from pathlib import Path

import msgspec
import numpy as np
import pytest

from tests.user_rl.log.storm import CONFIG, KEEP_ROWS, STREAMS, rows_of
from user_rl.log import Log, Reader, verify
from user_rl.log.pins import pins
from user_rl.log.snapshot import Snapshot, check
from user_rl.log.tally import Tally
from user_rl.rows import Klass
from user_rl.specs import Array

ROOT = Path(__file__).parents[3]
KILLS = 20  # of one log; the long suite has ten logs, so 200 kills
LATEST_S = 0.004  # after a line the writer is killed so much later at most: somewhere in what follows


class Said:
    """What the writers called done, over all their lives."""

    def __init__(self) -> None:
        self.synced = dict.fromkeys(STREAMS, -1)
        self.kept: Snapshot | None = None

    def hear(self, line: str) -> None:
        if not line.endswith("\n"):
            return
        what, _, rest = line.strip().partition(" ")
        if what == "synced":
            stream, step = rest.split(" ")
            self.synced[stream] = int(step)
        else:
            self.kept = msgspec.json.decode(rest, type=Snapshot)


def live(path: Path, seed: int, said: Said) -> None:
    """One life of the writer, up to a random point."""
    rng = np.random.default_rng(seed)
    command = [sys.executable, "-m", "tests.user_rl.log.storm", str(path), str(seed)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=ROOT) as writer:
        assert writer.stdout is not None
        for _ in range(int(rng.integers(1, 25))):
            said.hear(writer.stdout.readline())
        until_s = time.perf_counter() + LATEST_S * float(rng.random())
        while time.perf_counter() < until_s:
            pass
        writer.kill()
        for line in writer.stdout.readlines():
            said.hear(line)


def check_log(path: Path, said: Said) -> None:
    with Reader(path) as reader:
        held = {name: held_rows(reader, name) for name in STREAMS if name in reader.streams()}
        ends = {name: reader.synced(name) for name in held}
        assert said.kept is None or is_replaced(path, said.kept) or check(said.kept, reader) == ""
        assert all((path / name).is_dir() for pin in pins(path).values() for name in pin.segments)
        assert all(chunk.stream in STREAMS for _, chunk in reader.tail(0, 2**30))
        written = {name: rows_of(0, ends[name] + 1) for name in held}
    for name, rows in held.items():
        assert ends[name] >= said.synced[name]
        assert len(np.unique(rows["step"])) == len(rows)
        assert rows.tobytes() == written[name][rows["step"]].tobytes()
        shown = written[name]["klass"] == Klass.DEMONSTRATION
        assert np.count_nonzero(rows["klass"] == Klass.DEMONSTRATION) == np.count_nonzero(shown)
    total = sum(len(rows) for rows in written.values())
    assert sum(len(rows) for rows in held.values()) + Tally(path).count().rows == total
    online = sum(int(np.count_nonzero(rows["klass"] == Klass.ONLINE)) for rows in held.values())
    everything = sum(int(np.count_nonzero(rows["klass"] == Klass.ONLINE)) for rows in written.values())
    assert online >= min(KEEP_ROWS, everything)


def is_replaced(path: Path, kept: Snapshot) -> bool:
    """Whether the writer pinned a newer snapshot and died before it could say so."""
    return max(pins(path)["checkpoint"].seqs) > kept.seq


def held_rows(reader: Reader, name: str) -> Array:
    schema = reader.streams()[name]
    found = np.concatenate([schema.new(0), *(schema.view(chunk.data) for chunk in reader.scan(name))])
    return found[np.argsort(found["step"], kind="stable")]


@pytest.mark.parametrize(
    "which", [pytest.param(n, marks=[pytest.mark.slow, *([pytest.mark.long] if n else [])]) for n in range(10)]
)
def test_a_log_survives_kill_after_kill_in_the_middle_of_everything(tmp_path: Path, which: int) -> None:
    path, said = tmp_path / "log", Said()
    for life in range(KILLS):
        live(path, KILLS * which + life, said)
        check_log(path, said)
        assert life % 4 or verify(path) == []
    assert Tally(path).count().segments > 0
    assert said.kept is not None
    with Log(path, CONFIG) as log:
        assert log.epoch == KILLS + 1
        step = log.synced(STREAMS[0]) + 1
        log.append(STREAMS[0], rows_of(step, 7))
        assert log.commit() == {STREAMS[0]: step + 6}
