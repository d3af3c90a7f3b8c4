"""The index against a slow reading of the same history, in whatever pieces it arrived."""

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cloud.store.index import NOWHERE, Index
from cloud.store.view import Accept, view
from tests.cloud.store.rows import History, histories
from user_rl.errors import NothingToDraw
from user_rl.rows import Kind, Klass


def successor(rows: list[dict[str, Any]], i: int) -> int:
    """The row that followed row i in its episode, by looking at all of them."""
    row = rows[i]
    for j in range(i + 1, len(rows)):
        other = rows[j]
        if other["stream"] == row["stream"]:
            follows = other["episode"] == row["episode"] and other["step"] == row["step"] + 1
            return j if follows and row["kind"] == Kind.STEP else NOWHERE
    return NOWHERE


@given(histories(), st.lists(st.integers(0, 20), max_size=4))
def test_next_is_the_row_that_followed_in_its_episode_however_the_rows_arrived(h: History, cuts: list[int]) -> None:
    rows = h.rows()
    assert h.index(tuple(sorted(cuts))).next.array.tolist() == [successor(rows, i) for i in range(len(rows))]


@given(histories(), st.lists(st.integers(0, 20), max_size=4))
def test_columns_are_those_of_the_rows_and_say_where_each_lies(h: History, cuts: list[int]) -> None:
    index, rows = h.index(tuple(sorted(cuts))), h.rows()
    assert [index.streams[s] for s in index.stream.array] == [r["stream"] for r in rows]
    for column, name in ((index.step, "step"), (index.version, "version"), (index.reward, "next.reward")):
        np.testing.assert_array_equal(column.array, [r[name] for r in rows])
    places = [(seq + 1, i) for seq, (_, head) in enumerate(h.chunks) for i in range(len(head))]
    found = zip(index.seqs.array[index.chunk.array], index.offset.array, strict=True)
    assert [(int(a), int(b)) for a, b in found] == places
    assert [index.at(seq) for seq in range(len(h.chunks) + 2)] == [
        sum(len(head) for _, head in h.chunks[:seq]) for seq in range(len(h.chunks) + 2)
    ]


@given(histories(), st.lists(st.integers(0, 20), max_size=4))
def test_lists_hold_the_rows_of_their_kind_however_they_arrived(h: History, cuts: list[int]) -> None:
    index, rows = h.index(tuple(sorted(cuts))), h.rows()
    online = [r["klass"] == Klass.ONLINE for r in rows]
    hand = [r["is_intervention"] == 1 and r["kind"] == Kind.STEP for r in rows]
    first = {(r["stream"], r["episode"]): i for i, r in reversed(list(enumerate(rows)))}
    opened = [first[r["stream"], r["episode"]] for r in rows]
    assert index.under_hand.array.tolist() == [i for i in range(len(rows)) if online[i] and hand[i]]
    assert index.shown.array.tolist() == [i for i in range(len(rows)) if hand[i] or not online[i]]
    assert index.opened_by.array[index.episode.array].tolist() == opened
    assert index.peak.array.tolist() == [max(r["version"] for r in rows[: i + 1]) for i in range(len(rows))]
    assert index.truncated.array.tolist() == [r["next.truncated"] == 1 for r in rows]
    for klass, began in index.began.items():
        assert began.array.tolist() == [i for i in sorted(set(opened)) if rows[i]["klass"] == klass]
    for names, lists, key in ((index.streams, index.of_stream, "stream"), (index.tasks, index.of_task, "task")):
        for name, listed in zip(names, lists, strict=True):
            assert listed.array.tolist() == [i for i, r in enumerate(rows) if r[key] == name]


def ends(rows: list[dict[str, Any]], end: int) -> dict[tuple[str, int], bool]:
    """The episodes closed before row `end`, and whether they succeeded."""
    closed = {(r["stream"], r["episode"]): False for r in rows[:end] if r["kind"] == Kind.LAST}
    for r in rows[:end]:
        if (r["stream"], r["episode"]) in closed and r["next.success"] and r["kind"] == Kind.STEP:
            closed[r["stream"], r["episode"]] = True
    return closed


@given(histories(), st.integers(0, 60), st.sampled_from(Klass))
def test_a_view_shows_nothing_beyond_its_horizon(h: History, end: int, klass: Klass) -> None:
    index, rows = h.index((1, 3)), h.rows()
    end = min(end, len(rows))
    seen, closed = view(index, klass, end), ends(rows, end)
    mine = [i for i in range(end) if rows[i]["klass"] == klass]
    assert seen.rows.tolist() == mine
    keys = [(rows[i]["stream"], rows[i]["episode"]) for i in mine]
    assert seen.has_ended(seen.rows).tolist() == [key in closed for key in keys]
    assert seen.has_succeeded(seen.rows).tolist() == [closed.get(key, False) for key in keys]
    after = [successor(rows, i) for i in mine]
    assert seen.is_transition(seen.rows).tolist() == [NOWHERE < j < end for j in after]
    assert seen.matching().tolist() == [i for i, j in zip(mine, after, strict=True) if NOWHERE < j < end]


def one_in(rare: int) -> Accept:
    return lambda seen, rows: np.asarray(rows % rare == 1)


def test_a_draw_is_uniform_over_what_is_accepted_however_rare() -> None:
    index = long_history(3000).index()
    seen, rng = view(index, Klass.ONLINE, len(index)), np.random.default_rng(0)
    for rare in (2, 1000):
        drawn = seen.draw(rng, 20_000, one_in(rare))
        wanted = [i for i in seen.matching().tolist() if i % rare == 1]
        values, counts = np.unique(drawn, return_counts=True)
        assert values.tolist() == wanted
        assert abs(counts * len(wanted) / 20_000 - 1).max() < 8 / np.sqrt(20_000 / len(wanted))


def test_the_capacity_keeps_the_newest_rows() -> None:
    index = long_history(50).index()
    assert view(index, Klass.ONLINE, 40, capacity=10).rows.tolist() == list(range(30, 40))


def test_drawing_from_nothing_says_so() -> None:
    with pytest.raises(NothingToDraw, match="no row is here yet; wait for rows"):
        view(Index(), Klass.ONLINE, 0).draw(np.random.default_rng(0), 1)
    index = long_history(50).index()
    with pytest.raises(NothingToDraw, match="none of 50 rows may be drawn; wait for rows, or ask for less"):
        view(index, Klass.ONLINE, 50).draw(np.random.default_rng(0), 1, lambda v, rows: rows < 0)


def long_history(length: int) -> History:
    from cloud.store.index import HEAD

    head = np.zeros(length, HEAD)
    head["step"] = np.arange(length)
    return History([("cell/00/run", head)])
