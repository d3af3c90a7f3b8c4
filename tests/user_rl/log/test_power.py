"""Power loss: after every system call of a writer, whatever of its unsynced writes and names reached the disk, the log
opens, has every row that `commit` had returned, has no row that was never appended, and takes more."""

import os
import resource
import shutil
import sys
import tempfile
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import numpy as np
import pytest

from tests.user_rl.log.recorded import SCHEMA, mixed
from tests.user_rl.log.trace import Machine, build, has_strace, record
from user_rl.errors import StorageFull
from user_rl.log import Log, LogConfig, Reader
from user_rl.log.segment import Segment, hash_file, is_segment_name
from user_rl.log.walk import walk
from user_rl.specs import Array

pytestmark = pytest.mark.skipif(not has_strace(), reason="no strace that may trace here: apt-get install strace")
ROOT = Path(__file__).parents[3]
CONFIG = LogConfig(segment_bytes=80 * 1024, max_bytes=5 * 80 * 1024)
NAMES = ("cell/one/run", "cell/two/run")
GAP = (100, 119)  # of the second stream
LIVES, COMMITS, ROWS = 2, 14, 40
WRITER = """
import sys
from pathlib import Path
from tests.user_rl.log import test_power
getattr(test_power, sys.argv[2])(Path(sys.argv[1]))
"""


def rows_of(name: str, first: int, count: int) -> Array:
    """What was recorded: every third episode of the first stream is a demonstration."""
    records = mixed(first, count, length=20 + 5 * NAMES.index(name))
    if name == NAMES[1]:
        records["klass"] = 0
    return records


def write(path: Path) -> None:
    """Two lives of a writer; says `synced STREAM STEP` after, and `acked STEP` before what it speaks of."""
    for _ in range(LIVES):
        with Log(path, CONFIG) as log:
            for name in NAMES:
                log.open_stream(name, SCHEMA)
            for n in range(COMMITS):
                _append(log, NAMES[n % 3 == 2])
                say(f"synced {name} {step}" for name, step in log.commit().items())
                acked = {name: log.synced(name) - ROWS for name in NAMES}
                say(f"acked {name} {step}" for name, step in acked.items())
                log.trim(acked)


def write_on_a_full_disk(path: Path) -> None:
    """A commit fails half-way, and the next life seals that segment before it commits there again."""
    with Log(path, CONFIG) as log:
        for name in NAMES:
            log.open_stream(name, SCHEMA)
        _append(log, NAMES[1])
        say(f"synced {name} {step}" for name, step in log.commit().items())
        _append(log, NAMES[1])
        size = (path / "online-00000001" / "data.mdb").stat().st_size
        resource.setrlimit(resource.RLIMIT_FSIZE, (size + 4096, resource.RLIM_INFINITY))
        with pytest.raises(StorageFull):
            log.commit()
        resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
    with Log(path, LogConfig(segment_bytes=1)) as log:
        log.append(NAMES[1], rows_of(NAMES[1], log.appended(NAMES[1]) + 1, 2))
        say(f"synced {name} {step}" for name, step in log.commit().items())


def _append(log: Log, name: str) -> None:
    first = log.appended(name) + 1
    if name == NAMES[1] and first == GAP[0]:
        log.append_gap(name, *GAP)
        first = GAP[1] + 1
    count = GAP[0] - first if name == NAMES[1] and first < GAP[0] < first + ROWS else ROWS
    log.append(name, rows_of(name, first, count))


def say(lines: Iterator[str]) -> None:
    os.write(1, "".join(f"{line}\n" for line in lines).encode())


def heard(said: list[bytes], what: str) -> dict[str, int]:
    """The last word on each stream."""
    words = [line.split() for line in b"".join(said).decode().splitlines()]
    return {word[1]: int(word[2]) for word in words if word[0] == what}


