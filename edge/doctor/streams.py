"""Streams: what the readings of any device are held against, a robot's state as well as a camera's frames."""

from edge.doctor.diagnosis import Result, Row, judged
from edge.doctor.measure import Series

_RATE = 0.9  # of the promised rate, at least
_LATE_S, _EARLY_S = 0.1, 0.002  # a stamp may be older than the call by this or two periods, and younger by this
_ANOTHER_CLOCK_S = 10.0  # older than that is no delay


def rate_row(about: str, series: Series, promised_hz: float, *, fix: str) -> Row:
    """Whether something new comes as often as promised."""
    allowed = f"≥ {_RATE * promised_hz:.3g} Hz"
    if series.news == 1 < series.reads:
        value = f"one stamp in {series.reads} readings: it stands still"
        fix = "see that the device still sends, and that its driver stamps every reading"
        return Row(about=about, check="rate", result=Result.FAIL, value=value, allowed=allowed, fix=fix)
    stale = f", {series.stale} calls found it stale" if series.stale else ""
    holds = series.rate_hz >= _RATE * promised_hz and not series.stale
    value = f"{series.rate_hz:.4g} Hz{stale}"
    return judged(about, "rate", holds=holds, value=value, allowed=allowed, fix=fix)


def jitter_row(about: str, series: Series, most_s: float, *, fix: str) -> Row:
    """Whether new readings come at even distances."""
    gap_s = series.gap_s
    return judged(about, "jitter", holds=gap_s[1] <= most_s, value=two(gap_s), allowed=f"p99 ≤ {ms(most_s)}", fix=fix)


def stamps_row(about: str, series: Series, period_s: float) -> Row:
    """Whether stamps are on this machine's clock, and how old a reading is when it is here."""
    late_s = max(_LATE_S, 2 * period_s)
    allowed = f"{ms(-_EARLY_S)} to {ms(late_s)} old"
    if not series.reads:
        return Row(about=about, check="stamps", result=Result.SKIP, value="no reading", allowed=allowed)
    if series.goes_back:
        fix = "its clock is set while it runs: stamps must never go backwards"
        return Row(about=about, check="stamps", result=Result.FAIL, value="go backwards", allowed=allowed, fix=fix)
    usual_s, worst_s = series.age_s
    fix = "it comes late: see network, exposure and what else this machine does"
    if worst_s < -_EARLY_S or worst_s > _ANOTHER_CLOCK_S:
        fix = "another clock: the driver must say when it measured on this machine's monotonic clock"
    holds, value = -_EARLY_S <= worst_s <= late_s, f"median {ms(usual_s)}, worst {ms(worst_s)} old"
    return judged(about, "stamps", holds=holds, value=value, allowed=allowed, fix=fix)


def call_row(about: str, series: Series, most_s: float) -> Row:
    """Whether a read returns at once."""
    fix = "read must return the newest at once: let the driver's own thread wait for the device"
    took_s = series.call_s
    return judged(
        about, "read call", holds=took_s[1] <= most_s, value=two(took_s), allowed=f"p99 ≤ {ms(most_s)}", fix=fix
    )


def two(times_s: tuple[float, float]) -> str:
    """A median and a 99th percentile, in words."""
    return f"median {ms(times_s[0])}, p99 {ms(times_s[1])}"


def ms(time_s: float) -> str:
    """Milliseconds, in words."""
    return f"{time_s * 1e3:.3g} ms"
