"""Prioritised draws against a slow book-keeping of every row's tickets, whenever priorities are told."""

from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cloud.store.index import Index
from cloud.store.kits import CAPACITY_ROWS, example_chunks, generator, index_of
from cloud.store.priority import ONE, tickets
from cloud.store.sampler import Drawn, Moment, State
from cloud.store.samplers import make_sampler
from cloud.store.samplers.prioritised import Prioritised
from tests.cloud.store.rows import History, histories
from tests.cloud.store.samplers.slow import Slow
from user_rl.errors import ConfigError, NothingToDraw, SpecError
from user_rl.specs import Array

Id = tuple[str, int]
EPSILON, ALPHA = 1e-3, 0.6


def make(look_ahead: int = 2, **keys: object) -> Prioritised:
    sampler = make_sampler({"name": "prioritised", **keys}, look_ahead)
    assert isinstance(sampler, Prioritised)
    return sampler


def told(number: int, rows: Array) -> Array:
    """The priorities that the learner would find: any function of the draw and the row."""
    return np.asarray((rows * 7919 + number * 104729) % 97 / 7.0)


def book_of(state: State) -> dict[Id, int]:
    """The tickets in a state, by row id."""
    names = state["streams"].tobytes().decode().split("\n")
    rows = zip(state["stream"], state["step"], state["tickets"], state["draw"], strict=True)
    return {(names[s], int(step)): int(t) for s, step, t, draw in rows if draw < 0}


@dataclass
class Book:
    """Row by row: what each row's tickets are when draw n is made."""

    rows: list[dict[str, Any]]
    capacity: int | None
    look_ahead: int
    tickets: dict[int, int] = field(default_factory=dict)
    highest: int = ONE
    given: dict[int, tuple[Array, Array]] = field(default_factory=dict)

    def draw(self, number: int, end: int) -> None:
        for n in sorted(n for n in self.given if n <= number - self.look_ahead):
            for row, priority in zip(*self.given.pop(n), strict=True):
                new = int(tickets(np.array([(priority + EPSILON) ** ALPHA]))[0])
                self.highest = max(self.highest, new)
                if row in self.tickets:
                    self.tickets[row] = new
        allowed = Slow(self.rows, end, self.capacity).weights({"name": "uniform"})
        self.tickets = {row: self.tickets.get(row, self.highest) for row in allowed}

    def book(self) -> dict[Id, int]:
        return {(self.rows[i]["stream"], self.rows[i]["step"]): t for i, t in self.tickets.items()}


@pytest.mark.slow
@given(histories(), st.lists(st.integers(0, 12), min_size=1, max_size=12), st.data())
@settings(max_examples=150, deadline=None)
def test_priorities_act_k_draws_later_whenever_they_are_told(h: History, moves: list[int], data: st.DataObject) -> None:
    capacity, k = data.draw(st.sampled_from([None, 4, 12])), data.draw(st.integers(1, 4))
    sampler, book, index = make(k), Book(h.rows(), capacity, k), h.index()
    waiting: dict[int, Array] = {}
    end = 0
    for number, move in enumerate(moves):
        end = min(len(index), end + move)
        for n in sorted(waiting):
            if n <= number - k or data.draw(st.booleans()):
                sampler.update(n, waiting[n], told(n, waiting.pop(n)))
        book.draw(number, end)
        moment = Moment(index=index, end=end, number=number, capacity_rows=capacity)
        if not book.tickets:
            with pytest.raises(NothingToDraw):
                sampler.draw(moment, generator(number), 4)
            continue
        drawn = sampler.draw(moment, generator(number), 4)
        check_drawn(drawn, book, number)
        waiting[number] = drawn.rows
        book.given[number] = (drawn.rows, told(number, drawn.rows))
    for n in sorted(waiting):
        sampler.update(n, waiting[n], told(n, waiting[n]))
    assert book_of(sampler.state_dict(len(moves))) == book.book()


