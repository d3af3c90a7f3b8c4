"""Rows read from a real log: the right ones, in whatever form they lie there, and by name what cannot be read."""

import hashlib
import logging
import os
import shutil
import threading
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from cloud.store.coldness import WARM_BYTES_S, Coldness
from cloud.store.index import HEAD, Index, Place
from cloud.store.intake import Intake
from cloud.store.records import ChunkLost, Records
from cloud.testing import MemoryLog, episode_rows, state_schema
from tests.cloud.store.logs import flip, online, rows_of, write
from user_rl.errors import StorageCorrupt
from user_rl.log import Log, LogConfig, Reader
from user_rl.log.chunk import ChunkRef
from user_rl.log.segment import SegmentGone
from user_rl.rows import Klass, Schema, make_schema
from user_rl.specs import Array, Image

SCHEMA = state_schema()
STATE = "observation.state"
EYE = Image(name="observation.images.eye", height=40, width=40)
SEEN = make_schema({**SCHEMA.observation, EYE.name: EYE}, SCHEMA.action)


@dataclass
class Opened:
    """A log that was taken in."""

    reader: Reader
    index: Index
    records: Records
    intake: Intake

    def fetch(self, rows: list[int], places: list[int] | None = None) -> Array:
        out = self.records.schema.new(len(rows))
        self.records.fetch(np.array(rows), out, np.arange(len(rows)) if places is None else np.array(places))
        return out

    def close(self) -> None:
        self.records.close()
        self.intake.close()
        self.reader.close()


def opened(path: Path, schema: Schema = SCHEMA) -> Opened:
    reader, index = Reader(path), Index()
    records = Records(reader, index, schema)
    found = Opened(reader, index, records, Intake(reader, index, records, schema, window=5))
    while found.intake.advance(7):
        pass
    return found


@pytest.fixture
def log(tmp_path: Path) -> Iterator[Opened]:
    write(tmp_path / "log", SCHEMA)
    with closing(opened(tmp_path / "log")) as found:
        yield found


def everything(schema: Schema = SCHEMA) -> Array:
    return np.concatenate([rows_of(schema, number) for number in range(60)])


def test_rows_come_to_their_places_and_fields_alone_too(log: Opened) -> None:
    rows, places = sorted(np.random.default_rng(0).permutation(600)[:80].tolist()), list(range(80))[::-1]
    np.testing.assert_array_equal(log.fetch(rows, places)[::-1], everything()[rows])
    np.testing.assert_array_equal(log.records.plain(np.array(rows), "action"), everything()["action"][rows])
    assert len(log.fetch([])) == 0


@pytest.mark.parametrize("codecs", [{}, {"observation.images.*": "lz4"}])
def test_pictures_come_alike_from_raw_and_coded_chunks_in_any_order(tmp_path: Path, codecs: dict[str, str]) -> None:
    source = episode_rows(SEEN, np.random.default_rng(0), length=49)
    with Log(tmp_path, LogConfig(codecs=codecs)) as log:
        log.open_stream("a/1/run", SEEN)
        for start in range(0, 50, 10):
            log.append("a/1/run", source[start : start + 10])
            log.commit()
    with closing(opened(tmp_path, SEEN)) as found:
        rows = [*range(3, 45)]
        np.testing.assert_array_equal(found.fetch(rows), source[rows])
        np.testing.assert_array_equal(found.fetch(rows, list(range(42))[::-1])[::-1], source[rows])


def test_a_damaged_chunk_is_named_by_its_number(tmp_path: Path) -> None:
    write(tmp_path / "log", SCHEMA)
    flip(tmp_path / "log", rows_of(SCHEMA, 30))
    with closing(opened(tmp_path / "log")) as log:
        with pytest.raises(ChunkLost, match="chunk at step 300") as lost:
            log.fetch([299, 300, 301])
        assert (lost.value.chunk, lost.value.gone) == (30, False)
        with pytest.raises(ChunkLost, match="chunk at step 300"):
            log.records.plain(np.array([301]), "action")
        np.testing.assert_array_equal(log.fetch([299, 310])[STATE], everything()[[299, 310]][STATE])