def check_world(path: Path, synced: dict[str, int], acked: dict[str, int], last: dict[str, int]) -> None:
    """One disk after the power came back: what was promised until then, and the last rows that were ever appended."""
    if not (path / "log.json").exists():
        assert not synced
    with Log(path, LogConfig(segment_bytes=CONFIG.segment_bytes)) as log:
        for name in NAMES:
            cursor = log.open_stream(name, SCHEMA)
            assert synced.get(name, -1) <= cursor <= last.get(name, -1)
            assert log.first_kept(name) <= max(0, acked.get(name, -1) + 1)
            check_rows(log, name, cursor)
        for name in NAMES:
            log.append(name, rows_of(name, log.synced(name) + 1, 2))
        assert log.commit() == {name: log.appended(name) for name in NAMES}
    for folder in [entry for entry in path.iterdir() if is_segment_name(entry.name)]:
        assert walk(folder).problems == []
        with closing(Segment(folder)) as segment:
            assert segment.footer is None or hash_file(folder / "data.mdb") == (
                segment.footer.bytes, segment.footer.xxh3_128,
            )  # fmt: skip
    with Reader(path) as reader:
        seqs = [seq for seq, _ in reader.tail(0, 2**30)]
        assert seqs == sorted(set(seqs))


def check_rows(log: Log, name: str, cursor: int) -> None:
    at = log.first_kept(name)
    for chunk in log.read(name, at, 2**30):
        if chunk.first != at:
            assert (name, at, chunk.first - 1) == (NAMES[1], max(at, GAP[0]), GAP[1])
        assert chunk.data == rows_of(name, chunk.first, chunk.count).tobytes()
        at = chunk.last + 1
    assert at == cursor + 1 or (name == NAMES[1] and cursor == GAP[1])


@pytest.fixture
def fast() -> Iterator[Path]:
    """A folder in memory where there is one: thousands of disks are built and opened."""
    with tempfile.TemporaryDirectory(dir="/dev/shm" if Path("/dev/shm").is_dir() else None) as name:
        yield Path(name)


def lose_power(folder: Path, writer: str, *, every: int, draws: int, seed: int) -> tuple[int, set[str]]:
    """How many disks were looked at, and the calls after which they were."""
    root, trace = folder / "disk", folder / "trace"
    root.mkdir()
    record([sys.executable, "-c", WRITER, str(root / "log"), writer], trace, ROOT)
    whole = Machine(root)
    list(whole.play(trace))
    last = heard(whole.said, "synced")
    machine, rng, worlds, calls = Machine(root), np.random.default_rng(seed), 0, set[str]()
    for n, call in enumerate(machine.play(trace)):
        shares: list[tuple[float, np.random.Generator | None]] = [(1.0, None), (0.0, None)]
        shares += [(float(rng.random()), rng) for _ in range(draws)]
        if n % every == seed % every:
            calls.add(call)
            for share, draw in shares:
                world = folder / "world"
                build(machine.top, world, share, draw)
                check_world(world / "log", heard(machine.said, "synced"), heard(machine.said, "acked"), last)
                shutil.rmtree(world)
                worlds += 1
    return worlds, calls


@pytest.mark.slow
def test_whenever_the_power_fails_the_log_opens_with_every_committed_row(fast: Path) -> None:
    worlds, calls = lose_power(fast, write.__name__, every=4, draws=1, seed=1)
    assert worlds > 300
    assert {"writev", "pwrite64", "fdatasync", "fsync", "rename", "unlinkat"} <= calls


@pytest.mark.slow
def test_a_segment_whose_last_commit_failed_is_sealed_with_what_is_on_the_disk(fast: Path) -> None:
    worlds, calls = lose_power(fast, write_on_a_full_disk.__name__, every=1, draws=1, seed=2)
    assert worlds > 100
    assert "rename" in calls


@pytest.mark.long
@pytest.mark.parametrize("seed", range(2))
def test_after_every_single_call_of_a_writer_the_power_may_fail(fast: Path, seed: int) -> None:
    worlds, _ = lose_power(fast, write.__name__, every=1, draws=6, seed=seed)
    assert worlds > 3000
