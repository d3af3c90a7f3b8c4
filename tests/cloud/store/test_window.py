"""The window over a long stream: nothing that is alive is lost when it moves on, and what is out of it stays out."""

import numpy as np

from cloud.store.index import HEAD, Index
from cloud.store.priority import ONE
from cloud.store.view import view
from cloud.store.window import Window
from tests.cloud.store.rows import History
from user_rl.rows import Klass

LONG = 4000


def long_index() -> Index:
    head = np.zeros(LONG, HEAD)
    head["step"] = np.arange(LONG)
    return History([("cell/00/run", head)]).index()


def move(window: Window, index: Index, first: int, end: int) -> None:
    window.move(view(index, Klass.ONLINE, end), index.of_klass[Klass.ONLINE].array, first, end)


def held(window: Window) -> dict[int, int]:
    positions, tickets = window.before([], window.first)
    return dict(zip(positions.tolist(), tickets.tolist(), strict=True))


def test_tickets_outlive_many_moves_and_a_tree_that_is_made_anew() -> None:
    window, index = Window(), long_index()
    wanted: dict[int, int] = {}
    for first in range(0, LONG - 400, 150):
        end = first + 400
        move(window, index, first, end)
        wanted = {row: wanted.get(row, ONE) for row in range(first, end - 1)}
        window.put(np.array([first + 200]), np.array([first + 1]))
        wanted[first + 200] = first + 1
        assert held(window) == wanted
        assert window.tree.total == sum(wanted.values())
        assert window.tree.count == len(wanted)


def test_the_last_of_two_priorities_counts_and_rows_without_tickets_get_none() -> None:
    window, index = Window(), long_index()
    move(window, index, 10, 20)
    window.put(np.array([12, 9, 12, 19, 20]), np.array([5, 6, 7, 8, 9 * ONE]))
    assert held(window) == {row: 7 if row == 12 else ONE for row in range(10, 19)}
    assert window.highest == 9 * ONE


def test_a_new_row_gets_the_highest_tickets_that_any_row_had() -> None:
    window, index = Window(), long_index()
    move(window, index, 0, 3)
    window.put(np.array([0]), np.array([3 * ONE]))
    move(window, index, 0, 4)
    assert held(window) == {0: 3 * ONE, 1: ONE, 2: 3 * ONE}


def test_changes_can_be_taken_back() -> None:
    window, index = Window(), long_index()
    move(window, index, 0, 6)
    before, first = held(window), window.first
    window.changes()
    window.put(np.array([1]), np.array([5]))
    steps = [window.changes()]
    move(window, index, 3, 9)
    steps.append(window.changes())
    positions, tickets = window.before(steps, first)
    assert dict(zip(positions.tolist(), tickets.tolist(), strict=True)) == before
