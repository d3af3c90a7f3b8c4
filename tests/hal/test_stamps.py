import numpy as np
import pytest

from hal.stamps import StampMapper


def test_a_stamp_is_freed_of_the_jitter_of_its_arrival() -> None:
    mapper, rng = StampMapper(), np.random.default_rng(0)
    device_s = np.arange(300) / 30
    delay_s = 0.02 + rng.exponential(0.01, 300)
    stamps_s = np.array([mapper.stamp_s(d, 1000 + d + w) for d, w in zip(device_s, delay_s, strict=True)])
    error_s = (stamps_s - 1000 - device_s)[30:]
    assert error_s.min() > 0.0199
    assert error_s.max() < 0.0215
    assert delay_s[30:].max() > 0.05


def test_a_known_delay_is_taken_off() -> None:
    assert StampMapper(latency_s=0.015).stamp_s(5.0, 105.0) == pytest.approx(104.985)


def test_stamps_never_go_backwards_and_are_never_later_than_the_arrival() -> None:
    mapper, rng = StampMapper(), np.random.default_rng(1)
    arrivals_s = np.cumsum(rng.uniform(0, 0.05, 500))
    device_s = arrivals_s - rng.exponential(0.03, 500)  # also frames that overtake each other
    stamps_s = [mapper.stamp_s(d, a) for d, a in zip(device_s, arrivals_s, strict=True)]
    assert stamps_s == sorted(stamps_s)
    assert all(s <= a + 1e-9 for s, a in zip(stamps_s, arrivals_s, strict=True))


def test_a_clock_that_runs_slow_is_followed() -> None:
    mapper = StampMapper(window_s=10.0)
    for i in range(30 * 600):
        true_s = i / 30
        stamp_s = mapper.stamp_s(true_s * (1 - 1e-4), true_s)  # 60 ms behind after ten minutes
    assert true_s - stamp_s < 1.1e-3
    assert stamp_s <= true_s


def test_a_device_that_was_restarted_is_a_new_clock() -> None:
    mapper = StampMapper()
    mapper.stamp_s(500.0, 10.0)
    assert mapper.stamp_s(0.1, 12.0) == 12.0
    assert mapper.stamp_s(0.2, 12.15) == pytest.approx(12.1)


def test_a_device_whose_stamp_is_frozen_stays_in_the_past() -> None:
    mapper = StampMapper()
    stamps_s = {mapper.stamp_s(3.0, arrival_s) for arrival_s in (10.0, 11.0, 15.0, 60.0)}
    assert stamps_s == {10.0}
