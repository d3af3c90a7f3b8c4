import numpy as np
import pytest

from edge.doctor.measure import Series, watch
from user_rl.clock import FakeClock
from user_rl.errors import HardwareError, SensorStale


def series(*stamps_s: float) -> Series:
    return Series(stamps_s=list(stamps_s), ages_s=[0.01] * len(stamps_s), took_s=[0.001] * len(stamps_s))


def test_rate_and_gaps_count_each_reading_once() -> None:
    found = series(1.0, 1.0, 1.1, 1.1, 1.1, 1.2, 1.3)
    assert (found.reads, found.news) == (7, 4)
    assert found.rate_hz == pytest.approx(10.0)
    assert found.gap_s == pytest.approx((0.1, 0.1))


def test_what_was_left_out_is_counted() -> None:
    assert series(*np.arange(10) / 10).dropped == 0
    assert series(0.0, 0.1, 0.2, 0.5, 0.6, 0.7, 0.9).dropped == 2 + 1
    assert series(0.0, 0.1, 0.24, 0.3).dropped == 0


def test_stamps_that_go_back_are_seen() -> None:
    assert series(1.0, 1.2, 1.1).goes_back
    assert not series(1.0, 1.0, 1.1).goes_back


def test_the_worst_age_is_the_farthest_from_none() -> None:
    found = Series(ages_s=[0.01, 0.02, -0.5, 0.03])
    assert found.age_s == pytest.approx((0.015, -0.5))


def test_the_99th_percentile_sees_what_the_median_does_not() -> None:
    found = Series(took_s=[0.001] * 97 + [0.1] * 3)
    assert found.call_s == pytest.approx((0.001, 0.1))


def test_one_reading_or_none_has_no_rate() -> None:
    assert (series(1.0).rate_hz, series().rate_hz, series().dropped, series().gap_s) == (0.0, 0.0, 0, (0.0, 0.0))


def test_watching_reads_at_its_period_and_notes_age_and_time() -> None:
    clock = FakeClock(50.0)

    def read() -> float:
        clock.advance(0.02)
        return clock.now_s() - 0.005

    found = watch(read, clock, for_s=1.0, every_s=0.1)
    assert found.reads == 10
    assert found.rate_hz == pytest.approx(10.0)
    assert found.call_s == pytest.approx((0.02, 0.02))
    assert found.age_s == pytest.approx((0.005, 0.005))


def test_a_read_that_takes_longer_than_its_period_is_not_caught_up() -> None:
    clock = FakeClock()

    def read() -> float:
        clock.advance(0.3)
        return clock.now_s()

    assert watch(read, clock, for_s=0.9, every_s=0.1).reads == 3


def test_stale_readings_are_counted_and_other_errors_end_it() -> None:
    clock, calls = FakeClock(), iter(range(100))

    def read() -> float:
        if next(calls) % 2:
            raise SensorStale("old")
        return clock.now_s()

    found = watch(read, clock, for_s=1.0, every_s=0.1)
    assert (found.reads, found.stale) == (5, 5)

    def broken() -> float:
        raise HardwareError("gone")

    with pytest.raises(HardwareError, match="gone"):
        watch(broken, clock, for_s=1.0, every_s=0.1)