def test_a_segment_that_is_gone_is_told_from_damage_and_names_its_chunks(log: Opened, tmp_path: Path) -> None:
    segment = online(tmp_path / "log")[2]
    shutil.rmtree(tmp_path / "log" / segment)
    log.reader.segments()
    first = int(segment.rpartition("-")[2])
    with pytest.raises(ChunkLost) as lost:
        log.fetch([10 * (first - 1)])
    assert lost.value.gone
    assert log.records.beside(lost.value.chunk) == (segment, [first - 1, first, first + 1])


def test_chunks_are_taken_in_however_many_there_are(log: Opened) -> None:
    assert (len(log.index), log.intake.seq, log.intake.online_rows) == (600, 60, 57 * 9)
    assert (log.intake.demonstration_count, log.intake.episodes) == (3, 57)
    assert not log.intake.advance()


class Failing(MemoryLog):
    """A log whose second chunk cannot be looked at."""

    def __init__(self, error: Exception) -> None:
        super().__init__(SCHEMA)
        self.error = error

    def plain(self, ref: ChunkRef, *, check: bool = True) -> Array:
        if ref.seq == 2:
            raise self.error
        return super().plain(ref, check=check)


@pytest.mark.parametrize("damaged", [True, False])
def test_a_chunk_that_cannot_be_taken_in_is_left_out_and_the_next_is_not(
    damaged: bool, caplog: pytest.LogCaptureFixture
) -> None:
    log, index = Failing(StorageCorrupt("chunk 2 is bad") if damaged else SegmentGone("trimmed")), Index()
    for number in range(4):
        log.add("a/1/run", rows_of(SCHEMA, number))
    records = Records(log, index, SCHEMA)
    intake = Intake(log, index, records, SCHEMA, window=5)
    assert not intake.advance()
    assert (len(index), intake.seq) == (30, 4)
    out = SCHEMA.new(1)
    records.fetch(np.array([10]), out, np.array([0]))
    np.testing.assert_array_equal(out, rows_of(SCHEMA, 2)[:1])
    wanted = ["chunk 2 is bad; its rows are not learned from"] if damaged else []
    assert [r.message for r in caplog.records if r.levelno == logging.ERROR] == wanted


class Slow(Failing):
    """Its first chunk fails while another thread reads its third."""

    def __init__(self) -> None:
        super().__init__(StorageCorrupt("never"))
        self.started, self.done = threading.Event(), threading.Event()

    def plain(self, ref: ChunkRef, *, check: bool = True) -> Array:
        if ref.seq == 1:
            assert self.started.wait(10)
            raise StorageCorrupt("chunk 1 is bad")
        self.started.set()
        for _ in range(20):
            hashlib.sha256(bytes(2**21)).digest()
        self.done.set()
        return MemoryLog.plain(self, ref, check=check)


def test_a_failed_read_returns_when_no_thread_writes_any_more() -> None:
    log, index = Slow(), Index()
    for number in range(4):
        log.add("a/1/run", rows_of(SCHEMA, number))
    records = Records(log, index, SCHEMA)
    head: Array = np.concatenate([rows for _, rows in log.chunks])[list(HEAD.names or ())].astype(HEAD)
    index.append([Place(ref.stream, ref.seq, ref.count) for ref in log.refs(0, 9)], head)
    records.add(log.refs(0, 9))
    with pytest.raises(ChunkLost, match="chunk 1 is bad"):
        records.fetch(np.array([*range(20), *range(20, 40)]), SCHEMA.new(40), np.arange(40))
    assert log.done.is_set()


def test_reading_is_cold_until_a_copy_was_as_fast_as_memory() -> None:
    coldness = Coldness()
    assert coldness.is_cold
    coldness.took(int(WARM_BYTES_S), 0.9)
    assert not coldness.is_cold
    coldness.took(int(WARM_BYTES_S), 1.1)
    assert coldness.is_cold


def in_memory(fd: int, place: int, size: int) -> bool:
    """Whether the system has these bytes of a file and need not ask the disk; asking brings them."""
    try:
        return os.preadv(fd, [bytearray(size)], place, os.RWF_NOWAIT) == size
    except BlockingIOError:
        return False


