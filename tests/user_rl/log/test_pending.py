"""The queue: what goes in comes out, whatever is dropped from its front."""

from itertools import pairwise

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from user_rl.log.chunk import CHUNK_BYTES, trailed
from user_rl.log.pending import Missing, Queue, Rows
from user_rl.rows import Klass
from user_rl.specs import Array

ROW_BYTES = 3
pushes = st.lists(st.tuples(st.sampled_from(["online", "demonstration", "gap"]), st.integers(1, 6)), max_size=12)


def row(step: int) -> bytes:
    return step.to_bytes(ROW_BYTES, "big")


def records(first: int, count: int) -> Array:
    return np.frombuffer(b"".join(row(step) for step in range(first, first + count)), np.uint8)


def filled(parts: list[tuple[str, int]]) -> tuple[Queue, list[tuple[str, int]]]:
    """A queue, and the (what, step) that it must hold."""
    queue, held = Queue(ROW_BYTES), list[tuple[str, int]]()
    for ticket, (what, count) in enumerate(parts):
        first = len(held)
        if what == "gap":
            queue.add_gap(ticket, first, first + count - 1)
        else:
            queue.add_rows(ticket, Klass[what.upper()], first, records(first, count))
        held += [(what, step) for step in range(first, first + count)]
    return queue, held


def content(queue: Queue) -> list[tuple[str, int]]:
    found: list[tuple[str, int]] = []
    for item in queue.items:
        if isinstance(item, Missing):
            found += [("gap", step) for step in range(item.first, item.last + 1)]
        else:
            assert isinstance(item, Rows)
            assert bytes(item.records(item.count)) == records(item.first, item.count).tobytes()
            found += [(item.klass.name.lower(), step) for step in range(item.first, item.last + 1)]
    return found


@given(pushes, st.integers(0, 70))
def test_what_is_dropped_is_the_front_and_only_that(parts: list[tuple[str, int]], share: int) -> None:
    queue, held = filled(parts)
    assert content(queue) == held
    ends = [item.last for item in queue.items if isinstance(item, Missing)]
    step = share - 1
    if not any(item.first <= step < item.last for item in queue.items if isinstance(item, Missing)):
        queue.drop_through(step)
        assert content(queue) == held[max(0, step + 1) :]
    assert queue.pending_bytes() == ROW_BYTES * sum(what != "gap" for what, _ in content(queue))
    assert ends == sorted(ends)


@given(pushes)
def test_rows_of_one_class_are_one_item(parts: list[tuple[str, int]]) -> None:
    queue, _ = filled(parts)
    kinds = [None if isinstance(item, Missing) else item.klass for item in queue.items]
    assert all(one is None or one != two for one, two in pairwise(kinds))
    tickets = [item.ticket for item in queue.items]
    assert tickets == sorted(tickets)


def test_appending_after_a_partial_drop_goes_on() -> None:
    queue, _ = filled([("online", 6)])
    queue.drop_through(3)
    queue.add_rows(9, Klass.ONLINE, 6, records(6, 2))
    assert content(queue) == [("online", step) for step in (4, 5, 6, 7)]
    assert queue.items[0].ticket == 0


@given(pushes, st.integers(1, 40))
def test_what_is_stored_is_the_first_rows_and_their_trailer(parts: list[tuple[str, int]], share: int) -> None:
    queue, _ = filled(parts)
    for item in queue.items:
        if isinstance(item, Rows):
            count = min(share, item.count)
            data = records(item.first, count).tobytes()
            assert bytes(item.value(count)) == trailed(memoryview(data), count)
            assert bytes(item.records(item.count)) == records(item.first, item.count).tobytes()


def test_an_item_is_one_chunk_at_most() -> None:
    queue = Queue(CHUNK_BYTES // 3)
    data = np.arange(8 * queue.row_bytes, dtype=np.uint32).astype(np.uint8)
    queue.add_rows(0, Klass.ONLINE, 0, data[: 2 * queue.row_bytes])
    queue.add_rows(1, Klass.ONLINE, 2, data[2 * queue.row_bytes :])
    found = [(item.ticket, item.first, item.count) for item in queue.items if isinstance(item, Rows)]
    assert found == [(0, 0, 3), (1, 3, 3), (1, 6, 2)]
    held = b"".join(bytes(item.records(item.count)) for item in queue.items if isinstance(item, Rows))
    assert held == data.tobytes()


def test_a_buffer_that_became_free_serves_the_next_rows() -> None:
    queue, _ = filled([("online", 6)])
    (item,) = queue.items
    queue.drop_through(5)
    queue.add_rows(1, Klass.ONLINE, 6, records(6, 5))
    (after,) = queue.items
    assert isinstance(item, Rows)
    assert isinstance(after, Rows)
    assert after.buffer is item.buffer
    assert content(queue) == [("online", step) for step in range(6, 11)]
