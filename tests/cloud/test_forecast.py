"""cloud.forecast: how fast a disk fills, when it is full, and when a person should hear of it."""

import pytest

from cloud.forecast import HOUR_S, Alarm, DiskForecast, Forecast, planned_end_h

GB = 10**9
RATE = 3.6 * GB  # per hour: 1 MB a second


def fed(*samples: tuple[float, float, float]) -> Forecast:
    forecast, told = DiskForecast(), None
    for time_s, used, free in samples:
        told = forecast.add(time_s, round(used), round(free))
    assert told is not None
    return told


def growing(count: int, *, every_s: float = 10.0) -> list[tuple[float, float, float]]:
    return [(i * every_s, i * every_s * 1e6, 100 * GB - i * every_s * 1e6) for i in range(count)]


def test_a_run_that_grows_steadily_fills_the_disk_when_arithmetic_says() -> None:
    told = fed(*growing(31))
    assert told.free_bytes == 100 * GB - 300 * 10**6
    assert told.bytes_per_hour == pytest.approx(RATE)
    assert told.full_in_h == pytest.approx(told.free_bytes / RATE)


@pytest.mark.parametrize("count", [1, 5, 12])
def test_less_than_two_minutes_say_nothing(count: int) -> None:
    assert fed(*growing(count)).bytes_per_hour is None
    assert fed(*growing(count)).full_in_h is None


def test_a_few_samples_far_apart_say_nothing() -> None:
    assert fed(*growing(5, every_s=60.0)).bytes_per_hour is None
    assert fed(*growing(6, every_s=60.0)).bytes_per_hour == pytest.approx(RATE)


def test_a_disk_that_gets_emptier_is_never_full() -> None:
    told = fed(*[(t, GB - t * 1e6, 50 * GB + t * 1e6) for t in range(0, 300, 10)])
    assert told.bytes_per_hour == pytest.approx(-RATE)
    assert told.full_in_h is None


def test_a_disk_that_stays_as_it_is_is_never_full() -> None:
    told = fed(*[(t, GB, 50 * GB) for t in range(0, 300, 10)])
    assert (told.bytes_per_hour, told.full_in_h) == (0.0, None)


def test_a_dropped_segment_and_a_neighbours_file_hardly_move_the_rate() -> None:
    samples = growing(61)
    samples[20] = (200.0, samples[20][1], 60 * GB)  # a neighbour's temporary file
    dropped = [(t, used - 0.25 * GB * (t >= 500), free + 0.25 * GB * (t >= 500)) for t, used, free in samples]
    assert fed(*dropped).bytes_per_hour == pytest.approx(RATE, rel=0.1)


def test_a_neighbour_who_writes_faster_than_the_run_counts() -> None:
    told = fed(*[(t, t * 1e6, 100 * GB - 5e6 * t) for t in range(0, 300, 10)])
    assert told.bytes_per_hour == pytest.approx(5 * RATE)


def test_a_run_whose_growth_is_hidden_by_a_neighbour_who_deletes_still_counts() -> None:
    told = fed(*[(t, t * 1e6, 50 * GB + 5e6 * t) for t in range(0, 300, 10)])
    assert told.bytes_per_hour == pytest.approx(RATE)


def test_what_is_older_than_the_window_is_forgotten() -> None:
    fast = [(float(t), 1e7 * t, 100 * GB - 1e7 * t) for t in range(0, 600, 10)]
    slow = [(600.0 + t, 6e9 + 1e6 * t, 94 * GB - 1e6 * t) for t in range(0, 910, 10)]
    assert fed(*fast, *slow).bytes_per_hour == pytest.approx(RATE)


def test_the_alarm_rings_once_and_again_when_what_is_left_has_halved() -> None:
    alarm = Alarm(within_h=24.0)
    rung = [alarm.rings(h, None) for h in (None, 30.0, 24.0, 23.0, 22.0, 11.6, 11.5, 11.0, 5.75, 100.0, 5.0, 2.8)]
    assert rung == [False, False, False, True, False, False, True, False, True, False, False, True]


def test_the_alarm_rings_for_a_disk_that_is_full_before_the_runs_end() -> None:
    assert not Alarm(within_h=24.0).rings(48.0, 47.0)
    assert Alarm(within_h=24.0).rings(48.0, 49.0)
    assert Alarm(within_h=24.0).rings(20.0, 1.0)


def test_the_planned_end_follows_the_share_that_is_done() -> None:
    assert planned_end_h(0.25, 3 * HOUR_S) == pytest.approx(9.0)
    assert planned_end_h(1.0, HOUR_S) == 0.0
    assert planned_end_h(0.0, HOUR_S) is None
