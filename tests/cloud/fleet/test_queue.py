"""First come, first served, whole or not at all."""

import re

import pytest

from cloud.fleet.queue import Ask, Queue
from user_rl.errors import WireError
from user_rl.fleet import Card


def card(cell: str, model: str = "panda") -> Card:
    return Card(
        cell=cell, boot="a" * 32, model=model, rate_hz=10.0, schema_digest="d", action_dim=4, on_silence="stops"
    )


A, B, C, SIX = card("a"), card("b"), card("c"), card("six", "arm6")


def ask(queue: Queue, run: str, asked: Ask, *free: Card, now_s: float = 0.0, **held: list[Card]) -> object:
    return queue.ask(run, asked, now_s=now_s, free=free, held=held)


def test_a_request_is_granted_exactly_what_it_misses() -> None:
    assert ask(Queue(ttl_s=10), "r", Ask(count=2), A, B, C) == (0, [A, B])
    assert ask(Queue(ttl_s=10), "r", Ask(count=2), B, C, r=[A]) == (0, [B])
    assert ask(Queue(ttl_s=10), "r", Ask(count=1), B, C, r=[A, SIX]) == (0, [])


def test_a_request_that_cannot_be_met_whole_gets_nothing() -> None:
    assert ask(Queue(ttl_s=10), "r", Ask(count=3), A, B) == (1, None)


def test_model_and_names_choose_the_cells() -> None:
    assert ask(Queue(ttl_s=10), "r", Ask(count=1, model="arm6"), A, SIX) == (0, [SIX])
    assert ask(Queue(ttl_s=10), "r", Ask(count=1, cells=("b",)), A, B) == (0, [B])
    assert ask(Queue(ttl_s=10), "r", Ask(count=1, model="arm6", cells=("b",)), A, B, SIX) == (1, None)


def test_what_the_run_holds_of_another_model_does_not_count() -> None:
    assert ask(Queue(ttl_s=10), "r", Ask(count=1, model="panda"), A, r=[SIX]) == (0, [A])


def test_a_large_request_is_not_starved_by_a_later_small_one() -> None:
    queue = Queue(ttl_s=10)
    assert ask(queue, "large", Ask(count=2), A) == (1, None)
    assert ask(queue, "small", Ask(count=1), A) == (2, None)
    assert ask(queue, "large", Ask(count=2), A, B) == (0, [A, B])
    assert ask(queue, "small", Ask(count=1), C) == (0, [C])


def test_a_later_request_takes_what_the_earlier_one_cannot_use_or_does_not_need() -> None:
    queue = Queue(ttl_s=10)
    assert ask(queue, "first", Ask(count=1, model="panda"), SIX) == (1, None)
    assert ask(queue, "second", Ask(count=1), SIX) == (0, [SIX])
    assert ask(queue, "third", Ask(count=1), A, B) == (0, [B])


def test_asking_again_keeps_the_place() -> None:
    queue = Queue(ttl_s=10)
    ask(queue, "first", Ask(count=2), A)
    ask(queue, "second", Ask(count=2), A)
    assert ask(queue, "first", Ask(count=2), A) == (1, None)
    assert queue.runs() == ("first", "second")


def test_a_request_that_is_not_repeated_is_forgotten() -> None:
    queue = Queue(ttl_s=10)
    ask(queue, "gone", Ask(count=2), A)
    assert ask(queue, "here", Ask(count=1), A, now_s=10.0) == (2, None)
    assert ask(queue, "here", Ask(count=1), A, now_s=10.1) == (0, [A])
    assert queue.runs() == ()


def test_a_run_that_gives_up_leaves_the_queue() -> None:
    queue = Queue(ttl_s=10)
    ask(queue, "first", Ask(count=2), A)
    queue.forget("first")
    queue.forget("first")
    assert ask(queue, "second", Ask(count=1), A) == (0, [A])


@pytest.mark.parametrize(("count", "cells", "most"), [(0, (), 2**31), (-1, (), 2**31), (3, ("a", "b", "a"), 2)])
def test_a_request_that_can_never_be_met_is_refused(count: int, cells: tuple[str, ...], most: int) -> None:
    message = f"a request for {count} cells, allowed 1 to {most} here; change count or cells"
    with pytest.raises(WireError, match=re.escape(message)):
        Ask(count=count, cells=cells)
