"""Deadlines are absolute, lateness is counted, and steps are never bunched."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge.pacer import Pacer
from user_rl.clock import FakeClock


def test_deadlines_do_not_drift_with_the_work_of_a_step() -> None:
    clock = FakeClock()
    pacer = Pacer(clock, 10.0)
    for _ in range(100):
        clock.advance(0.07)
        pacer.wait()
    assert clock.now_s() == pytest.approx(10.0)
    assert (pacer.late, pacer.skipped) == (0, 0)


def test_a_step_that_is_a_little_late_begins_at_once_and_the_next_is_on_time_again() -> None:
    clock = FakeClock()
    pacer = Pacer(clock, 10.0)
    clock.advance(0.14)
    pacer.wait()
    assert clock.now_s() == pytest.approx(0.14)
    pacer.wait()
    assert clock.now_s() == pytest.approx(0.2)
    assert (pacer.late, pacer.skipped) == (1, 0)


def test_a_step_knows_when_it_should_have_begun_whatever_was_left_out_meanwhile() -> None:
    clock = FakeClock(5.0)
    pacer = Pacer(clock, 10.0)
    assert pacer.due_s == 5.0
    clock.advance(0.37)
    pacer.wait()
    assert pacer.due_s == pytest.approx(5.1)
    pacer.restart()
    assert pacer.due_s == clock.now_s() == pytest.approx(5.4)


def test_a_step_that_is_very_late_waits_for_the_next_deadline_and_what_was_missed_is_left_out() -> None:
    clock = FakeClock()
    pacer = Pacer(clock, 10.0)
    clock.advance(0.37)
    pacer.wait()
    assert clock.now_s() == pytest.approx(0.4)
    assert (pacer.late, pacer.skipped) == (1, 3)


def test_a_restart_makes_the_present_the_start() -> None:
    clock = FakeClock()
    pacer = Pacer(clock, 10.0)
    clock.advance(5.03)
    pacer.restart()
    pacer.wait()
    assert clock.now_s() == pytest.approx(5.13)
    assert pacer.late == 0


@pytest.mark.slow
@given(st.lists(st.floats(0.0, 0.5), max_size=50))
def test_two_steps_are_never_closer_than_half_a_period(works_s: list[float]) -> None:
    clock = FakeClock()
    pacer = Pacer(clock, 10.0)
    last_s = clock.now_s()
    for work_s in works_s:
        clock.advance(work_s)
        pacer.wait()
        assert clock.now_s() - last_s >= 0.05 - 1e-9
        last_s = clock.now_s()
    phase = clock.now_s() / 0.1 % 1.0
    assert min(phase, 1 - phase) <= 0.5 + 1e-6
