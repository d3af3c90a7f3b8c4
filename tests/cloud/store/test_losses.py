"""What the log has lost is not learned from any more, and the run goes on: damage, retention, and draws made ahead."""

import logging
import re
import shutil
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from cloud.batch import Batch
from cloud.store.horizons import Horizon, Horizons, Seen
from cloud.store.replay import Replay, ReplayConfig
from cloud.store.sampler import Moment, Pool
from cloud.store.sight import runs
from cloud.testing import state_schema
from tests.cloud.store.logs import STREAM, elsewhere, flip, online, rows_of, unflip, write
from tests.cloud.store.rows import History
from user_rl.clock import FakeClock
from user_rl.config import Tree
from user_rl.errors import NothingToDraw
from user_rl.log import Reader
from user_rl.log.reader import first_online
from user_rl.specs import Array

SCHEMA = state_schema()
STATE = "observation.state"
PRIORITISED: Tree = {"name": "mixture", "parts": [{"share": 1.0, "sampler": {"name": "prioritised"}}]}

CHUNKS = {"shape": {"name": "chunk", "length": 3}}


@pytest.fixture
def path(tmp_path: Path) -> Path:
    write(tmp_path / "log", SCHEMA)
    return tmp_path


class Run:
    """A replay on a log of its own reader, and what it draws."""

    def __init__(self, path: Path, **config: Any) -> None:  # noqa: ANN401
        config.setdefault("ahead", 0)
        self.reader = Reader(path / "log")
        self.replay = Replay(
            self.reader, ReplayConfig(**config), SCHEMA, seed=3, run=path, demonstration_share=0.25,
            clock=FakeClock(),
        )  # fmt: skip
        self.replay.catch_up()

    def draw(self, number: int, size: int = 64) -> list[bytes]:
        batch = self.replay.sample(number, size)
        self.replay.learned(number, np.abs(batch.observation[STATE][:, 0]))
        return ids_of(batch)

    def close(self) -> None:
        self.replay.close()
        self.reader.close()


def ids_of(batch: Batch) -> list[bytes]:
    """What tells each sampled step from every other."""
    return [state.tobytes() for state in batch.observation[STATE]]


def steps_of(number: int) -> set[bytes]:
    return {row.tobytes() for row in rows_of(SCHEMA, number)[STATE][:-1]}


def lines(caplog: pytest.LogCaptureFixture, level: int) -> list[str]:
    return [r.message for r in caplog.records if r.levelno == level and r.name.startswith("cloud")]


@pytest.mark.parametrize("config", [{}, {"ahead": 3}, {"sampler": PRIORITISED}, {"sampler": PRIORITISED, "ahead": 3}])
def test_a_damaged_chunk_is_told_once_and_the_rest_is_drawn(
    path: Path, config: dict[str, Any], caplog: pytest.LogCaptureFixture
) -> None:
    flip(path / "log", rows_of(SCHEMA, 30))
    with closing(Run(path, cache_rows=50, **config)) as run:
        drawn = {key for n in range(40) for key in run.draw(n)}
        assert len(drawn) > 400
        assert not drawn & steps_of(30)
        assert run.replay.index.is_lost(np.arange(300, 310)).all()
    (line,) = lines(caplog, logging.ERROR)
    assert re.search("chunk at step 300.*; its rows are not learned from any more: look at user-rl buffer verify", line)


@pytest.mark.slow
@pytest.mark.parametrize("config", [{}, {"sampler": PRIORITISED, "ahead": 3}, CHUNKS])
def test_a_segment_that_retention_drops_under_the_replay_is_left_out(
    path: Path, config: dict[str, Any], caplog: pytest.LogCaptureFixture
) -> None:
    with closing(Run(path, cache_rows=0, **config)) as run:
        before = {key for n in range(10) for key in run.draw(n)}
        assert before & steps_of(5)
        elsewhere(f"logs.write(Path({str(path / 'log')!r}), state_schema(), 61, first=60, keep_rows=200)")
        kept = online(path / "log")
        assert len(kept) < 10
        run.replay.refresh()  # as the learner does all the time; the second has not passed
        for n in range(10, 14):
            run.draw(n)  # two of them were read before
        drawn = {key for n in range(14, 40) for key in run.draw(n)}
        assert drawn
        first = int(kept[0].rpartition("-")[2]) - 1  # the episode of that commit
        assert not drawn & {key for number in range(3, first) for key in steps_of(number)}
    told = lines(caplog, logging.WARNING)
    assert told
    assert "set replay.capacity_rows = 200000 lower, or log.retention so that it keeps more" in told[0]
    assert not lines(caplog, logging.ERROR)


