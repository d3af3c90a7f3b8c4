"""Retention: what a log gives up, in which order, and what it never does."""

from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.user_rl.log.recorded import SCHEMA, STREAM, mixed, rows
from user_rl.errors import ConfigError, StorageFull
from user_rl.log import Log, LogConfig, Reader
from user_rl.log.pins import holding
from user_rl.log.retention import HOUR_S, Held, OnFull, RetentionConfig, outdated
from user_rl.log.tally import FILE, Count
from user_rl.rows import Kind, Klass

SMALL = LogConfig(segment_bytes=96 * 1024)
HELD = st.lists(st.tuples(st.integers(0, 3), st.integers(1, 4), st.integers(0, 9)), max_size=12)
LIMITS = st.tuples(*(st.none() | st.integers(1, 12) for _ in range(3)))


def keeping(**keys: object) -> LogConfig:
    return replace(SMALL, retention=RetentionConfig(**keys))  # type: ignore[arg-type]


def fill(log: Log, count: int, *, stream: str = STREAM, klass: int = Klass.ONLINE) -> None:
    first = log.open_stream(stream, SCHEMA) + 1
    for at in range(first, first + count, 40):
        log.append(stream, rows(at, 40, klass=klass))
        log.commit()


def drain(log: Log) -> int:
    """Retains until there is nothing to drop; returns how often something was."""
    times = 0
    while log.retain():
        times += 1
    return times


def kept_rows(path: Path) -> int:
    with Reader(path) as reader:
        return sum(chunk.count for chunk in reader.scan(STREAM))


@given(HELD, LIMITS)
def test_what_is_newer_than_every_limit_stays_and_what_is_older_than_one_goes(
    held: list[tuple[int, int, int]], limits: tuple[int | None, ...]
) -> None:
    online = [Held(f"s{i}", r, b, True, 1e6 + HOUR_S * t) for i, (r, b, t) in enumerate(held)]
    config = RetentionConfig(keep_rows=limits[0], keep_bytes=limits[1], keep_hours=limits[2])
    now_s = 1e6 + HOUR_S * 9
    gone = set(outdated(online, config, now_s))
    for i, segment in enumerate(online):
        newer = online[i + 1 :]
        within = (
            (limits[0] is None or sum(s.rows for s in newer) < limits[0])
            and (limits[1] is None or sum(s.bytes for s in newer) < limits[1])
            and (limits[2] is None or now_s - segment.sealed_s <= limits[2] * HOUR_S)
        )
        assert (segment.name in gone) == (not within)


def test_what_is_written_has_no_age_and_neither_has_what_does_not_say() -> None:
    online = [Held("old", 5, 5, True, 0.0), Held("active", 5, 5, False, 0.0)]
    assert outdated(online, RetentionConfig(keep_hours=1), 1e9) == []
    assert outdated(online, RetentionConfig(keep_rows=1), 1e9) == ["old"]
    assert outdated([online[1]] * 3, RetentionConfig(keep_rows=1), 1e9) == []


@pytest.mark.parametrize("key", ["keep_rows", "keep_bytes", "keep_hours"])
def test_a_limit_is_more_than_nothing(key: str) -> None:
    with pytest.raises(ConfigError, match=rf"^retention\.{key} = 0, allowed more than 0, or null: keep all$"):
        keeping(**{key: 0})


