"""Which processors control has to itself: bound where that is allowed, one line where not."""

import os
from collections.abc import Iterator

import pytest

from edge.process import keep_off, pin


@pytest.fixture(autouse=True)
def everywhere() -> Iterator[set[int]]:
    before = os.sched_getaffinity(0)
    yield before
    os.sched_setaffinity(0, before)


def test_control_has_its_processors_and_the_others_have_the_rest(everywhere: set[int]) -> None:
    first = min(everywhere)
    keep_off((first,))
    assert os.sched_getaffinity(0) == (everywhere - {first} or everywhere)
    pin((first,))  # control is a child of a process that keeps off them
    assert os.sched_getaffinity(0) == {first}


def test_naming_none_binds_nothing(everywhere: set[int]) -> None:
    pin(())
    keep_off(())
    assert os.sched_getaffinity(0) == everywhere


def test_who_would_have_nothing_left_goes_on_everywhere(everywhere: set[int]) -> None:
    keep_off(everywhere)
    assert os.sched_getaffinity(0) == everywhere


def test_a_processor_that_is_not_there_is_named_and_nothing_is_bound(
    everywhere: set[int], caplog: pytest.LogCaptureFixture
) -> None:
    pin((4095,))
    assert os.sched_getaffinity(0) == everywhere
    assert (
        f"control is not bound to cpus [4095]: [Errno 22] Invalid argument; this machine has {sorted(everywhere)}"
        in (caplog.text)
    )
