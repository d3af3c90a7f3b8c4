"""On-policy draws against a slow book-keeping of every episode, however the history and the draws lie."""

from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cloud.staleness import FreshState
from cloud.store.index import Index
from cloud.store.kits import generator
from cloud.store.sampler import Moment
from cloud.store.samplers import make_sampler
from cloud.store.samplers.on_policy import OnPolicy, check_queues, queue_in, with_queue, without_queue
from tests.cloud.store.rows import History, histories
from tests.cloud.store.samplers.slow import Slow
from user_rl.errors import ConfigError, NothingToDraw, SpecError
from user_rl.rows import Kind, Klass
from user_rl.specs import Array

AHEAD = 3


def make(max_versions: int = 3, limit: int = 1024) -> OnPolicy:
    made = make_sampler({"name": "on_policy", "max_versions": max_versions, "limit": limit}, AHEAD)
    assert isinstance(made, OnPolicy)
    return made


@dataclass
class Waiting:
    """An episode whose steps, by row number, nobody has had."""

    version: int
    arrival: int
    steps: list[int]


@dataclass
class Book:
    """Who waits, and what became of the others, row by row."""

    rows: list[dict[str, Any]]
    max_versions: int
    limit: int
    capacity: int | None
    end: int = 0
    waiting: list[Waiting] = field(default_factory=list)
    counts: dict[str, int] = field(default_factory=lambda: dict.fromkeys(("arrived", "taken", "expired", "refused"), 0))

    def draw(self, end: int, now: int, count: int) -> list[int] | None:
        """The rows of a draw; None, and nothing has changed, when there are too few."""
        before, known, counts = [Waiting(w.version, w.arrival, w.steps) for w in self.waiting], self.end, self.counts
        self.counts = dict(counts)
        for i in range(self.end, end):
            if self.rows[i]["kind"] == Kind.LAST and self.rows[i]["klass"] == Klass.ONLINE:
                self._arrive(self._steps(i), now)
        self.end = end
        found = self._take(now, count)
        if len(found) < count:
            self.waiting, self.end, self.counts = before, known, counts
            return None
        return found

    def _steps(self, last: int) -> list[int]:
        end = self.rows[last]
        mine = [i for i in range(last) if self.rows[i]["stream"] == end["stream"]]
        mine = [i for i in mine if self.rows[i]["episode"] == end["episode"] and self.rows[i]["kind"] == Kind.STEP]
        return [i for i in mine if not self.rows[i]["is_intervention"] and self.rows[i]["version"] > 0]

    def _arrive(self, steps: list[int], now: int) -> None:
        if not steps:
            return
        if len(self.waiting) >= self.limit:
            self._expire(now)
        if len(self.waiting) >= self.limit:
            self.counts["refused"] += 1
            return
        version = min(self.rows[i]["version"] for i in steps)
        self.waiting.append(Waiting(version, self.counts["arrived"], steps))
        self.counts["arrived"] += 1

    def _expire(self, now: int) -> None:
        kept = [w for w in self.waiting if now - w.version <= self.max_versions]
        self.counts["expired"] += len(self.waiting) - len(kept)
        self.waiting = kept

    def _take(self, now: int, count: int) -> list[int]:
        allowed = Slow(self.rows, self.end, self.capacity).weights({"name": "uniform"})
        found: list[int] = []
        self._expire(now)
        while self.waiting and len(found) < count:
            soonest = min(self.waiting, key=lambda w: (w.version, w.arrival))
            self.waiting.remove(soonest)
            usable = [i for i in soonest.steps if i in allowed]
            self.counts["taken" if usable else "expired"] += 1
            missing = count - len(found)
            found += usable[:missing]
            if len(usable) > missing:
                self.waiting.append(Waiting(soonest.version, soonest.arrival, usable[missing:]))
                self.counts["taken"] -= 1
        return found


def counts_of(state: FreshState) -> dict[str, int]:
    return {name: getattr(state, name) for name in ("arrived", "taken", "expired", "refused")}


def state_of(sampler: OnPolicy, number: int) -> FreshState:
    found = queue_in(sampler.state_dict(number))
    assert found is not None
    return found


DRAWS = st.lists(st.tuples(st.integers(0, 25), st.integers(0, 2), st.integers(1, 6)), min_size=1, max_size=12)


@pytest.mark.slow
@given(histories(), DRAWS, st.sampled_from([None, 6, 25]), st.sampled_from([1, 2, 1024]), st.data())
@settings(max_examples=200, deadline=None)
def test_each_step_of_each_closed_episode_comes_once_what_expires_first_before_the_rest(
    h: History, draws: list[tuple[int, int, int]], capacity: int | None, limit: int, data: st.DataObject
) -> None:
    index, sampler, book = h.index(), make(3, limit), Book(h.rows(), 3, limit, capacity)
    end, now, number, handed = 0, 1, 0, list[int]()
    for move, newer, count in draws:
        end, now = min(len(index), end + move), now + newer
        at = Moment(index=index, end=end, number=number, version=now, capacity_rows=capacity)
        wanted = book.draw(end, now, count)
        assert sampler.can_draw(at.asking(count)) == (wanted is not None)
        if wanted is None:
            with pytest.raises(NothingToDraw, match=f"^fewer than {count} fresh steps wait; "):
                sampler.draw(at, generator(number), count)
        else:
            drawn = sampler.draw(at, generator(number), count)
            assert sorted(drawn.rows.tolist()) == sorted(wanted)
            assert (drawn.weights == 1).all()
            handed += wanted
            number += 1
        if data.draw(st.booleans()):  # a successor, whose index was filled otherwise
            saved, index = sampler.state_dict(number), h.index((2, 5))
            sampler = make(3, limit)
            sampler.load_state_dict(saved)
    assert len(set(handed)) == len(handed)
    assert counts_of(state_of(sampler, number)) == book.counts
    assert len(state_of(sampler, number).waiting) == len(book.waiting)


