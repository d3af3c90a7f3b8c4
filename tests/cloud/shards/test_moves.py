"""Cells move between shards that live, die and come back, while drivers die: no row is lost, none is seen twice."""

import tempfile
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cloud.run import RunFolder
from cloud.shards.assign import Load
from cloud.shards.keeper import Keeper
from cloud.shards.reader import open_log, open_source
from cloud.shards.table import ShardTable
from cloud.testing import episode_rows
from tests.cloud.shards.world import CELL, RUN, SCHEMA, STREAM, Crash, Edge, World, rows_at
from user_rl.errors import StorageError
from user_rl.log import Log, compare
from user_rl.log.reader import Reader
from user_rl.specs import Array

ACTIONS = ("record", "send", "send without commit", "move", "crash early", "crash late", "follow", "kill", "start")


def seen_rows(root: Path) -> Array:
    """What the learner reads of the stream, in its order."""
    source = open_source(RunFolder(root))
    with source.hold() as hold:
        parts = [hold.plain(ref).copy() for ref in source.refs(0, 10_000) if ref.stream == STREAM]
    source.close()
    return np.concatenate(parts) if parts else SCHEMA.new(0)


def move(world: World, to: int) -> None:
    world.keeper().tick({CELL: Load()}, {to: ""})


def crashing(world: World, *, late: bool) -> Keeper:
    """A driver that dies before, or after, the old shard has said how far it has come."""

    def fence(shard: int, cell: str) -> None:
        if late:
            world.fence(shard, cell)
        raise Crash("here")

    return Keeper(ShardTable(world.table), fence)


def act(world: World, edge: Edge, action: str, shard: int) -> None:
    if action == "record":
        edge.record(3 + shard)
    elif action.startswith("send"):
        world.send(edge, commit=action == "send")
    elif action == "move":
        move(world, shard)
    elif action.startswith("crash"):
        if ShardTable(world.table).now.home(CELL).shard != shard:
            with pytest.raises(Crash):
                crashing(world, late=action == "crash late").tick({CELL: Load()}, {shard: ""})
    elif action == "follow":
        world.follow(edge)
    elif action == "kill":
        world.kill(shard)
    else:
        world.start(shard)


@settings(max_examples=25, deadline=None)
@given(st.lists(st.tuples(st.sampled_from(ACTIONS), st.integers(0, 1)), max_size=14))
def test_whoever_dies_and_whenever_each_row_is_seen_once_and_in_order(script: list[tuple[str, int]]) -> None:
    with tempfile.TemporaryDirectory(prefix="shards-") as folder:
        world = World(Path(folder))
        edge = Edge(Path(folder))
        edge.record(5)
        for action, shard in script:
            act(world, edge, action, shard)
            assert edge.uplink.acknowledged.get(STREAM, -1) <= edge.spool.synced(STREAM)
        for shard in (0, 1):
            world.start(shard)
        move(world, 1)
        world.follow(edge)
        world.send(edge)
        world.send(edge)
        assert edge.uplink.done
        world.close()
        edge.spool.close()
        seen = seen_rows(world.root)
        assert seen["step"].tolist() == list(range(edge.spool.synced(STREAM) + 1))
        with open_log(RunFolder(world.root)) as cloud, Reader(Path(folder) / f"spool-{CELL}") as spool:
            same = compare(spool, cloud, RUN)
        assert (same.rows, same.rows_lost, same.rows_duplicated, same.rows_differing) == (len(seen), 0, 0, 0)


@pytest.fixture
def world(tmp_path: Path) -> World:
    return World(tmp_path)


def test_a_shard_that_was_left_refuses_rows_and_the_new_one_goes_on_behind_it(world: World, tmp_path: Path) -> None:
    edge = Edge(tmp_path)
    edge.record(4)
    world.send(edge)
    move(world, 1)
    edge.record(4)
    world.send(edge)  # still to the old one
    assert world.logs[0].appended(STREAM) == 3
    world.follow(edge)
    world.send(edge)
    assert world.logs[1].synced(STREAM) == 7
    assert [(c.first, c.last) for c in world.logs[1].read(STREAM, 0, 10**6)] == [(4, 7)]


