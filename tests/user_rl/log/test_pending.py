"""The queue: what goes in comes out, whatever is dropped from its front."""

from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from user_rl.log.pending import Missing, Queue
from user_rl.rows import Klass

ROW_BYTES = 3
pushes = st.lists(st.tuples(st.sampled_from(["online", "demonstration", "gap"]), st.integers(1, 6)), max_size=12)


def row(step: int) -> bytes:
    return step.to_bytes(ROW_BYTES, "big")


def filled(parts: list[tuple[str, int]]) -> tuple[Queue, list[tuple[str, int]]]:
    """A queue, and the (what, step) that it must hold."""
    queue, held = Queue(ROW_BYTES), list[tuple[str, int]]()
    for ticket, (what, count) in enumerate(parts):
        first = len(held)
        if what == "gap":
            queue.add_gap(ticket, first, first + count - 1)
        else:
            data = b"".join(row(step) for step in range(first, first + count))
            queue.add_rows(ticket, Klass[what.upper()], first, count, data)
        held += [(what, step) for step in range(first, first + count)]
    return queue, held


def content(queue: Queue) -> list[tuple[str, int]]:
    found: list[tuple[str, int]] = []
    for item in queue.items:
        if isinstance(item, Missing):
            found += [("gap", step) for step in range(item.first, item.last + 1)]
        else:
            assert bytes(item.joined()) == b"".join(row(step) for step in range(item.first, item.last + 1))
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
    queue.add_rows(9, Klass.ONLINE, 6, 2, row(6) + row(7))
    assert content(queue) == [("online", step) for step in (4, 5, 6, 7)]
    assert queue.items[0].ticket == 0
