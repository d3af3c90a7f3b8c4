import re
from pathlib import Path

import pytest

from cloud.shards.table import Home, Range, ShardTable, Table, read_table, shard_opens_at, table_reader
from user_rl.errors import StorageCorrupt, StorageError

S, T = "cell-0/b1/run", "cell-0/b2/run"


@pytest.fixture
def path(tmp_path: Path) -> Path:
    (tmp_path / "run").mkdir()
    return tmp_path / "run" / "shards.json"


def moved(path: Path, to: int, cursors: dict[str, int], seq: int = 9) -> ShardTable:
    table = ShardTable(path)
    table.leave("cell-0")
    table.arrive("cell-0", to, cursors, seq)
    return table


def test_of_what_the_table_says_nothing_shard_0_has_all(path: Path) -> None:
    assert read_table(path) == Table("run")
    assert Table("run").ranges(S) == (Range(0, 0, 0),)
    assert [Table("run").opens_at(S, shard) for shard in (0, 1)] == [0, None]


def test_a_moved_stream_has_two_ranges_that_meet(path: Path) -> None:
    now = moved(path, 2, {S: 41}).now
    assert now.ranges(S) == (Range(0, 1, 0, 41, 9), Range(2, 2, 42))
    assert [now.opens_at(S, shard) for shard in (0, 1, 2)] == [None, None, 42]
    assert now.visible(S, 0) == (Range(0, 1, 0, 41, 9),)
    assert now.before(S, 42) == Range(0, 1, 0, 41, 9)
    assert now.before(S, 41) is None
    assert now.ranges(T) == (Range(2, 2, 0),)  # it had no rows yet


def test_a_range_has_its_ends_and_nothing_beyond() -> None:
    assert [Range(0, 0, 4, 6).has(step) for step in (3, 4, 6, 7)] == [False, True, True, False]
    assert Range(0, 0, 4).has(10**9)


def test_while_a_cell_leaves_no_shard_takes_it_and_all_that_is_there_is_seen(path: Path) -> None:
    table = ShardTable(path)
    table.leave("cell-0")
    assert read_table(path).home("cell-0") == Home(0, 1, leaving=True)
    assert [table.now.opens_at(S, shard) for shard in (0, 1)] == [None, None]
    assert table.now.visible(S, 0) == (Range(0, 1, 0),)
    table.leave("cell-0")
    assert table.now.epoch == 1  # asked again, nothing has changed


def test_epochs_only_grow(path: Path) -> None:
    epochs = [moved(path, to, {S: end}).now.epoch for to, end in ((1, 3), (0, 7), (1, 9))]
    assert epochs == [2, 4, 6]
    assert [r.epoch for r in read_table(path).ranges(S)] == [1, 3, 5, 6]


def test_a_stream_of_which_nothing_came_since_gets_no_range(path: Path) -> None:
    moved(path, 1, {S: 5})
    now = moved(path, 2, {S: 5, T: -1}).now
    assert now.ranges(S) == (Range(0, 1, 0, 5, 9), Range(2, 4, 6))
    assert now.closed.keys() == {S}


def test_nobody_arrives_who_has_not_left(path: Path) -> None:
    with pytest.raises(StorageError, match=re.escape("cell-0 is at home at shard 0 and not leaving it; call leave")):
        ShardTable(path).arrive("cell-0", 1, {}, 0)


def test_streams_of_another_run_lie_at_shard_0_wherever_their_cell_is(path: Path) -> None:
    now = moved(path, 1, {}).now
    assert now.visible("cell-0/b1/earlier", 0) == (Range(0, 0, 0),)
    assert now.visible("cell-0/b1/earlier", 1) == ()


def test_who_looks_sees_each_change_at_once(path: Path) -> None:
    table, opens = table_reader(path), shard_opens_at(path, 1)
    assert (table(), opens(S)) == (Table("run"), None)
    for number in range(1, 6):
        moved(path, number % 2, {S: number})
        assert table() == read_table(path)
        assert opens(S) == (number + 1 if number % 2 else None)


@pytest.mark.parametrize(("content", "said"), [("{", "cannot be read"), ('{"run":"run","format":7}', "format 7")])
def test_a_table_that_cannot_be_read_is_not_taken_for_an_empty_one(path: Path, content: str, said: str) -> None:
    path.write_text(content)
    with pytest.raises(StorageCorrupt, match=said):
        read_table(path)
