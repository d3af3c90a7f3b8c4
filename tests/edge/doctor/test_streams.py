import pytest

from edge.doctor.diagnosis import Result
from edge.doctor.measure import Series
from edge.doctor.streams import rate_row, stamps_row


def regular(**more: int) -> Series:
    stamps_s = [k / 10 for k in range(30)]
    return Series(stamps_s=stamps_s, ages_s=[0.01] * 30, took_s=[0.001] * 30, **more)


def test_a_rate_is_no_good_while_readings_are_stale() -> None:
    assert rate_row("robot", regular(), 10.0, fix="f").result is Result.OK
    stale = rate_row("robot", regular(stale=2), 10.0, fix="f")
    assert (stale.result, stale.value, stale.fix) == (Result.FAIL, "10 Hz, 2 calls found it stale", "f")


@pytest.mark.parametrize(("promised_hz", "result"), [(11.0, Result.OK), (11.2, Result.FAIL)])
def test_a_tenth_of_the_rate_may_be_missing(promised_hz: float, result: Result) -> None:
    assert rate_row("robot", regular(), promised_hz, fix="f").result is result


def test_a_device_that_said_nothing_has_no_stamps_to_judge() -> None:
    assert stamps_row("robot", Series(stale=5), 0.1).result is Result.SKIP
    assert rate_row("robot", Series(stale=5), 10.0, fix="f").value == "0 Hz, 5 calls found it stale"