@pytest.mark.slow
def test_a_segment_gone_from_the_middle_takes_one_line_and_nothing_else(
    path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with closing(Run(path, cache_rows=0)) as run:
        middle = online(path / "log")[3]
        shutil.rmtree(path / "log" / middle)
        run.replay.refresh()
        drawn = {key for n in range(60) for key in run.draw(n)}
        lost = run.replay.index.lost
        assert len(lost) == 3
        rows = np.flatnonzero(run.replay.index.is_lost(np.arange(run.replay.rows)))
        assert not drawn & {key for number in set((rows // 10).tolist()) for key in steps_of(number)}
        assert len(drawn) > 300
    assert [re.sub("online-[0-9]+", "X", line)[:46] for line in lines(caplog, logging.WARNING)] == [
        "segment X is gone, with rows that could be dra"
    ]


def test_losing_everything_leaves_nothing_to_draw(path: Path) -> None:
    with closing(Run(path, cache_rows=0)) as run:
        run.draw(0)
        for folder in (path / "log").glob("*-*"):
            shutil.rmtree(folder)
        run.replay.refresh()
        with pytest.raises(NothingToDraw):
            run.draw(1)
        assert not run.replay.can_sample()


@pytest.mark.parametrize("config", [{}, {"sampler": PRIORITISED}, {"sampler": PRIORITISED, "ahead": 3}])
def test_a_resumed_run_repeats_its_draws_after_a_loss(path: Path, config: dict[str, Any]) -> None:
    flip(path / "log", rows_of(SCHEMA, 30))
    with closing(Run(path, cache_rows=0, **config)) as run:
        drawn = [run.draw(n) for n in range(12)]
        state = run.replay.state_dict(12)
        later = [run.draw(n) for n in range(12, 20)]
        assert run.replay.index.lost
    assert {key for batch in drawn + later for key in batch}
    with closing(Run(path, cache_rows=0, **config)) as again:
        again.replay.load_state_dict(state)
        assert [again.draw(n) for n in range(12, 20)] == later


def test_the_first_episode_that_retention_left_is_drawn(path: Path) -> None:
    write(path / "log", SCHEMA, 61, first=60, keep_rows=200)
    first = int(online(path / "log")[0].rpartition("-")[2]) - 1
    with closing(Run(path)) as run:
        drawn = {key for n in range(20) for key in run.draw(n)}
        assert first > 20
        assert drawn >= steps_of(first)


def test_what_could_not_be_read_is_not_drawn_again_when_it_is_back(
    path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with closing(Run(path, cache_rows=0)) as run:
        whole = [run.draw(n) for n in range(8)]
    flip(path / "log", rows_of(SCHEMA, 30))
    with closing(Run(path, cache_rows=0)) as run:
        damaged = [run.draw(n) for n in range(8)]
        assert damaged != whole
        assert len(lines(caplog, logging.ERROR)) == 1
    at = next(n for n in range(8) if damaged[n] != whole[n])
    unflip(path / "log", rows_of(SCHEMA, 30))
    with closing(Run(path, cache_rows=0)) as run:
        assert [run.draw(n) for n in range(at, 8)] == damaged[at:]
        assert run.replay.index.lost
    assert len(lines(caplog, logging.ERROR)) == 1


def test_a_lost_chunk_is_neither_drawn_nor_followed_to() -> None:
    rng = np.random.default_rng(0)
    head = stretch(30)
    index = History([("cell/00/run", head[:10]), ("cell/00/run", head[10:20]), ("cell/00/run", head[20:])]).index()
    seen = Moment(index=index, end=30, number=0).online
    assert seen.matching().tolist() == list(range(29))
    assert index.lose(1).tolist() == list(range(10, 20))
    assert seen.matching().tolist() == [*range(9), *range(20, 29)]
    assert set(seen.draw(rng, 1000).tolist()) == {*range(9), *range(20, 29)}
    index.lose(2)
    assert seen.matching().tolist() == list(range(9))
    assert index.is_lost(np.arange(30)).tolist() == [False] * 10 + [True] * 20


def test_rows_that_come_after_a_lost_end_do_not_follow_it() -> None:
    index, head = History([("cell/00/run", stretch(30)[:10])]).index(), stretch(30)
    index.lose(0)
    from cloud.store.index import Place

    index.append([Place("cell/00/run", 2, 20)], head[10:])
    assert Moment(index=index, end=30, number=0).online.matching().tolist() == list(range(10, 29))


def stretch(length: int) -> Array:
    from cloud.store.index import HEAD

    head = np.zeros(length, HEAD)
    head["step"] = np.arange(length)
    return head


def drawn_by(path: Path, config: dict[str, Any], numbers: range) -> Iterator[list[bytes]]:
    with closing(Run(path, **config)) as run:
        for n in numbers:
            yield run.draw(n)


@pytest.mark.slow
@pytest.mark.parametrize(
    "sampler",
    [None, PRIORITISED, {"name": "recent", "episodes": 30}, {"name": "uniform", "of": "shown"}, {"name": "outcome"}],
)
@pytest.mark.parametrize("capacity", [100, 10_000])
def test_a_trimmed_log_gives_the_same_rows_to_who_saw_it_whole_and_who_did_not(
    path: Path, capacity: int, sampler: Tree | None
) -> None:
    config = {"capacity_rows": capacity, "sampler": sampler}
    with closing(Run(path, **config)) as whole:
        elsewhere(f"logs.write(Path({str(path / 'log')!r}), state_schema(), 61, first=60, keep_rows=200)")
        whole.replay.catch_up()
        drawn = [whole.draw(n) for n in range(6)]
    (path / "horizons").rename(path / "seen by who saw it whole")
    (path / "horizons.seen").unlink()
    with closing(Run(path, **config)) as fresh:
        assert len(fresh.replay.index) < 400
        assert [fresh.draw(n) for n in range(6)] == drawn
    old = Horizons(path / "seen by who saw it whole")
    assert old.of(0) is None
    old.close()


@pytest.mark.slow
def test_a_resumed_run_repeats_its_draws_in_a_log_that_was_trimmed_between_two_draws(path: Path) -> None:
    config: dict[str, Any] = {"capacity_rows": 150, "interventions_are_demonstrations": False}
    with closing(Run(path, **config)) as run:
        before = [run.draw(n) for n in range(4)]
        elsewhere(f"logs.write(Path({str(path / 'log')!r}), state_schema(), 61, first=60, keep_rows=300)")
        run.replay.catch_up()
        after = [run.draw(n) for n in range(4, 8)]
    assert list(drawn_by(path, config, range(8))) == before + after
    journal = Horizons(path / "horizons")
    first, last = journal.of(3), journal.of(4)
    assert first is not None
    assert last is not None
    assert (first.seen.first, last.seen.first > 4, last.seq) == (4, True, 61)
    journal.close()


def test_the_first_online_commit_is_that_of_the_oldest_segment() -> None:
    assert first_online(["demonstration-00000001", "online-00000012", "online-00000007"]) == 7
    assert first_online(["demonstration-00000001"]) == 0
    assert runs([1, 2, 3, 7, 9, 10]) == ((1, 3), (7, 7), (9, 10))


def test_old_online_rows_are_out_of_every_pool_but_demonstrations_stay(path: Path) -> None:
    with closing(Run(path)) as run:
        index = run.replay.index
        at = Moment(index=index, end=len(index), number=0, online_from=index.at(50))
        assert at.of(Pool.ONLINE).rows.min() == 500
        assert at.of(Pool.INTERVENTIONS).rows.min() == 504
        assert at.of(Pool.SHOWN).rows[:31].tolist() == [*range(30), 504]
    assert Horizon(3) == Horizon(3, Seen())
    assert STREAM