def test_nothing_is_trimmed_that_no_shard_has_synced(world: World, tmp_path: Path) -> None:
    edge = Edge(tmp_path)
    edge.record(4)
    world.send(edge, commit=False)
    assert edge.uplink.acknowledged.get(STREAM, -1) == -1
    world.kill(0)  # with rows that were never committed
    move(world, 1)
    world.follow(edge)
    world.send(edge, commit=False)
    assert edge.uplink.acknowledged.get(STREAM, -1) == -1
    world.send(edge)
    edge.record(2)
    world.send(edge)
    assert edge.uplink.acknowledged[STREAM] == 5
    assert world.logs[1].synced(STREAM) == 5


def test_rows_beyond_its_range_in_the_log_of_a_shard_that_came_back_are_not_seen(world: World, tmp_path: Path) -> None:
    edge = Edge(tmp_path)
    edge.record(4)
    world.send(edge)
    move(world, 1)
    world.follow(edge)
    edge.record(5)
    world.send(edge)
    world.close()
    with Log(world.folder(0)) as old:  # as if it had taken what was sent again elsewhere, and other rows still
        old.append(STREAM, episode_rows(SCHEMA, np.random.default_rng(9), length=9, first_step=4, number=9))
        old.commit()
    seen = seen_rows(world.root)
    assert seen["step"].tolist() == list(range(9))
    assert seen[4:].tobytes() == rows_at(4, 5).tobytes()
    with open_log(RunFolder(world.root)) as cloud:
        assert cloud.synced(STREAM) == 8
        assert [(e.first_step, e.length) for e in cloud.episodes()] == [(0, 3), (4, 4)]
        assert cloud.gaps() == []


def test_a_cell_may_return_to_a_shard_that_it_left(world: World, tmp_path: Path) -> None:
    edge = Edge(tmp_path)
    for home in (1, 0, 1):
        edge.record(3)
        world.send(edge)
        move(world, home)
        world.follow(edge)
    edge.record(3)
    world.send(edge)
    world.close()
    assert seen_rows(world.root)["step"].tolist() == list(range(12))


def test_a_shard_that_is_still_named_by_the_table_lets_no_cell_be_fenced(world: World, tmp_path: Path) -> None:
    edge = Edge(tmp_path)
    edge.record(3)
    world.send(edge)
    with pytest.raises(StorageError, match="is still this shard's own; take it away in the table first"):
        world.fence(0, CELL)


def test_the_log_of_a_shard_that_runs_is_not_looked_at_as_if_it_were_dead(world: World) -> None:
    from cloud.shards.keeper import fence_dead

    assert fence_dead(world.folder(0), CELL, RUN) is None
    assert fence_dead(world.root / "log-7", CELL, RUN) is None
    world.kill(0)
    assert fence_dead(world.folder(0), CELL, RUN) == ({}, 0)


def test_a_move_that_waits_says_for_whom(world: World) -> None:
    keeper = Keeper(ShardTable(world.table), lambda _shard, _cell: None)
    keeper.tick({CELL: Load()}, {1: ""})
    assert keeper.trouble == "cell-0 waits for shard 0, which does not say how far it has come"
    assert ShardTable(world.table).now.home(CELL).leaving
    move(world, 1)
    assert ShardTable(world.table).now.home(CELL).shard == 1


def test_two_cells_go_to_two_shards_and_their_permits_and_doors_follow(world: World) -> None:
    from user_rl.fleet import Doors

    keeper = world.keeper()
    keeper.tick({"a": Load(), "b": Load()}, {0: "", 1: ""})
    doors = {0: Doors(experience="zero"), 1: Doors(experience="one")}
    assert keeper.doors(doors) == {"a": doors[1]} or keeper.doors(doors) == {"b": doors[1]}
    keeper.tick({"a": Load(), "b": Load()}, {0: "", 1: ""})
    assert keeper.moved == 1
