"""Who is answered next, and who is turned away."""

from hypothesis import given, settings
from hypothesis import strategies as st

from cloud.inference.line import Line, Request
from user_rl.wire import Infer


def request(cell: str, step: int, deadline_s: float) -> Request:
    infer = Infer("run", cell, "00" * 16, step, 0.0, deadline_s, 10, False, "s", ())
    return Request(b"peer", infer, memoryview(b""), 0.0)


def order(line: Line, now_s: float) -> list[str]:
    found = []
    while (taken := line.take(now_s))[0] is not None:
        assert taken[0] is not None
        found.append(f"{taken[0].message.cell}{taken[0].message.step}")
    return found


def test_the_earliest_deadline_goes_first_and_of_equal_ones_who_came_first() -> None:
    line = Line(9, 9)
    for cell, step, deadline_s in (("a", 1, 3.0), ("b", 1, 1.0), ("a", 2, 2.0), ("c", 1, 1.0)):
        assert line.put(request(cell, step, deadline_s)) == []
    assert order(line, 0.0) == ["b1", "c1", "a2", "a1"]


def test_who_is_past_its_deadline_is_turned_away_at_once() -> None:
    line = Line(9, 9)
    for cell, deadline_s in (("a", 1.0), ("b", 2.0), ("c", 3.0)):
        line.put(request(cell, 7, deadline_s))
    taken, away = line.take(2.0)
    assert taken is not None
    assert taken.message.cell == "c"
    assert [(late.message.cell, code) for late, code, _ in away] == [("a", "late"), ("b", "late")]
    assert away[0][2] == "1.000 s past its deadline of 1.000 s"
    assert len(line) == 0


def test_when_the_line_is_full_the_latest_deadline_leaves() -> None:
    line = Line(2, 2)
    line.put(request("a", 1, 1.0))
    line.put(request("b", 1, 3.0))
    [(away, code, _)] = line.put(request("c", 1, 2.0))
    assert (away.message.cell, code) == ("b", "busy")
    [(away, code, _)] = line.put(request("d", 1, 9.0))
    assert (away.message.cell, code) == ("d", "busy")
    assert order(line, 0.0) == ["a1", "c1"]


def test_of_one_cell_so_many_wait_and_the_oldest_observation_leaves() -> None:
    line = Line(9, 2)
    for step in (5, 3):
        assert line.put(request("a", step, 1.0)) == []
    assert line.put(request("b", 1, 1.0)) == []
    [(away, code, _)] = line.put(request("a", 8, 1.0))
    assert (away.message.step, code) == (3, "late")


@settings(deadline=None)
@given(st.lists(st.tuples(st.sampled_from("abcdef"), st.floats(0.1, 5.0)), max_size=60))
def test_it_never_grows_and_answers_each_or_turns_it_away_once(wishes: list[tuple[str, float]]) -> None:
    line, away = Line(5, 2), []
    for step, (cell, deadline_s) in enumerate(wishes):
        away += [gone.message.step for gone, _, _ in line.put(request(cell, step, deadline_s))]
        assert len(line) <= 5
    answered = []
    while True:
        taken, late = line.take(1.0)
        away += [gone.message.step for gone, _, _ in late]
        if taken is None:
            break
        answered.append(taken.message.step)
    assert sorted(answered + away) == list(range(len(wishes)))