def stretch(*versions: int, length: int = 5) -> Index:
    """Episodes of `length` steps of one stream, which these versions made, each in a chunk."""
    from cloud.store.index import HEAD

    chunks: list[tuple[str, Array]] = []
    for number, version in enumerate(versions):
        head = np.zeros(length + 1, HEAD)
        head["step"], head["episode"] = number * (length + 1) + np.arange(length + 1), number
        head["version"], head["kind"][-1] = version, Kind.LAST
        chunks.append(("cell/00/run", head))
    return History(chunks).index()


def moment(index: Index, number: int, end: int, version: int) -> Moment:
    return Moment(index=index, end=end, number=number, version=version)


def test_a_draw_takes_the_oldest_episode_first_and_leaves_the_rest_of_one_for_the_next() -> None:
    index, sampler = stretch(4, 2, 3), make(2)
    first = sampler.draw(moment(index, 0, 18, 4), generator(0), 7).rows
    assert sorted(first.tolist()) == [6, 7, 8, 9, 10, 12, 13]
    rest = sampler.draw(moment(index, 1, 18, 4), generator(1), 8).rows
    assert sorted(rest.tolist()) == [0, 1, 2, 3, 4, 14, 15, 16]
    assert not sampler.can_draw(moment(index, 2, 18, 4))
    state = state_of(sampler, 2)
    assert (state.taken, state.taken_rows, state.expired, state.refused, state.waiting) == (3, 15, 0, 0, ())


def test_an_episode_in_progress_is_waited_for_and_what_is_too_old_never_comes() -> None:
    index, sampler = stretch(1, 5), make(1)
    assert not sampler.can_draw(moment(index, 0, 5, 1))
    assert sampler.can_draw(moment(index, 0, 6, 1))
    assert sampler.can_draw(moment(index, 0, 6, 2))
    assert not sampler.can_draw(moment(index, 0, 6, 3))
    drawn = sampler.draw(moment(index, 0, 12, 6), generator(0), 5).rows
    assert sorted(drawn.tolist()) == [6, 7, 8, 9, 10]
    assert counts_of(state_of(sampler, 1)) == {"arrived": 2, "taken": 1, "expired": 1, "refused": 0}


def test_an_episode_without_a_place_is_refused_and_counted_unless_one_that_waits_has_expired() -> None:
    index, sampler = stretch(1, 2, 3, 4), make(1, limit=2)
    sampler.draw(moment(index, 0, 24, 2), generator(0), 1)
    assert counts_of(state_of(sampler, 1)) == {"arrived": 2, "taken": 0, "expired": 0, "refused": 2}
    other = make(1, limit=2)
    other.draw(moment(index, 0, 24, 4), generator(0), 1)
    assert counts_of(state_of(other, 1)) == {"arrived": 4, "taken": 0, "expired": 2, "refused": 0}


def test_draws_made_ahead_do_not_count_in_the_state_before_them() -> None:
    index, sampler = stretch(*[1] * 6), make(2)
    drawn = [sorted(sampler.draw(moment(index, n, 36, 1), generator(n), 5).rows.tolist()) for n in range(4)]
    assert [state_of(sampler, n).taken for n in (1, 2, 3, 4)] == [1, 2, 3, 4]
    again = make(2)
    again.load_state_dict(sampler.state_dict(2))
    assert [sorted(again.draw(moment(index, n, 36, 1), generator(n), 5).rows.tolist()) for n in (2, 3)] == drawn[2:]
    for n in (4, 5):
        sampler.draw(moment(index, n, 36, 1), generator(n), 5)
    with pytest.raises(SpecError, match=r"^the queue's state before draw 0: allowed from 2 on; save after the update$"):
        sampler.state_dict(0)
    with pytest.raises(SpecError, match=r"^draw 5 after draw 5, allowed growing numbers; load a state$"):
        sampler.draw(moment(index, 5, 36, 1), generator(5), 5)


def test_rows_that_retention_took_count_as_expired() -> None:
    index, sampler = stretch(1, 1, 1), make(2)
    at = Moment(index=index, end=18, number=0, version=1, online_from=12)
    assert sorted(sampler.draw(at, generator(0), 5).rows.tolist()) == [12, 13, 14, 15, 16]
    assert counts_of(state_of(sampler, 1)) == {"arrived": 3, "taken": 1, "expired": 2, "refused": 0}


def test_the_queue_is_found_in_the_state_of_a_mixture_and_put_back_there() -> None:
    state = {"0.number": np.arange(3), "1.queue": make().state_dict(0)["queue"]}
    assert queue_in(state) == FreshState()
    assert queue_in(without_queue(state)) is None
    kept = FreshState(taken=4, seq=9, record=2)
    whole = with_queue(without_queue(state), state, kept)
    assert whole.keys() == state.keys()
    assert queue_in(whole) == kept
    assert queue_in(with_queue({}, state, None)) == FreshState()
    with pytest.raises(ConfigError, match=r"^replay\.sampler: on_policy twice, allowed once; "):
        check_queues({**state, "2.queue": state["1.queue"]})


def test_a_state_that_cannot_be_read_is_refused() -> None:
    with pytest.raises(SpecError, match=r"^a queue's state cannot be read: .*; resume from another checkpoint$"):
        make().load_state_dict({"queue": np.frombuffer(b"{]", np.uint8)})
