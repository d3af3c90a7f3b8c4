"""Snapshots: the rows of one commit, whatever came after; and what is said of one that lost its segments."""

import time
from pathlib import Path

import msgspec
import numpy as np
import pytest

from tests.user_rl.log.recorded import SCHEMA, STREAM, mixed, rows
from user_rl.log import Log, LogConfig, Reader
from user_rl.log.quarantine import Reason, set_aside
from user_rl.log.snapshot import Place, Snapshot, Wanted, check, snapshot
from user_rl.rows import Klass

pytestmark = pytest.mark.slow
SMALL = LogConfig(segment_bytes=96 * 1024)
OTHER = "cell/other/run"


def write(path: Path, count: int, *, stream: str = STREAM, first: int = 0) -> None:
    with Log(path, SMALL) as log:
        log.open_stream(stream, SCHEMA)
        for at in range(first, first + count, 40):
            log.append(stream, mixed(at, 40))
            log.commit()


def last_rows(reader: Reader, seq: int) -> dict[str, int]:
    """The reference: the last row of each stream among the commits up to `seq`."""
    ends: dict[str, int] = {}
    for at, chunk in reader.tail(0, 2**30):
        if at <= seq:
            ends[chunk.stream] = max(chunk.last, ends.get(chunk.stream, -1))
    return ends


def test_at_every_commit_it_names_the_last_row_of_each_stream(tmp_path: Path) -> None:
    with Log(tmp_path, SMALL) as log:
        rng, at = np.random.default_rng(3), {STREAM: 0, OTHER: 0}
        for name in at:
            log.open_stream(name, SCHEMA)
        for _ in range(60):
            name = [STREAM, OTHER][int(rng.integers(2))]
            count = int(rng.integers(1, 40))
            log.append(name, mixed(at[name], count))
            at[name] += count
            if rng.integers(3):
                log.commit()
        log.commit()
    with Reader(tmp_path) as reader:
        newest = snapshot(reader)
        for seq in range(1, newest.seq + 1):
            found = snapshot(reader, seq)
            assert {name: place.step for name, place in found.streams.items()} == last_rows(reader, seq)
            for name, place in found.streams.items():
                with_row = reader.read(name, place.step, 1)
                assert with_row[0].first == place.step
                assert place.segment in found.segments
        assert newest.seq == reader.tail(0, 2**30)[-1][0]
        assert newest.segments == reader.segments()
        assert snapshot(reader, 0) == Snapshot(log_id=reader.log_id, seq=0, streams={}, segments=[])


def test_a_gap_behind_the_last_row_is_not_taken_for_a_row_that_came_later(tmp_path: Path) -> None:
    with Log(tmp_path, SMALL) as log:
        log.open_stream(STREAM, SCHEMA)
        log.append(STREAM, rows(0, 10))
        log.append_gap(STREAM, 10, 19)
        log.commit()
        log.append(STREAM, rows(20, 5))
        log.commit()
    with Reader(tmp_path) as reader:
        assert snapshot(reader, 1).streams == {STREAM: Place("online-00000001", 19)}
        assert snapshot(reader, 2).streams == {STREAM: Place("online-00000001", 24)}


def test_it_needs_the_newest_online_rows_all_demonstrations_and_the_interventions(tmp_path: Path) -> None:
    with Log(tmp_path, SMALL) as log:
        log.open_stream(STREAM, SCHEMA)
        for at in range(0, 3200, 40):
            records = rows(at, 40, klass=Klass.DEMONSTRATION if at < 400 else Klass.ONLINE)
            records["is_intervention"] = 800 <= at < 840
            log.append(STREAM, records)
            log.commit()
    with Reader(tmp_path) as reader:
        everything = reader.segments()
        demonstrations = [name for name in everything if name.startswith("demonstration")]
        online = [name for name in everything if name.startswith("online")]
        assert snapshot(reader).segments == everything
        few = snapshot(reader, wanted=Wanted(online_rows=100)).segments
        assert few == [*demonstrations, *online[-len(few) + len(demonstrations) :]]
        assert 0 < len(few) - len(demonstrations) <= 3
        shown = snapshot(reader, wanted=Wanted(online_rows=100, interventions=True)).segments
        assert len(shown) == len(few) + 1
        assert set(few) < set(shown) < set(everything)


def test_it_travels_in_a_manifest(tmp_path: Path) -> None:
    write(tmp_path, 400)
    with Reader(tmp_path) as reader:
        found = snapshot(reader)
    assert msgspec.json.decode(msgspec.json.encode(found), type=Snapshot) == found


def test_what_is_missing_is_said_in_one_line(tmp_path: Path) -> None:
    write(tmp_path, 2400)
    with Reader(tmp_path) as reader:
        found = snapshot(reader)
        assert check(found, reader) == ""
        one, two = found.segments[:2]
        (tmp_path / one).rename(tmp_path / f".old-{one}")
        set_aside(tmp_path, Reason(segment=two, problems=["x"], at_s=1.0))
        assert check(found, reader) == (
            f"{tmp_path}: of {len(found.segments)} segments of the snapshot at commit {found.seq}, "
            f"1 in quarantine ({two}) and 1 dropped ({one})"
        )
        assert "the snapshot is of abc" in check(msgspec.structs.replace(found, log_id="abc"), reader)


def test_it_is_made_in_a_few_milliseconds(tmp_path: Path) -> None:
    write(tmp_path, 8000)
    with Reader(tmp_path) as reader:
        newest = snapshot(reader)
        start_s = time.perf_counter()
        for back in range(20):
            snapshot(reader, newest.seq - back)
        assert (time.perf_counter() - start_s) / 20 < 0.02
