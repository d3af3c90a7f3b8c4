import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cloud.limiter import LimiterState, RateLimiter
from user_rl.errors import ConfigError

RATIOS = st.floats(0.05, 16.0)
WARMUPS = st.integers(0, 2000)


def limiter(ratio: float = 4.0, warmup_rows: int = 100, tolerance: float = 50.0) -> RateLimiter:
    return RateLimiter(ratio, warmup_rows, tolerance)


def updates_at_once(limit: RateLimiter, rows: int, updates: int, most: int = 100_000) -> int:
    for n in range(most):
        if not limit.may_update(rows, updates + n):
            return n
    return most


def test_no_update_happens_before_the_warm_up_rows_are_there() -> None:
    assert not limiter().may_update(99, 0)
    assert limiter().may_update(100, 0)


def test_the_learner_is_held_at_its_ratio_and_the_tolerance() -> None:
    assert updates_at_once(limiter(), 110, 0) == 4 * 10 + 50


def test_the_robots_are_held_at_their_ratio_and_the_tolerance() -> None:
    assert limiter().permit(0) == 100 + 12
    assert limiter().permit(40) == 100 + 22


def test_a_run_that_does_not_pace_its_robots_gives_no_permit() -> None:
    assert RateLimiter(4.0, 100, 50.0, pace_robots=False).permit(0) is None


@given(RATIOS, WARMUPS, st.integers(0, 300), st.lists(st.sampled_from(["learner", "robot"]), max_size=400))
def test_neither_side_ever_leaves_the_band(ratio: float, warmup: int, extra: int, turns: list[str]) -> None:
    tolerance = 1 + ratio + extra
    limit = RateLimiter(ratio, warmup, tolerance)
    rows, updates = warmup, 0
    for turn in turns:
        permit = limit.permit(updates)
        assert permit is not None
        if turn == "learner" and limit.may_update(rows, updates):
            updates += 1
        elif turn == "robot" and rows < permit:
            rows += 1
        assert abs(updates - ratio * (rows - warmup)) <= tolerance + 1e-6


@given(RATIOS, WARMUPS, st.integers(0, 10**6), st.integers(0, 10**6))
def test_one_side_may_always_go_on(ratio: float, warmup: int, rows: int, updates: int) -> None:
    limit = RateLimiter(ratio, warmup, 1 + ratio)
    permit = limit.permit(updates)
    assert permit is not None
    assert limit.may_update(rows, updates) or rows < permit


@given(
    RATIOS, WARMUPS, st.integers(0, 300), st.integers(0, 10**6), st.integers(0, 10**5),
    st.floats(-1e6, 1e6), st.floats(-1e6, 1e6),
)  # fmt: skip
def test_after_a_resume_there_is_neither_a_burst_nor_a_starvation(
    ratio: float, warmup: int, extra: int, rows: int, updates: int, base_rows: float, base_updates: float
) -> None:
    limit = RateLimiter(ratio, warmup, 1 + ratio + extra)
    limit.resumed(rows, updates, LimiterState(base_rows=base_rows, base_updates=base_updates))
    assert updates_at_once(limit, rows, updates) <= limit.tolerance + 1e-6
    permit = limit.permit(updates)
    assert permit is not None
    assert limit.may_update(rows, updates) or rows < permit
    within = max(rows, warmup) + int(2 * limit.tolerance / ratio) + 1  # rows that surely bring the learner on
    assert limit.may_update(within, updates)
    assert permit <= within


def test_rows_that_came_while_the_learner_was_dead_are_not_caught_up_with() -> None:
    limit = limiter()
    limit.resumed(10_000, 400, LimiterState(base_rows=100.0, base_updates=0.0))
    assert updates_at_once(limit, 10_000, 400) == 50


def test_what_the_learner_had_done_ahead_stays_a_debt() -> None:
    before, after = limiter(), limiter()
    assert updates_at_once(before, 200, 0) == 450
    after.resumed(200, 430, before.state)
    assert updates_at_once(after, 200, 430) == 20


def test_a_resumed_run_whose_log_was_emptied_warms_up_again() -> None:
    limit = limiter()
    limit.resumed(0, 5000, LimiterState(base_rows=100.0, base_updates=0.0))
    assert not limit.may_update(99, 5000)
    assert updates_at_once(limit, 100, 5000) == 50
    assert limit.permit(5000) == 100 + 12


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: limiter(ratio=0.0), "update_ratio = 0, allowed more than 0; say how many updates one step is worth"),
        (
            lambda: limiter(ratio=float("inf")),
            "update_ratio = inf, allowed more than 0; say how many updates one step is worth",
        ),
        (
            lambda: limiter(tolerance=float("nan")),
            "tolerance = nan, allowed a number; a large one lets either side run ahead",
        ),
        (lambda: limiter(warmup_rows=-1), "warmup_rows = -1, allowed 0 or more; 0 starts at the first row"),
        (lambda: limiter(tolerance=4.0), "tolerance = 4, allowed at least 1 + update_ratio = 5; raise it"),
    ],
)
def test_a_limit_that_cannot_work_is_refused(make: "object", message: str) -> None:
    assert callable(make)
    with pytest.raises(ConfigError, match=f"^{re.escape(message)}$"):
        make()
