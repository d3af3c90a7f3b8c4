"""Durability classes: when rows are durable, and that no cursor says so before they are."""

import subprocess
import sys
from pathlib import Path

import pytest

from tests.user_rl.log.recorded import SCHEMA, STREAM, mixed, rows
from user_rl.clock import FakeClock
from user_rl.errors import ConfigError, StorageFull
from user_rl.log import Log, LogConfig, Reader
from user_rl.log import batch as batch_module
from user_rl.log import writer as writer_module
from user_rl.log.segment import Segment
from user_rl.rows import Klass


def opened(path: Path, clock: FakeClock | None = None, **config: object) -> Log:
    log = Log(path, LogConfig(**config), clock=clock)  # type: ignore[arg-type]
    log.open_stream(STREAM, SCHEMA)
    return log


def test_each_append_is_durable_when_it_returns(tmp_path: Path) -> None:
    with opened(tmp_path, commit="each") as log:
        log.append(STREAM, mixed(0, 7))
        assert (log.synced(STREAM), log.pending) == (6, False)
        log.append_gap(STREAM, 7, 8)
        assert log.synced(STREAM) == 8
        assert log.read(STREAM, 0, 2**20)[-1].last == 6
        assert log.commit() == {STREAM: 8}
        assert log.commit() == {}


def test_each_append_that_finds_no_space_waits_for_the_next_commit(tmp_path: Path) -> None:
    with opened(tmp_path, commit="each", segment_bytes=8192, max_bytes=2**15) as log:
        at = 0
        while log.size_bytes() <= 2**15:
            log.append(STREAM, rows(at, 50))
            at += 50
        with pytest.raises(StorageFull):
            log.append(STREAM, rows(at, 50))
        assert (log.synced(STREAM), log.appended(STREAM)) == (at - 1, at + 49)
        log.config = LogConfig(commit="each")
        assert log.commit() == {STREAM: at + 49}


def test_a_group_waits_for_its_time_and_returns_no_cursor_before(tmp_path: Path) -> None:
    clock = FakeClock(100.0)
    with opened(tmp_path, clock, group_ms=50.0) as log:
        log.append(STREAM, rows(0, 5))
        assert log.wait_s() == 0
        assert log.commit() == {STREAM: 4}  # the first has none to wait for
        log.append(STREAM, rows(5, 5))
        clock.advance(0.049)
        assert log.commit() == {}
        assert (log.synced(STREAM), log.pending) == (4, True)
        assert log.wait_s() == pytest.approx(0.001)
        log.append(STREAM, rows(10, 5))
        clock.advance(0.002)
        assert log.commit() == {STREAM: 14}
        assert not log.pending
        log.append(STREAM, rows(15, 5))
        assert log.sync() == {STREAM: 19}


def test_an_empty_commit_does_not_begin_a_group(tmp_path: Path) -> None:
    clock = FakeClock()
    with opened(tmp_path, clock, group_ms=50.0) as log:
        assert log.commit() == {}
        log.append(STREAM, rows(0, 5))
        assert log.commit() == {STREAM: 4}


def test_a_group_that_is_large_does_not_wait(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(writer_module, "TRANSACTION_BYTES", 10 * SCHEMA.row_bytes)
    with opened(tmp_path, FakeClock(), group_ms=50.0) as log:
        log.append(STREAM, rows(0, 1))
        log.commit()
        log.append(STREAM, rows(1, 9))
        assert log.commit() == {}
        log.append(STREAM, rows(10, 1))
        assert log.commit() == {STREAM: 10}


@pytest.mark.slow
def test_a_cursor_that_a_failed_commit_moved_comes_with_the_next(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write = batch_module.write

    def refuse_demonstrations(segment: Segment, *rest: object) -> int:
        if segment.klass == Klass.DEMONSTRATION:
            raise StorageFull("no space")
        return write(segment, *rest)  # type: ignore[arg-type]

    with opened(tmp_path) as log:
        log.open_stream("b/1/r", SCHEMA)
        log.append("b/1/r", rows(0, 5))
        log.append(STREAM, rows(0, 5, klass=Klass.DEMONSTRATION))
        monkeypatch.setattr(batch_module, "write", refuse_demonstrations)
        with pytest.raises(StorageFull):
            log.commit()
        assert (log.synced("b/1/r"), log.synced(STREAM)) == (4, -1)
        monkeypatch.undo()
        assert log.commit() == {STREAM: 4, "b/1/r": 4}


def test_without_syncs_only_sync_moves_a_cursor(tmp_path: Path) -> None:
    with opened(tmp_path, commit="nosync") as log:
        log.append(STREAM, mixed(0, 20))
        assert log.commit() == {}
        assert (log.synced(STREAM), log.pending) == (-1, True)
        assert not any(s._environment().flags()["sync"] for s in log._shelf.segments)
        assert [chunk.last for chunk in log.read(STREAM, 0, 2**20)][-1] == 19
        log.append(STREAM, mixed(20, 5))
        assert log.sync() == {STREAM: 24}
        assert (log.synced(STREAM), log.pending) == (24, False)
        assert log.sync() == {}


WRITER = """
import os, sys
from pathlib import Path
from tests.user_rl.log.recorded import SCHEMA, STREAM, mixed
from user_rl.log import Log, LogConfig
log = Log(Path(sys.argv[1]), LogConfig(commit="nosync", segment_bytes=65536))
log.open_stream(STREAM, SCHEMA)
for at in range(0, 900, 90):
    log.append(STREAM, mixed(at, 90))
    log.commit()
os.kill(os.getpid(), 9)
"""


@pytest.mark.slow
def test_without_syncs_what_was_committed_survives_a_killed_process(tmp_path: Path) -> None:
    assert subprocess.run([sys.executable, "-c", WRITER, str(tmp_path)], check=False).returncode == -9
    with Reader(tmp_path) as reader:
        found = sorted(reader.read(STREAM, 0, 2**30), key=lambda chunk: chunk.first)
        assert b"".join(chunk.data for chunk in found) == mixed(0, 900).tobytes()
    with Log(tmp_path) as log:
        assert log.synced(STREAM) == 899


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ({"commit": "goup"}, "log.commit = 'goup', allowed each, group, nosync; did you mean group?"),
        ({"commit": "7"}, "log.commit = '7', allowed each, group, nosync; choose one of these"),
        (
            {"group_ms": -1.0},
            "log.group_ms = -1.0 with log.commit = group, allowed 0 to 60000 with group, 0 with others; "
            "change one of the two",
        ),
        (
            {"group_ms": 5.0, "commit": "each"},
            "log.group_ms = 5.0 with log.commit = each, allowed 0 to 60000 with group, 0 with others; "
            "change one of the two",
        ),
    ],
)
def test_what_is_no_class_is_refused(config: dict[str, object], message: str) -> None:
    with pytest.raises(ConfigError) as error:
        LogConfig(**config)  # type: ignore[arg-type]
    assert str(error.value) == message