def forget(path: Path) -> None:
    """Puts a log's files out of memory, but for what is mapped."""
    for file in path.glob("*/data.mdb"):
        with file.open("rb") as data:
            os.fsync(data.fileno())
            os.posix_fadvise(data.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


@pytest.fixture
def spans(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, int, int]]:
    """What the system is told to bring, and what is waited for: (place, bytes)."""
    calls, advise, read = list[tuple[str, int, int]](), os.posix_fadvise, os.preadv

    def told(fd: int, at: int, size: int, advice: int) -> None:
        names = {os.POSIX_FADV_WILLNEED: "told", os.POSIX_FADV_RANDOM: "random"}
        if advice in names:
            calls.append((names[advice], at, size))
        advise(fd, at, size, advice)

    def waited(fd: int, buffers: Any, at: int, flags: int = 0) -> int:  # noqa: ANN401  # as os has it
        if not flags:
            calls.append(("read", at, sum(len(buffer) for buffer in buffers)))
        return read(fd, buffers, at, flags)

    monkeypatch.setattr(os, "posix_fadvise", told)
    monkeypatch.setattr(os, "preadv", waited)
    return calls


@pytest.mark.slow
def test_the_disk_is_told_of_all_cold_rows_before_the_first_is_waited_for_and_of_nothing_else(
    tmp_path: Path, spans: list[tuple[str, int, int]]
) -> None:
    camera = Image(name="observation.images.wrist", height=80, width=80)
    schema = make_schema({**SCHEMA.observation, camera.name: camera}, SCHEMA.action)
    whole = np.concatenate([rows_of(schema, number) for number in range(30)])
    whole["klass"] = Klass.ONLINE
    with Log(tmp_path, LogConfig()) as written:
        written.open_stream("a/1/run", schema)
        for start in range(0, 300, 50):
            written.append("a/1/run", whole[start : start + 50])
            written.commit()
    with closing(opened(tmp_path, schema)) as log:
        assert log.fetch([*range(300)]).tobytes() == whole.tobytes()  # and held against the digests, once
        refs, row_bytes, told = log.reader.refs(0, 9), schema.row_bytes, len(spans)
        log.records.close()
        log.intake.close()
        log.reader._segments[-1].close()
        with log.reader.hold() as hold:
            fd, start = hold.where(refs[4]) or (-1, -1)
            forget(tmp_path)
            if in_memory(fd, start + 40 * row_bytes, row_bytes):
                pytest.skip("this file system keeps everything in memory")
            records = Records(log.reader, log.index, schema, threads=1)
            records.add(refs)
            out = schema.new(4)
            records.fetch(np.array([200, 201, 209, 220]), out, np.arange(4))
            assert out.tobytes() == whole[[200, 201, 209, 220]].tobytes()
            calls = spans[told:]
            assert calls.pop(0) == ("random", 0, 0)  # where the file was opened
            assert [name for name, _, _ in calls] == ["told"] * 3 + ["read"] * 3
            assert [call[1:] for call in calls[:3]] == [call[1:] for call in calls[3:]]
            assert calls[0][1:] == (start, 2 * row_bytes)
            assert in_memory(fd, start + 20 * row_bytes, row_bytes)
            assert not in_memory(fd, start + 45 * row_bytes, row_bytes)
            hold.close()
            records.close()


@pytest.mark.slow
def test_large_rows_are_read_around_the_map_alike_and_checked_too(tmp_path: Path) -> None:
    camera = Image(name="observation.images.wrist", height=40, width=40)
    schema = make_schema({**SCHEMA.observation, camera.name: camera}, SCHEMA.action)
    write(tmp_path, schema)
    flip(tmp_path, rows_of(schema, 30))
    with closing(opened(tmp_path, schema)) as log:
        refs, hold = log.reader.refs(0, 99), log.reader.hold()
        with hold:
            sealed, active = hold.where(refs[0]), hold.where(refs[-1])
        hold.close()
        assert sealed is not None
        assert active is not None  # also while it is written to
        rows = [row for row in range(600) if not 300 <= row < 310]
        for part in (rows[::3], rows, rows[::-1][::7][::-1]):  # the first is cold
            assert log.fetch(part).tobytes() == everything(schema)[part].tobytes()
    with closing(opened(tmp_path, schema)) as log, pytest.raises(ChunkLost, match="chunk at step 300"):
        log.fetch([301])
