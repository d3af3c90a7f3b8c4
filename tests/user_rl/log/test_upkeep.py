"""Upkeep: retention at a bounded rate, and every sealed segment verified by a child, again and again."""

import logging
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from tests.user_rl.log.recorded import SCHEMA, STREAM, rows
from user_rl.clock import FakeClock
from user_rl.log import Log, LogConfig, verify
from user_rl.log.retention import RetentionConfig
from user_rl.log.upkeep import EVERY_S, Upkeep

pytestmark = pytest.mark.slow
DAY_S = 24 * 3600.0
SMALL = LogConfig(segment_bytes=96 * 1024)


@pytest.fixture
def log(tmp_path: Path) -> Iterator[Log]:
    with Log(tmp_path, SMALL) as found:
        fill(found, 1200)
        yield found


def fill(log: Log, count: int) -> None:
    first = log.open_stream(STREAM, SCHEMA) + 1
    for at in range(first, first + count, 40):
        log.append(STREAM, rows(at, 40))
        log.commit()


def flip(file: Path, at: float) -> None:
    data = bytearray(file.read_bytes())
    data[int(at * len(data))] ^= 4
    file.write_bytes(data)


def verify_all(upkeep: Upkeep, clock: FakeClock, log: Log) -> None:
    """Steps until no child works and none is to come."""
    while True:
        clock.advance(EVERY_S)
        upkeep.step()
        child = upkeep._child
        if child is not None:
            child._process.wait()
        elif is_seen(upkeep, clock, log):
            return


def is_seen(upkeep: Upkeep, clock: FakeClock, log: Log) -> bool:
    """Whether every sealed segment was looked at within the last day, and no other is remembered as one."""
    return {name for name, at_s in upkeep._seen.items() if at_s > clock.now_s() - DAY_S} == set(log.sealed())


def test_it_drops_a_segment_a_second_at_most(tmp_path: Path) -> None:
    config, clock = replace(SMALL, retention=RetentionConfig(keep_rows=1)), FakeClock()
    with Log(tmp_path, config) as log:
        fill(log, 1600)
        before, upkeep = len(log.sealed()), Upkeep(log, clock)
        for _ in range(5):
            upkeep.step()
        assert len(log.sealed()) == before - 1
        clock.advance(EVERY_S)
        upkeep.step()
        assert len(log.sealed()) == before - 2
        upkeep.close()


def test_each_sealed_segment_is_verified_once_and_what_is_sealed_later_too(log: Log) -> None:
    clock = FakeClock()
    upkeep = Upkeep(log, clock)
    verify_all(upkeep, clock, log)
    assert is_seen(upkeep, clock, log)
    fill(log, 400)
    assert not is_seen(upkeep, clock, log)
    verify_all(upkeep, clock, log)
    assert is_seen(upkeep, clock, log)


def test_a_bit_that_flips_after_the_verification_is_found_a_day_later(log: Log) -> None:
    clock = FakeClock()
    upkeep = Upkeep(log, clock)
    verify_all(upkeep, clock, log)
    name, seen = log.sealed()[1], dict(upkeep._seen)
    flip(log.path / name / "data.mdb", 0.6)
    clock.advance(DAY_S - 200)
    upkeep.step()
    assert upkeep._seen == seen
    assert upkeep._child is None
    clock.advance(200)
    verify_all(upkeep, clock, log)
    assert name not in log.sealed()
    assert log.gone().segments == 1


@pytest.mark.parametrize("at", [0.3, 0.6, 0.97])
def test_flipped_bits_end_in_quarantine_with_one_line(log: Log, caplog: pytest.LogCaptureFixture, at: float) -> None:
    name = log.sealed()[1]
    flip(log.path / name / "data.mdb", at)
    clock = FakeClock()
    upkeep = Upkeep(log, clock)
    verify_all(upkeep, clock, log)
    assert name not in log.sealed()
    assert (log.path / "quarantine" / name / "reason.json").is_file()
    assert len([r for r in caplog.records if r.levelno == logging.ERROR]) == 1
    assert "it is in quarantine" in caplog.text
    assert log.synced(STREAM) == 1199
    fill(log, 40)
    assert verify(log.path) == []


def test_a_child_that_takes_too_long_is_ended_and_nothing_is_set_aside(
    log: Log, caplog: pytest.LogCaptureFixture
) -> None:
    clock = FakeClock()
    upkeep = Upkeep(log, clock)
    upkeep.step()
    child = upkeep._child
    assert child is not None
    clock.advance(1e6)
    upkeep.step()
    assert child._process.returncode is not None
    assert log.gone().segments == 0
    upkeep.close()
