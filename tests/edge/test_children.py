"""How soon a child of the daemon is started again."""

import sys
import time

import pytest

from edge.daemon import FIRST_PAUSE_S, KILLED_PAUSE_S, LONGEST_NET_PAUSE_S, STEADY_S, Child

KILLED, CRASHED = "import os; os.kill(os.getpid(), 9)", "raise SystemExit(2)"


def pauses(child: Child, count: int, lived_s: float = 0.0) -> list[float]:
    """Of so many lives."""
    found = []
    for _ in range(count):
        child.start()
        assert child.process is not None
        child.process.wait(20)
        child.started_s = time.monotonic() - lived_s
        assert child.ended() is not None
        found.append(child.pause_s)
        assert abs(child.again_s - time.monotonic() - child.pause_s) < 0.5
    return found


@pytest.mark.slow
def test_a_killed_child_is_back_at_once_and_one_that_dies_again_and_again_waits_longer_up_to_a_bound() -> None:
    child = Child("link", [sys.executable, "-S", "-c", KILLED], (), longest_s=LONGEST_NET_PAUSE_S)
    assert pauses(child, 6) == [KILLED_PAUSE_S, 0.2, 0.4, 0.8, LONGEST_NET_PAUSE_S, LONGEST_NET_PAUSE_S]
    assert pauses(child, 2, lived_s=STEADY_S + 0.1) == [KILLED_PAUSE_S] * 2


@pytest.mark.slow
def test_a_child_that_ends_by_itself_waits_longer_than_one_that_was_killed() -> None:
    child = Child("control", [sys.executable, "-S", "-c", CRASHED], ())
    assert pauses(child, 5) == [FIRST_PAUSE_S, 1.0, 2.0, 4.0, 5.0]
