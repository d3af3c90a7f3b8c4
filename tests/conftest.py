"""Rules for every test: nothing sleeps unless it is marked slow, and nothing is left in the real home folder."""

import logging
import time
from collections.abc import Iterator

import pytest

_sleep = time.sleep
LONGEST_S = 0.05


@pytest.fixture(autouse=True)
def _no_sleeping(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    def sleep(seconds: float) -> None:
        assert seconds <= LONGEST_S, f"this test sleeps {seconds} s: inject a FakeClock, or mark it slow"
        _sleep(seconds)

    if not {"slow", "long"} & {mark.name for mark in request.node.iter_markers()}:
        monkeypatch.setattr(time, "sleep", sleep)


@pytest.fixture(autouse=True)
def _own_logging() -> Iterator[None]:
    """What a command's main set up for logging ends with its test: its stream is that test's stderr."""
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    yield
    root.handlers[:] = handlers
    root.setLevel(level)
