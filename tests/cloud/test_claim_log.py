"""A checkpoint's hold on the log: what it needs stays until the next checkpoint is there."""

import logging
from pathlib import Path

import numpy as np
import pytest

from cloud.claim_log import HOLDER, LogClaim
from cloud.testing import MemoryLog, episode_rows, state_schema
from user_rl.log import Log, LogConfig, Reader
from user_rl.log.pins import pins
from user_rl.log.retention import RetentionConfig
from user_rl.log.snapshot import Wanted

pytestmark = pytest.mark.slow
SCHEMA, STREAM = state_schema(), "arm/b1/peg"
CONFIG = LogConfig(segment_bytes=64 * 1024, retention=RetentionConfig(keep_rows=1))


def write(path: Path, episodes: int) -> None:
    rng = np.random.default_rng(0)
    with Log(path, CONFIG) as log:
        first = log.open_stream(STREAM, SCHEMA) + 1
        for n in range(first // 10, first // 10 + episodes):
            log.append(STREAM, episode_rows(SCHEMA, rng, length=9, first_step=10 * n, number=n))
            log.commit()


def retain(path: Path) -> None:
    with Log(path, CONFIG) as log:
        while log.retain():
            pass


def test_what_a_checkpoint_needs_stays_until_the_next_one_has_replaced_it(tmp_path: Path) -> None:
    write(tmp_path, 150)
    with Reader(tmp_path) as reader:
        claim = LogClaim(tmp_path, reader, Wanted(online_rows=500))
        one = claim.take(reader.tail(0, 2**30)[-1][0], None)
    assert one is not None
    retain(tmp_path)
    write(tmp_path, 150)
    with Reader(tmp_path) as reader:
        claim = LogClaim(tmp_path, reader, Wanted(online_rows=500))
        claim.check(one)
        seq = reader.tail(0, 2**30)[-1][0]
        two = claim.take(seq, one)
        assert two is not None
        assert set(pins(tmp_path)[HOLDER].segments) == {*one.segments, *two.segments}
        assert pins(tmp_path)[HOLDER].seqs == [one.seq, two.seq]
        three = claim.take(seq, two)
        assert three == two
        assert pins(tmp_path)[HOLDER].segments == sorted(two.segments)
        assert claim.gone_steps() > 0


def test_what_is_still_being_written_stays_pinned_until_the_manifest_names_something_later(tmp_path: Path) -> None:
    write(tmp_path, 150)
    with Reader(tmp_path) as reader:
        claim = LogClaim(tmp_path, reader, Wanted(online_rows=100))
        one, two, three = (claim.take(seq, None) for seq in (20, 80, 140))
        assert one is not None
        assert two is not None
        assert three is not None
        assert set(pins(tmp_path)[HOLDER].segments) == {*one.segments, *two.segments, *three.segments}
        claim.take(150, two)
        assert pins(tmp_path)[HOLDER].seqs == [80, 140, 150]


def test_what_is_missing_is_told(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    write(tmp_path, 150)
    with Reader(tmp_path) as reader:
        claim = LogClaim(tmp_path, reader, Wanted())
        found = claim.take(150, None)
        assert found is not None
        claim.check(found)
        assert not caplog.records
        (tmp_path / found.segments[0]).rename(tmp_path / ".old-x")
        claim.check(found)
        assert "1 dropped" in caplog.text
        assert [r.levelno for r in caplog.records] == [logging.WARNING]


def test_a_log_in_memory_holds_nothing(tmp_path: Path) -> None:
    claim = LogClaim(tmp_path, MemoryLog(SCHEMA), Wanted())
    assert (claim.take(3, None), claim.gone_steps()) == (None, 0)
    assert not list(tmp_path.iterdir())


def test_a_checkpoint_without_a_hold_is_told(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    write(tmp_path, 20)
    with Reader(tmp_path) as reader:
        claim = LogClaim(tmp_path, reader, Wanted())
        (tmp_path / "pins").write_text("a file where the folder should be")
        assert claim.take(20, None) is None
    assert "a checkpoint without a hold on the log" in caplog.text
