"""What a camera's frames are held against."""

from edge.doctor.diagnosis import Result, Row, judged
from edge.doctor.measure import Series
from edge.doctor.streams import call_row, jitter_row, rate_row, stamps_row

_DROPS = 0.01  # of the frames
_JITTER = 1.4  # of the usual distance between two frames


def camera_rows(about: str, series: Series, *, wanted_hz: float, pictures: int, uniform: bool) -> list[Row]:
    """`pictures`: how many of the frames differ; `uniform`: the last one has one colour."""
    fix = "more light, a USB 3 port of its own, a smaller picture, or a lower rate_hz"
    rows = [rate_row(about, series, wanted_hz, fix=fix)]
    if 1 < series.news < series.reads:  # else it draws a frame whenever it is asked, as a simulated one does
        fix = "a fixed exposure, and nothing else on this port"
        rows += [_drops_row(about, series), jitter_row(about, series, _JITTER * series.gap_s[0], fix=fix)]
    rows += [stamps_row(about, series, 1.0 / wanted_hz), call_row(about, series, 1.0 / wanted_hz)]
    return [*rows, _picture_row(about, series, pictures, uniform)]


def _drops_row(about: str, series: Series) -> Row:
    frames = series.news + series.dropped
    return judged(
        about,
        "drops",
        holds=series.dropped <= _DROPS * frames,
        value=f"{series.dropped} of {frames} frames",
        allowed=f"≤ {_DROPS:.0%}",
        fix="a port and a cable of its own: too much shares this one",
    )


def _picture_row(about: str, series: Series, pictures: int, uniform: bool) -> Row:
    value, fix = f"{pictures} different in {series.news} frames", ""
    if uniform:
        value, fix = "every pixel is equal", "take off the lens cap, switch on the light"
    elif pictures < 2 < series.news:
        value, fix = "bit by bit the same in every frame", "right in a still simulation: a real camera is stuck"
    return judged(about, "pictures", holds=not fix, value=value, allowed="change", fix=fix, otherwise=Result.WARN)