def check_drawn(drawn: Drawn, book: Book, number: int) -> None:
    """Draw by inverting the cumulative sum, and weights by the paper's formula."""
    rows, values = sorted(book.tickets), [book.tickets[row] for row in sorted(book.tickets)]
    total, count = sum(values), len(drawn.rows)
    edges = [i * (total // count) + i * (total % count) // count for i in range(count + 1)]
    chosen = generator(number).integers(edges[:-1], edges[1:])
    assert drawn.rows.tolist() == [rows[i] for i in np.searchsorted(np.cumsum(values), chosen, side="right")]
    beta = 0.4 + 0.6 * number / 100_000
    weights = np.array([(len(rows) * book.tickets[int(row)] / total) ** -beta for row in drawn.rows])
    np.testing.assert_allclose(drawn.weights, weights / weights.max(), rtol=1e-6)


def test_draws_that_are_taken_back_leave_the_priorities_that_are_still_to_come() -> None:
    index, sampler, other = index_of(example_chunks(seed=1)), make(3), make(3)

    def drawn(made: Prioritised, number: int) -> Array:
        moment = Moment(index=index, end=700, number=number, capacity_rows=CAPACITY_ROWS)
        return made.draw(moment, generator(number), 16).rows

    first, wanted = drawn(sampler, 0), [drawn(other, n).tolist() for n in range(3)]
    drawn(sampler, 1)
    sampler.take_back(1)
    sampler.update(0, first, told(0, first))
    other.update(0, first, told(0, first))
    assert [first.tolist(), drawn(sampler, 1).tolist(), drawn(sampler, 2).tolist()] == wanted
    assert drawn(sampler, 3).tolist() == drawn(other, 3).tolist()
    with pytest.raises(SpecError, match="draw 0 cannot be taken back, allowed from 1 on"):
        sampler.take_back(0)


def test_beta_ends_at_one() -> None:
    index, sampler = index_of(example_chunks(seed=1)), make(1, beta_draws=10)
    draw(sampler, index, 0)
    found = draw(sampler, index, 1_000_000)
    state = book_of(sampler.state_dict(1_000_001))
    mine = np.array([state[index.streams[index.stream.array[r]], int(index.step.array[r])] for r in found.rows])
    np.testing.assert_allclose(found.weights, mine.min() / mine, rtol=1e-6)


def draw(sampler: Prioritised, index: Index, number: int, *, end: int = 700, gone: int = 0) -> Drawn:
    moment = Moment(index=index, end=end - gone, number=number, capacity_rows=CAPACITY_ROWS)
    drawn = sampler.draw(moment, generator(number), 16)
    sampler.update(number, drawn.rows, told(number, drawn.rows + gone))
    return drawn


@pytest.mark.parametrize("behind", [0, 1, 2, 3])
def test_a_state_from_behind_goes_on_alike_in_a_log_that_was_trimmed(behind: int) -> None:
    chunks = example_chunks(seed=1)
    whole, trimmed = index_of(chunks), index_of(chunks[40:])
    gone = len(whole) - len(trimmed)
    sampler = make(3)
    rows = [draw(sampler, whole, n, end=600 + 10 * n).rows for n in range(12)]
    at = 12 - behind
    state = sampler.state_dict(at)
    following = make(3)
    following.load_state_dict(state)
    now = [draw(following, trimmed, n, end=600 + 10 * n, gone=gone).rows + gone for n in range(at, 30)]
    assert [r.tolist() for r in now[:behind]] == [r.tolist() for r in rows[at:]]
    assert [draw(sampler, whole, n, end=600 + 10 * n).rows.tolist() for n in range(12, 30)] == [
        r.tolist() for r in now[behind:]
    ]


def test_a_state_is_there_before_any_draw_and_after_a_load() -> None:
    sampler, other = make(), make()
    state = sampler.state_dict(0)
    other.load_state_dict(state)
    assert other.state_dict(5)["number"] == 5
    index = index_of(example_chunks(seed=1))
    assert draw(sampler, index, 0).rows.tolist() == draw(other, index, 0).rows.tolist()


def test_what_is_out_of_turn_is_refused() -> None:
    index, sampler = index_of(example_chunks(seed=1)), make(2)
    moments = [Moment(index=index, end=700, number=n) for n in range(9)]
    first = sampler.draw(moments[0], generator(0), 4)
    sampler.draw(moments[1], generator(1), 4)
    with pytest.raises(SpecError, match="draw 2 needs the priorities of draw 0; give them before it is made"):
        sampler.draw(moments[2], generator(2), 4)
    with pytest.raises(SpecError, match="draw 1 after draw 1, allowed growing numbers; load a state to go back"):
        sampler.draw(moments[1], generator(1), 4)
    with pytest.raises(SpecError, match=r"priorities of draw 7, allowed those of \[0, 1\]; give each once"):
        sampler.update(7, first.rows, np.ones(4))
    with pytest.raises(
        SpecError, match="priorities of draw 0 are for other rows, allowed those drawn; keep their order"
    ):
        sampler.update(0, first.rows + 1, np.ones(4))
    with pytest.raises(SpecError, match="priorities of draw 0 = -1 to 1, allowed 0 or more"):
        sampler.update(0, first.rows, np.array([1, 1, -1, 1]))
    with pytest.raises(SpecError, match="the sampler's state before draw 1: draw 0 has no priorities yet; save after"):
        sampler.state_dict(1)
    sampler.update(0, first.rows, np.ones(4))
    with pytest.raises(SpecError, match=r"priorities of draw 0, allowed those of \[1\]; give each once"):
        sampler.update(0, first.rows, np.ones(4))


def test_a_state_too_far_behind_is_refused() -> None:
    index, sampler = index_of(example_chunks(seed=1)), make(2)
    for number in range(6):
        draw(sampler, index, number)
    sampler.state_dict(3)
    with pytest.raises(SpecError, match="the sampler's state before draw 2: allowed from 3 on; save after the update"):
        sampler.state_dict(2)


def test_a_gate_that_closes_again_cannot_be_put_around_it() -> None:
    sampler = make_sampler({"name": "fresh", "max_versions": 1, "sampler": {"name": "prioritised"}}, 2)
    moment = Moment(index=index_of(example_chunks(seed=1)), end=700, number=0, version=3)
    with pytest.raises(ConfigError, match="fresh around prioritised, allowed around others; a row may turn stale"):
        sampler.draw(moment, generator(0), 1)
