"""A run with several logs, for whoever reads, checks, copies or films it."""

import json
import re
from contextlib import closing
from pathlib import Path

import numpy as np
import pytest

from cloud.demonstrations import copy_demonstrations
from cloud.ending import compare_logs
from cloud.main import main
from cloud.run import RunFolder, keep_config
from cloud.shards.reader import check_one_log, log_at, open_log, open_source
from cloud.shards.table import ShardTable
from cloud.testing import episode_rows
from tests.cloud.shards.world import RUN, SCHEMA, rows_at
from user_rl.errors import StorageError
from user_rl.log import Log, Reader
from user_rl.rows import Klass

STREAM = f"cell-0/b1/{RUN}"


@pytest.fixture
def folder(tmp_path: Path) -> RunFolder:
    """A stream whose steps 0 to 14 lie at shard 0, and 15 to 29 at shard 1: the cut goes through an episode."""
    folder = RunFolder(tmp_path / "runs" / RUN)
    keep_config(folder, {})
    rng = np.random.default_rng(0)
    parts = [
        episode_rows(SCHEMA, rng, length=9, first_step=10 * n, number=n, klass=Klass.DEMONSTRATION) for n in range(3)
    ]
    rows = np.concatenate(parts)
    with Log(folder.root / "edges" / "cell-0" / "spool") as spool:
        spool.open_stream(STREAM, SCHEMA)
        spool.append(STREAM, rows)
        spool.commit()
    with Log(folder.log) as log:
        log.open_stream(STREAM, SCHEMA)
        log.append(STREAM, rows[:15])
        log.commit()
    with Log(folder.log_of(1)) as log:
        log.open_stream(STREAM, SCHEMA)
        log.append_gap(STREAM, 0, 14)
        log.append(STREAM, rows[15:])
        log.commit()
    table = ShardTable(folder.shards)
    table.leave("cell-0")
    table.arrive("cell-0", 1, {STREAM: 14}, 2)
    return folder


def test_a_stream_is_whole_again(folder: RunFolder) -> None:
    with open_log(folder) as found:
        assert found.synced(STREAM) == 29
        assert [(e.episode, e.first_step, e.length, e.closed, e.success) for e in found.episodes()] == [
            (0, 0, 9, True, True), (1, 10, 9, True, True), (2, 20, 9, True, True)
        ]  # fmt: skip
        read = [(c.first, c.last) for at in (0, 12, 15, 20) for c in found.read(STREAM, at, 10**6)]
        assert read == [(0, 14), (12, 14), (15, 29), (20, 29)]
        assert found.read(STREAM, 30, 10**6) == []
        assert [(c.first, c.last) for c in found.scan(STREAM)] == [(0, 14), (15, 29)]
        assert (found.gaps(), found.dropped(STREAM), found.lossy(STREAM)) == ([], [], frozenset())
        assert found.streams() == {STREAM: SCHEMA}


def test_both_sides_logs_are_compared_whatever_the_shards(folder: RunFolder) -> None:
    same = compare_logs(folder)
    assert (same.rows, same.rows_lost, same.rows_duplicated, same.rows_differing) == (30, 0, 0, 0)


def test_a_row_that_a_shard_lost_and_one_that_it_has_twice_are_counted(folder: RunFolder) -> None:
    table = ShardTable(folder.shards)
    closed = table.now.closed[STREAM][0]
    for last, counts in ((16, (2, 0)), (12, (0, 0))):
        wrong = type(closed)(closed.shard, closed.epoch, closed.first, last, closed.seq)
        table._write(type(table.now)(table.now.run, 1, table.now.epoch, table.now.homes, {STREAM: (wrong,)}))
        found = compare_logs(folder)
        assert (found.rows_lost, found.rows_duplicated) == (counts if last == 16 else (2, 0))


def test_its_demonstrations_are_copied_from_all_of_them(folder: RunFolder, tmp_path: Path) -> None:
    assert copy_demonstrations(folder.root, tmp_path / "log") == 3
    with Reader(tmp_path / "log") as copied:
        assert copied.synced(STREAM) == 29
        assert copied.gaps() == []


def test_every_log_is_inspected_and_verified(folder: RunFolder, capsys: pytest.CaptureFixture[str]) -> None:
    where = ["--runs", str(folder.root.parent)]
    assert main(["buffer", "inspect", RUN, *where, "--json"]) == 0
    trees = json.loads(capsys.readouterr().out)
    assert [Path(tree["path"]).name for tree in trees] == ["log", "log-1"]
    data = next(folder.log_of(1).glob("*-*/data.mdb"))
    assert main(["buffer", "verify", RUN, *where]) == 0
    whole = data.read_bytes()
    data.write_bytes(whole[: len(whole) // 2 // 4096 * 4096] + bytes(len(whole) - len(whole) // 2 // 4096 * 4096))
    assert main(["buffer", "verify", RUN, *where]) == 1


def test_what_takes_one_log_says_that_there_are_more(folder: RunFolder) -> None:
    said = "run run has several logs (log, log-1), allowed one for a backup; wait for a release that takes them"
    with pytest.raises(StorageError, match=f"^{re.escape(said)}$"):
        check_one_log(folder, "a backup")
    assert main(["buffer", "compact", RUN, "--runs", str(folder.root.parent)]) == 1
    assert main(["backup", RUN, "--to", str(folder.root.parent / "kept"), "--runs", str(folder.root.parent)]) == 1


def test_a_run_with_one_gateway_is_read_as_ever(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path / RUN)
    with pytest.raises(StorageError, match="no log is there"):
        open_log(folder)
    with Log(folder.log) as log:
        log.open_stream(STREAM, SCHEMA)
        log.append(STREAM, rows_at(0, 5))
        log.commit()
    assert folder.logs() == {0: folder.log}
    check_one_log(folder, "anything")
    with closing(open_source(folder)) as source:
        assert isinstance(source, Reader)
    with log_at(folder.log) as log:
        assert isinstance(log, Reader)
    assert not folder.order.exists()


def test_a_run_whose_shards_have_not_begun_has_no_log_yet(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path / RUN)
    ShardTable(folder.shards)
    for look in (open_log, open_source):
        with pytest.raises(StorageError, match="no log is there; start its writer first"):
            look(folder)
