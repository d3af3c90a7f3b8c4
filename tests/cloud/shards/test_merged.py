"""Several logs as one: the same order, and the same draws, whoever reads it and whenever."""

import os
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path

import numpy as np
import pytest

from cloud.run import RunFolder
from cloud.shards.claims import RunClaim
from cloud.shards.merged import Merged, own_shards
from cloud.shards.order import MAGIC, Order, Stretch
from cloud.shards.table import ShardTable, table_reader
from cloud.store.replay import Replay, ReplayConfig
from cloud.testing import episode_rows
from tests.cloud.shards.world import RUN, SCHEMA, rows_at
from user_rl.errors import StorageError
from user_rl.log import Log, LogConfig
from user_rl.log.chunk import ChunkRef
from user_rl.log.pins import pins
from user_rl.log.retention import RetentionConfig
from user_rl.log.snapshot import Wanted
from user_rl.rows import Klass


@pytest.fixture
def folder(tmp_path: Path) -> RunFolder:
    """A run with two shards: cell-0 at home at the first, cell-1 at the second."""
    (tmp_path / RUN).mkdir()
    table = ShardTable(tmp_path / RUN / "shards.json")
    table.leave("cell-1")
    table.arrive("cell-1", 1, {}, 0)
    return RunFolder(tmp_path / RUN)


def write(
    folder: RunFolder, shard: int, episodes: range, *, klass: Klass = Klass.ONLINE, keep: int | None = None
) -> None:
    """Episodes of 10 rows of the cell that is at home at `shard`, a commit each."""
    config = LogConfig(segment_bytes=96 * 2**10, retention=RetentionConfig(keep_rows=keep))
    with Log(folder.log_of(shard), config) as log:
        stream = f"cell-{shard}/b1/{RUN}"
        log.open_stream(stream, SCHEMA)
        for number in episodes:
            rng = np.random.default_rng([shard, number])
            log.append(stream, episode_rows(SCHEMA, rng, length=9, first_step=10 * number, number=number, klass=klass))
            log.commit()
        while keep is not None and log.retain():
            pass


def merged(folder: RunFolder, **more: object) -> Merged:
    return Merged(folder.logs, table_reader(folder.shards), Order(folder.order), **more)  # type: ignore[arg-type]


def names(refs: Sequence[ChunkRef]) -> list[tuple[str, int]]:
    return [(ref.stream[:6], ref.first) for ref in refs]


def all_of(source: Merged, at: int = 0, most: int = 1000) -> list[ChunkRef]:
    found: list[ChunkRef] = []
    while refs := source.refs(found[-1].seq if found else at, most):
        found += refs
    return found


def replay_of(folder: RunFolder, source: Merged) -> Replay:
    config = ReplayConfig(capacity_rows=200, ahead=0)
    return Replay(source, config, SCHEMA, seed=3, run=folder.root)