@pytest.mark.slow
def test_the_newest_rows_stay_and_the_cursor_outlives_the_oldest(tmp_path: Path) -> None:
    with Log(tmp_path, keeping(keep_rows=600)) as log:
        fill(log, 3000)
        assert drain(log) > 2
        first = log.first_kept(STREAM)
        assert 3000 - 600 - 400 < first <= 3000 - 600
        assert kept_rows_of(log) == rows(first, 3000 - first).tobytes()
        gone = log.gone()
        assert (gone.rows, gone.steps) == (first, first * 4 // 5)
        assert gone.bytes > first * SCHEMA.row_bytes
    with Log(tmp_path, keeping(keep_rows=600)) as log:
        assert (log.synced(STREAM), log.first_kept(STREAM), drain(log)) == (2999, first, 0)
        assert log.gone() == gone


def kept_rows_of(log: Log) -> bytes:
    return b"".join(chunk.data for chunk in log.read(STREAM, 0, 2**30))


@pytest.mark.slow
def test_a_log_keeps_so_many_bytes_and_one_segment_more(tmp_path: Path) -> None:
    with Log(tmp_path, keeping(keep_bytes=300_000)) as log:
        fill(log, 3000)
        drain(log)
        assert 300_000 <= log.size_bytes() < 300_000 + 2 * 96 * 1024


@pytest.mark.slow
def test_a_segment_goes_so_many_hours_after_it_was_sealed(tmp_path: Path) -> None:
    now_s = [1e9]
    with Log(tmp_path, keeping(keep_hours=2), wall=lambda: now_s[0]) as log:
        fill(log, 900)
        count = len(log.sealed())
        now_s[0] += 1.5 * HOUR_S
        fill(log, 900)
        assert drain(log) == 0
        now_s[0] += 0.6 * HOUR_S
        assert drain(log) == count
        now_s[0] += 100 * HOUR_S
        drain(log)
        assert len(log.sealed()) <= 1  # the newest is no old one
        assert log.synced(STREAM) == 1839


@pytest.mark.slow
def test_demonstrations_are_never_dropped(tmp_path: Path) -> None:
    with Log(tmp_path, keeping(keep_rows=1, on_full=OnFull.DROP_OLDEST)) as log:
        log.open_stream(STREAM, SCHEMA)
        for at in range(0, 3000, 100):
            log.append(STREAM, mixed(at, 100))
            log.commit()
        assert drain(log) > 0
        held = SCHEMA.view(kept_rows_of(log))
    everything = mixed(0, 3000)
    shown = everything["klass"] == Klass.DEMONSTRATION
    assert held[held["klass"] == Klass.DEMONSTRATION].tobytes() == everything[shown].tobytes()
    assert len(held) < 3000


@pytest.mark.slow
def test_a_pinned_segment_stays_and_the_next_one_goes(tmp_path: Path) -> None:
    with Log(tmp_path, keeping(keep_rows=1)) as log:
        fill(log, 1600)
        one, two, *_ = log.sealed()
        log.pin("checkpoint", [one])
        assert log.retain() > 0
        assert (tmp_path / one).is_dir()
        assert not (tmp_path / two).exists()
        drain(log)
        assert log.sealed() == [one]
        log.unpin("checkpoint")
        assert drain(log) == 1


@pytest.mark.slow
def test_nothing_is_dropped_while_somebody_chooses_what_to_pin(tmp_path: Path) -> None:
    with Log(tmp_path, keeping(keep_rows=1)) as log:
        fill(log, 1600)
        with holding(tmp_path):
            assert log.retain() == 0
        assert log.retain() > 0


@pytest.mark.slow
def test_nothing_is_dropped_while_a_pin_cannot_be_read(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    with Log(tmp_path, keeping(keep_rows=1)) as log:
        fill(log, 800)
        (tmp_path / "pins").mkdir()
        (tmp_path / "pins" / "who.json").write_text("{")
        assert log.retain() == 0
        assert "who.json cannot be read" in caplog.text
        assert "delete it where its holder is gone" in caplog.text


@pytest.mark.slow
def test_without_limits_nothing_is_dropped_and_a_full_log_refuses(tmp_path: Path) -> None:
    with Log(tmp_path, replace(SMALL, max_bytes=4 * 96 * 1024)) as log:
        with pytest.raises(StorageFull, match="trim acknowledged rows or raise max_bytes"):
            fill(log, 3000)
        assert (log.retain(), log.first_kept(STREAM)) == (0, 0)
    assert not (tmp_path / FILE).exists()


@pytest.mark.slow
def test_a_full_log_gives_up_its_oldest_online_segments_where_it_may(tmp_path: Path) -> None:
    config = replace(keeping(on_full=OnFull.DROP_OLDEST), max_bytes=8 * 96 * 1024)
    with Log(tmp_path, config) as log:
        fill(log, 300, klass=Klass.DEMONSTRATION)
        fill(log, 4000)
        assert log.synced(STREAM) == 4319
        assert log.size_bytes() < 9 * 96 * 1024
        held = SCHEMA.view(kept_rows_of(log))
        assert (held["klass"][:320] == Klass.DEMONSTRATION).all()
        first = int(held["step"][320])
        assert held[320:].tobytes() == rows(first, 4320 - first).tobytes()
        assert log.gone().rows == first - 320
        assert int((held["kind"][320:] == Kind.STEP).sum()) + log.gone().steps == 3200
        log.pin("everything", log.sealed())
        with pytest.raises(StorageFull):
            fill(log, 2000)


@pytest.mark.slow
def test_what_is_about_to_leave_counts_only_once_it_has_left(tmp_path: Path) -> None:
    with Log(tmp_path, keeping(keep_rows=1)) as log:
        fill(log, 800)
        name = log.sealed()[0]
        log._eviction._shelf.drop, drop = lambda _: 0, log._eviction._shelf.drop  # type: ignore[method-assign,assignment]
        log.retain()
        assert log.gone() == Count()
        log._eviction._shelf.drop = drop  # type: ignore[method-assign]
        assert log.retain() > 0
        assert log.gone().segments == 1
        assert not (tmp_path / name).exists()
