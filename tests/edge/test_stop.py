"""The emergency stop's words: who sees an order, when a sleep ends, and that an order is settled once."""

import os
import threading
from collections.abc import Iterator

import pytest

from edge.shared import Shared, make_shared
from edge.stop import LONGEST_TEXT, SLICE_S, ListeningClock, Outcome
from tests.edge.rig import ScriptClock
from user_rl.clock import FreeRunningClock
from user_rl.errors import RobotFault


@pytest.fixture
def shared() -> Iterator[Shared]:
    made = make_shared(bytes(16))
    yield made
    os.close(made.fd)


def test_an_order_waits_until_it_is_settled_and_the_next_one_waits_again(shared: Shared) -> None:
    stop, other = shared.stop, Shared(shared.fd).stop
    assert not stop.pending
    stop.post("by me")
    assert (other.pending, other.text) == (True, "by me")
    other.settle(Outcome.HALTED)
    assert (stop.pending, stop.outcome) == (False, Outcome.HALTED)
    other.settle(Outcome.FAILED)
    assert stop.outcome is Outcome.HALTED
    stop.post("again")
    assert (other.pending, other.text) == (True, "again")


def test_a_long_reason_is_cut_and_fits(shared: Shared) -> None:
    shared.stop.post("\N{SNOWMAN}" * 10_000)
    assert shared.stop.text == "\N{SNOWMAN}" * LONGEST_TEXT


def test_control_raises_only_while_the_robot_is_open_and_is_not_being_halted(shared: Shared) -> None:
    stop = shared.stop
    stop.post("by me")
    stop.check()
    Shared(shared.fd).stop.robot_open = True
    with pytest.raises(RobotFault, match=r"^by me$"):
        stop.check()
    stop.deaf = True
    stop.check()


def test_a_sleep_ends_within_a_slice_of_the_order(shared: Shared) -> None:
    shared.stop.robot_open = True
    clock = ScriptClock()
    listening = ListeningClock(clock, shared.stop)
    clock.at(0.053, lambda: shared.stop.post("by me"))
    with pytest.raises(RobotFault):
        listening.sleep_until(1000.0 + 5.0)
    assert 1000.053 <= clock.now_s() <= 1000.053 + SLICE_S + 1e-9


def test_a_sleep_that_nobody_disturbs_ends_at_its_deadline_in_slices_only_as_far_as_needed(shared: Shared) -> None:
    shared.stop.robot_open = True
    clock = ScriptClock()
    listening = ListeningClock(clock, shared.stop)
    listening.sleep_until(1000.0 + 0.009)
    assert len(clock.sleeps_s) == 1
    listening.sleep_until(1000.1)
    assert clock.now_s() == pytest.approx(1000.1)
    assert max(clock.sleeps_s) <= SLICE_S + 1e-9


def test_an_order_that_came_during_the_last_slice_is_seen_when_the_sleep_ends(shared: Shared) -> None:
    shared.stop.robot_open = True
    clock = ScriptClock()
    clock.at(0.004, lambda: shared.stop.post("by me"))
    with pytest.raises(RobotFault):
        ListeningClock(clock, shared.stop).sleep_until(1000.005)


def test_a_clock_that_does_not_wait_is_not_waited_for(shared: Shared) -> None:
    shared.stop.robot_open = True
    listening = ListeningClock(FreeRunningClock(), shared.stop)
    listening.sleep_until(listening.now_s() + 3600.0)
    shared.stop.post("by me")
    with pytest.raises(RobotFault):
        listening.sleep_until(0.0)


def test_a_drivers_own_thread_is_not_disturbed(shared: Shared) -> None:
    shared.stop.robot_open = True
    listening = ListeningClock(ScriptClock(), shared.stop)
    shared.stop.post("by me")
    raised: list[RobotFault] = []

    def sleeps() -> None:
        try:
            listening.sleep_until(2000.0)
        except RobotFault as error:
            raised.append(error)

    thread = threading.Thread(target=sleeps)
    thread.start()
    thread.join()
    assert raised == []