def test_what_was_taken_in_once_comes_again_in_the_same_order(folder: RunFolder) -> None:
    taken: list[tuple[str, int, int]] = []
    for turn in range(4):
        write(folder, turn % 2, range(2 * (turn // 2), 2 * (turn // 2) + 2))
        with closing(merged(folder)) as source:
            found = [(ref.stream, ref.first, ref.seq) for ref in all_of(source)]
        assert found[: len(taken)] == taken
        taken = found
    assert [(s[:6], first) for s, first, _ in taken] == [
        ("cell-0", 0), ("cell-0", 10), ("cell-1", 0), ("cell-1", 10), ("cell-0", 20), ("cell-0", 30), ("cell-1", 20),
        ("cell-1", 30),
    ]  # fmt: skip
    assert [seq for _, _, seq in taken] == sorted({seq for _, _, seq in taken})


@pytest.mark.parametrize("most", [1, 2, 3])
def test_it_is_the_same_in_small_portions_and_from_any_place(folder: RunFolder, most: int) -> None:
    for turn in range(4):
        write(folder, turn % 2, range(3 * (turn // 2), 3 * (turn // 2) + 3))
        with closing(merged(folder)) as source:
            whole = all_of(source)
    with closing(merged(folder)) as source:
        assert all_of(source, most=most) == whole
        for at in (0, 5, 2, 11):
            assert all_of(source, at=whole[at].seq, most=most) == whole[at + 1 :]


def test_draws_are_repeated_by_whoever_comes_next(folder: RunFolder) -> None:
    write(folder, 0, range(6))
    write(folder, 1, range(6))
    with closing(merged(folder)) as source, closing(replay_of(folder, source)) as replay:
        replay.catch_up()
        before = [replay.sample(n, 16).action.copy() for n in range(3)]
        seq = replay.seq
    write(folder, 0, range(6, 12))  # what comes now is not seen by draws that were made
    write(folder, 1, range(6, 12))
    with closing(merged(folder)) as source, closing(replay_of(folder, source)) as replay:
        replay.catch_up()
        assert replay.seq > seq
        again = [replay.sample(n, 16).action.copy() for n in range(3)]
    assert [a.tobytes() for a in again] == [b.tobytes() for b in before]


def test_a_log_that_comes_later_joins(folder: RunFolder) -> None:
    write(folder, 0, range(2))
    with closing(merged(folder)) as source:
        assert names(source.refs(0, 100)) == [("cell-0", 0), ("cell-0", 10)]
    write(folder, 1, range(1))
    with closing(merged(folder)) as source:
        assert names(all_of(source))[2:] == [("cell-1", 0)]
        assert source.streams().keys() == {f"cell-{n}/b1/{RUN}" for n in (0, 1)}


def test_a_run_that_had_one_log_keeps_its_numbers_when_it_gets_more(folder: RunFolder) -> None:
    write(folder, 0, range(5))
    write(folder, 1, range(5))
    with closing(merged(folder)) as source:
        found = all_of(source)
    assert [ref.seq for ref in found[:5]] == [1, 2, 3, 4, 5]
    assert names(found[:5]) == [("cell-0", 10 * n) for n in range(5)]


def test_a_chunk_waits_for_what_comes_before_it_in_its_stream(folder: RunFolder) -> None:
    stream = f"cell-1/b1/{RUN}"
    write(folder, 1, range(3))
    table = ShardTable(folder.shards)
    table.leave("cell-1")
    table.arrive("cell-1", 0, {stream: 29}, 3)
    with Log(folder.log) as log:
        log.open_stream(stream, SCHEMA)
        log.append_gap(stream, 0, 29)
        log.append(stream, rows_at(30, 10))
        log.commit()
    with closing(merged(folder)) as source:  # the shard with the lower number is asked first
        assert [ref.first for ref in all_of(source, most=1)] == [0, 10, 20, 30]


def test_a_rank_sees_its_own_shards_and_the_demonstrations_of_all(folder: RunFolder) -> None:
    write(folder, 0, range(1), klass=Klass.DEMONSTRATION)
    write(folder, 0, range(1, 3))
    write(folder, 1, range(2))
    with closing(merged(folder, mine=own_shards(1, 2))) as source:
        assert names(all_of(source)) == [("cell-0", 0), ("cell-1", 0), ("cell-1", 10)]


def test_what_a_shard_has_dropped_says_where_online_rows_begin(folder: RunFolder) -> None:
    write(folder, 0, range(40))
    write(folder, 1, range(40))
    with closing(merged(folder)) as source:
        whole = {(ref.stream, ref.first): ref.seq for ref in all_of(source)}
        assert source.first_online() == 0
    write(folder, 1, range(40, 41), keep=100)
    with closing(merged(folder)) as source:
        left = all_of(source)
        first = min(ref.first for ref in left if ref.stream.startswith("cell-1"))
        assert first > 0
        assert source.first_online() == whole[f"cell-1/b1/{RUN}", first]
        assert all(whole.get((ref.stream, ref.first), ref.seq) == ref.seq for ref in left)


def test_a_checkpoint_pins_what_it_needs_of_each_log(folder: RunFolder) -> None:
    write(folder, 0, range(2))
    write(folder, 1, range(3))
    with closing(merged(folder)) as source:
        seq = all_of(source)[-1].seq
        taken = RunClaim(folder.log, source, Wanted()).take(seq, None)
    assert {number: found.seq for number, found in taken.items()} == {0: 2, 1: 3}
    assert all(pins(path)["checkpoint"].segments for path in folder.logs().values())


def test_the_order_outlives_its_process_and_a_torn_end(tmp_path: Path) -> None:
    path = tmp_path / "order"
    with closing(Order(path)) as order:
        assert [order.add(0, 4), order.add(1, 2), order.add(0, 5)] == [
            Stretch(0, 0, 4, 4), Stretch(1, 0, 2, 6), Stretch(0, 4, 5, 7)
        ]  # fmt: skip
        order.sync()
    with path.open("ab") as file:
        file.write(b"\x01" * 9)
    with closing(Order(path)) as order:
        assert [order.at(n) for n in (0, 3, 4, 5, 7)] == [{}, {0: 3}, {0: 4}, {0: 4, 1: 1}, {0: 5, 1: 2}]
        assert (order.number(1, 2), order.number(0, 5), order.number(1, 3)) == (6, 7, 8)
        assert order.add(1, 3) == Stretch(1, 2, 3, 8)
    assert path.stat().st_size == len(MAGIC) + 4 * 16
    with path.open("ab") as file:
        file.write(bytes(32))  # a page that a power cut left empty
    with closing(Order(path)) as order:
        assert order.end == 8
    assert path.stat().st_size == len(MAGIC) + 4 * 16


def test_an_order_that_cannot_be_written_takes_nothing_in(folder: RunFolder) -> None:
    write(folder, 0, range(2))
    order = Order(folder.order)
    os.close(order._fd)
    order._fd = os.open(folder.order, os.O_RDONLY)  # every write fails
    with closing(Merged(folder.logs, table_reader(folder.shards), order)) as source:
        assert source.refs(0, 100) == []
    with pytest.raises(StorageError, match="make its folder writable"):
        Order(folder.root / "nowhere" / "order")
