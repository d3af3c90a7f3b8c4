from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

from tests.user_rl.log.recorded import SCHEMA, STREAM, mixed, rows
from user_rl.clock import FakeClock
from user_rl.columns import Holdings
from user_rl.log import Chunk, Episode, Log, Reader
from user_rl.rows import Klass, Schema


class Source:
    """A log that has the steps it is told to have, all of one stream and in episodes of ten."""

    def __init__(self, steps: Sequence[int], synced: int) -> None:
        self.steps, self.last, self.looks = list(steps), synced, 0

    def streams(self) -> dict[str, Schema]:
        return {STREAM: SCHEMA}

    def synced(self, stream: str) -> int:
        return self.last

    def episodes(self) -> list[Episode]:
        self.looks += 1
        found = []
        for number in sorted({step // 10 for step in self.steps}):
            mine = [step for step in self.steps if step // 10 == number]
            found.append(
                Episode(
                    stream=STREAM, episode=number, klass=Klass.ONLINE, first_step=mine[0], length=len(mine) - 1,
                    reward_sum=0.0, success=False, interventions=0, version=1, closed=len(mine) == 10,
                )
            )  # fmt: skip
        return found

    def read(self, stream: str, first: int, max_bytes: int) -> list[Chunk]:
        there = [step for step in self.steps if step >= first]
        return [Chunk(stream, there[0], 1, 0, b"")] if there else []


def held(source: Source, ids: Sequence[int]) -> list[bool]:
    found: list[bool] = Holdings(source, clock=FakeClock()).held(STREAM, np.array(ids), "row")[0].tolist()
    return found


@pytest.mark.parametrize(
    "steps",
    [range(40), range(20, 40), [*range(5), *range(8, 40)], [*range(10), *range(30, 40)], [*range(33), 35], []],
    ids=["all", "trimmed", "gap in an episode", "episodes gone", "gap at the end", "none"],
)
def test_exactly_the_rows_of_the_log_are_held(steps: Sequence[int]) -> None:
    asked = list(range(-2, 45))
    assert held(Source(steps, 39), asked) == [step in set(steps) for step in asked]


def test_a_row_that_was_there_once_is_known_as_such() -> None:
    holdings = Holdings(Source(range(20, 40), 39), clock=FakeClock())
    assert holdings.held(STREAM, np.array([-1, 3, 39, 40]), "row")[1].tolist() == [False, True, True, False]
    assert holdings.held(STREAM, np.array([0, 2, 3, 4]), "episode")[0].tolist() == [False, True, True, False]
    assert holdings.held(STREAM, np.array([0, 2, 3, 4]), "episode")[1].tolist() == [True, True, True, False]
    assert not holdings.held("other/b/run", np.array([0]), "row")[1].any()
    assert holdings.lowest("row") == {STREAM: 20}
    assert holdings.lowest("episode") == {STREAM: 2}


def test_a_stream_whose_rows_are_all_gone_has_its_lowest_row_ahead() -> None:
    holdings = Holdings(Source([], 39), clock=FakeClock())
    assert holdings.lowest("row") == {STREAM: 40}
    assert holdings.lowest("episode") == {}


def test_new_rows_are_looked_for_but_not_all_the_time() -> None:
    source, clock = Source(range(10), 9), FakeClock()
    holdings = Holdings(source, clock=clock)
    assert not holdings.held(STREAM, np.array([10]), "row")[0].any()
    source.steps, source.last = list(range(20)), 19
    assert not holdings.held(STREAM, np.array([10]), "row")[0].any()
    clock.advance(0.5)
    assert holdings.held(STREAM, np.array([10]), "row")[0].all()
    assert source.looks == 2
    source.steps = list(range(10, 20))
    assert holdings.held(STREAM, np.array([5, 10]), "row")[0].tolist() == [True, True]
    clock.advance(10.0)
    assert holdings.held(STREAM, np.array([5, 10]), "row")[0].tolist() == [False, True]


def test_a_real_log_says_what_it_holds(tmp_path: Path) -> None:
    with Log(tmp_path / "log") as log:
        log.open_stream(STREAM, SCHEMA)
        log.append(STREAM, mixed(0, 30))
        log.append_gap(STREAM, 30, 36)
        log.append(STREAM, rows(37, 10))
        log.commit()
    wanted = [step in range(30) or step in range(37, 47) for step in range(60)]
    with Reader(tmp_path / "log") as reader:
        holdings = Holdings(reader, clock=FakeClock())
        found, was = holdings.held(STREAM, np.arange(60), "row")
        assert found.tolist() == wanted
        assert was.tolist() == [step < 47 for step in range(60)]
        assert holdings.lowest("row") == {STREAM: 0}
