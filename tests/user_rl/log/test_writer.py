"""The writer: what is appended, in which order it becomes durable, what it refuses, and how it shares a folder."""

import subprocess
import sys
import threading
import tracemalloc
from pathlib import Path

import numpy as np
import pytest

from tests.user_rl.log.recorded import SCHEMA, STREAM, mixed, plant, rows
from user_rl.errors import SchemaMismatch, SpecError, StorageBusy, StorageCorrupt, StorageError
from user_rl.log import Chunk, Episode, Gap, Log, LogConfig, Reader, digest_of
from user_rl.log import batch as batch_module
from user_rl.log.chunk import CHUNK_BYTES
from user_rl.rows import Klass, make_schema
from user_rl.specs import Image, box


def data_of(chunks: list[Chunk]) -> bytes:
    return b"".join(chunk.data for chunk in chunks)


def test_committed_rows_are_read_back_the_same(tmp_path: Path) -> None:
    with Log(tmp_path / "log") as log:
        assert log.open_stream(STREAM, SCHEMA) == -1
        log.append(STREAM, rows(0, 12))
        assert (log.synced(STREAM), log.appended(STREAM)) == (-1, 11)
        assert log.read(STREAM, 0, 2**20) == []
        assert log.commit() == {STREAM: 11}
        (chunk,) = log.read(STREAM, 0, 2**20)
        assert (chunk.stream, chunk.first, chunk.count, chunk.last) == (STREAM, 0, 12, 11)
        assert chunk.data == rows(0, 12).tobytes()
        assert chunk.digest == digest_of(chunk.data)
        assert log.commit() == {}


def test_many_small_appends_of_one_stream_become_one_chunk(tmp_path: Path) -> None:
    with Log(tmp_path) as log:
        log.open_stream(STREAM, SCHEMA)
        for step in range(100):
            log.append(STREAM, rows(step, 1))
        log.commit()
        assert [chunk.count for chunk in log.read(STREAM, 0, 2**20)] == [100]


def test_a_chunk_is_cut_where_the_reader_begins_and_at_its_limit(tmp_path: Path) -> None:
    with Log(tmp_path) as log:
        log.open_stream(STREAM, SCHEMA)
        for first in (0, 10, 20):
            log.append(STREAM, rows(first, 10))
            log.commit()
        chunks = log.read(STREAM, 7, 4 * SCHEMA.row_bytes)
        assert [(c.first, c.count) for c in chunks] == [(7, 3)]
        assert (chunks[0].data, chunks[0].digest) == (rows(7, 3).tobytes(), digest_of(rows(7, 3).tobytes()))
        assert [(c.first, c.count) for c in log.read(STREAM, 2, 3 * SCHEMA.row_bytes)] == [(2, 3)]
        assert [(c.first, c.count) for c in log.read(STREAM, 2, 1)] == [(2, 1)]
        assert [(c.first, c.count) for c in log.read(STREAM, 0, 20 * SCHEMA.row_bytes)] == [(0, 10), (10, 10)]
        assert log.read(STREAM, 30, 2**20) == []


def test_a_chunk_has_at_most_four_mebibytes(tmp_path: Path) -> None:
    schema = make_schema(
        {"observation.images.front": Image(name="front", height=128, width=128)}, box("action", [("dx", "m", -1, 1)])
    )
    records = schema.new(200)
    records["step"] = np.arange(200)
    with Log(tmp_path) as log:
        log.open_stream(STREAM, schema)
        log.append(STREAM, records)
        log.commit()
        chunks = log.read(STREAM, 0, 2**30)
        assert data_of(chunks) == records.tobytes()
        assert max(len(chunk.data) for chunk in chunks) <= CHUNK_BYTES
        assert len(chunks) == 3


def test_steps_must_follow(tmp_path: Path) -> None:
    with Log(tmp_path) as log:
        log.open_stream(STREAM, SCHEMA)
        with pytest.raises(StorageError) as error:
            log.append(STREAM, rows(1, 3))
        assert str(error.value) == f"stream {STREAM}: step 1, expected 0; ask for the cursor and go on there"
        log.append(STREAM, rows(0, 3))
        broken = rows(3, 3)
        broken["step"][2] = 9
        with pytest.raises(StorageError, match=r"step 9, expected 5;"):
            log.append(STREAM, broken)
        with pytest.raises(StorageError, match=r"step 2, expected 3;"):
            log.append(STREAM, rows(2, 1))
        log.append(STREAM, rows(0, 0))
        assert log.commit() == {STREAM: 2}


def test_a_refused_row_leaves_no_trace(tmp_path: Path) -> None:
    broken = rows(0, 3)
    broken["klass"][1] = 7
    with Log(tmp_path) as log:
        log.open_stream(STREAM, SCHEMA)
        with pytest.raises(SpecError) as error:
            log.append(STREAM, broken)
        assert str(error.value) == "klass = 7, allowed [0, 1]; mend what made the row"
        log.append(STREAM, rows(0, 3))
        assert log.commit() == {STREAM: 2}


def test_a_stream_keeps_its_schema(tmp_path: Path) -> None:
    other = make_schema({}, box("action", [("dx", "m", -1, 1)]))
    with Log(tmp_path) as log:
        log.open_stream(STREAM, SCHEMA)
        with pytest.raises(SchemaMismatch, match=r"has schema \w{8}, offered was \w{8}; rows of another schema need"):
            log.open_stream(STREAM, other)
        with pytest.raises(SchemaMismatch, match=r"are not of its schema"):
            log.append(STREAM, other.new())
        log.append(STREAM, rows(0, 1))
        log.commit()
    with Log(tmp_path) as log:
        with pytest.raises(SchemaMismatch, match=r"offered was"):
            log.open_stream(STREAM, other)
        assert log.streams()[STREAM].encoded == SCHEMA.encoded


def test_an_unknown_stream_and_a_bad_name_are_refused(tmp_path: Path) -> None:
    wide = make_schema(
        {"observation.images.front": Image(name="front", height=4096, width=4096)}, box("action", [("dx", "m", -1, 1)])
    )
    with Log(tmp_path) as log:
        with pytest.raises(StorageError, match=r"no stream a/b/c, it has \[\]; open_stream it first"):
            log.append("a/b/c", rows(0, 1))
        for name in ("", "x" * 257):
            with pytest.raises(StorageError, match=r"allowed 1 to 256; shorten it"):
                log.open_stream(name, SCHEMA)
        with pytest.raises(StorageError, match=r"allowed 33554432; use smaller or fewer images"):
            log.open_stream(STREAM, wide)


def test_cursors_streams_and_identity_survive_reopening(tmp_path: Path) -> None:
    with Log(tmp_path) as log:
        first = (log.log_id, log.epoch)
        for name, count in (("a/1/run", 5), ("b/1/run", 9)):
            log.open_stream(name, SCHEMA)
            log.append(name, mixed(0, count))
        log.open_stream("empty", SCHEMA)
        assert log.commit() == {"a/1/run": 4, "b/1/run": 8}
        log.append("a/1/run", mixed(5, 5))
    with Log(tmp_path) as log:
        assert (log.log_id, log.epoch) == (first[0], first[1] + 1)
        assert len(log.log_id) == 32
        assert (log.open_stream("a/1/run", SCHEMA), log.open_stream("b/1/run", SCHEMA)) == (4, 8)
        assert set(log.streams()) == {"a/1/run", "b/1/run"}
        log.append("a/1/run", mixed(5, 5))
        log.commit()
        assert data_of(log.read("a/1/run", 0, 2**20)) == mixed(0, 10).tobytes()


def test_a_gap_is_committed_and_moves_the_cursor(tmp_path: Path) -> None:
    with Log(tmp_path) as log:
        log.open_stream(STREAM, SCHEMA)
        log.append_gap(STREAM, 0, 9)
        log.append(STREAM, rows(10, 5))
        log.append_gap(STREAM, 15, 15)
        for first, last in ((15, 16), (17, 18), (16, 15)):
            with pytest.raises(StorageError, match=r"expected one that starts at step 16;"):
                log.append_gap(STREAM, first, last)
        assert log.commit() == {STREAM: 15}
    with Log(tmp_path) as log:
        assert (log.synced(STREAM), log.first_kept(STREAM)) == (15, 0)
        assert log.gaps() == [Gap(STREAM, 0, 9), Gap(STREAM, 15, 15)]
        assert [(c.first, c.count) for c in log.read(STREAM, 3, 2**20)] == [(10, 5)]
        log.append(STREAM, rows(16, 1))
        assert log.commit() == {STREAM: 16}


def test_the_episode_table_adds_up_the_rows(tmp_path: Path) -> None:
    with Log(tmp_path) as log:
        log.open_stream(STREAM, SCHEMA)
        for first, count in ((0, 3), (3, 5), (8, 9)):
            log.append(STREAM, mixed(first, count))
            log.commit()
        table = log.episodes()
        assert [(e.episode, e.first_step, e.length, e.closed) for e in table] == [
            (0, 0, 4, True), (1, 5, 4, True), (2, 10, 4, True), (3, 15, 1, False),
        ]  # fmt: skip
        assert [e.klass for e in table] == [Klass.ONLINE, Klass.ONLINE, Klass.DEMONSTRATION, Klass.ONLINE]
        assert [e.reward_sum for e in table] == [2.0, 2.0, 2.0, 1.0]
        assert [e.success for e in table] == [False, True, False, False]
        assert [e.interventions for e in table] == [2, 2, 1, 1]
        assert [e.version for e in table] == [1, 1, 2, 3]
        assert table[0] == Episode(STREAM, 0, Klass.ONLINE, 0, 4, 2.0, False, 2, 1, True)


def test_classes_lie_in_segments_of_their_own(tmp_path: Path) -> None:
    with Log(tmp_path) as log:
        log.open_stream(STREAM, SCHEMA)
        log.append(STREAM, mixed(0, 40))
        log.commit()
        assert data_of(log.read(STREAM, 0, 2**20)) == mixed(0, 40).tobytes()
        folders = sorted(entry.name for entry in tmp_path.iterdir() if entry.is_dir())
        assert [name.rpartition("-")[0] for name in folders] == ["demonstration", "online"]


@pytest.mark.slow
def test_the_lock_names_the_process_that_writes(tmp_path: Path) -> None:
    program = (
        "import sys; from pathlib import Path; from user_rl.log import Log; log = Log(Path(sys.argv[1]));"
        "print('open', flush=True); sys.stdin.read()"
    )
    with subprocess.Popen(
        [sys.executable, "-c", program, str(tmp_path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as other:
        assert other.stdout is not None
        assert other.stdout.readline() == "open\n"
        with pytest.raises(StorageBusy, match=rf"process {other.pid}\b"):
            Log(tmp_path)
        other.communicate()
    Log(tmp_path).close()


@pytest.mark.slow
def test_a_writer_that_lost_its_lock_is_fenced(tmp_path: Path) -> None:
    with Log(tmp_path) as log:
        log.open_stream(STREAM, SCHEMA)
        log.append(STREAM, rows(0, 5))
        log.commit()
        (tmp_path / "lock").unlink()
        take = "import sys; from pathlib import Path; from user_rl.log import Log; Log(Path(sys.argv[1])).close()"
        subprocess.run([sys.executable, "-c", take, str(tmp_path)], check=True)
        log.append(STREAM, rows(5, 5))
        with pytest.raises(StorageBusy, match=r"its writer has epoch 2 now, ours is 1; close this one"):
            log.commit()
        log.open_stream("demo", SCHEMA)
        log.append("demo", rows(0, 5, klass=Klass.DEMONSTRATION))
        with pytest.raises(StorageBusy, match=r"epoch 2 now"):
            log.commit()
    with Log(tmp_path) as log:
        assert data_of(log.read(STREAM, 0, 2**20)) == rows(0, 5).tobytes()
        assert set(log.streams()) == {STREAM}


HELD = """
import sys
from pathlib import Path
from tests.user_rl.log.recorded import SCHEMA, STREAM, rows
from user_rl.log import Log
log = Log(Path(sys.argv[1]))
log.open_stream(STREAM, SCHEMA)
log.append(STREAM, rows(0, 5))
log.commit()
(segment,) = log._shelf.segments
with segment.write(log._lock.check):
    print("in a transaction", flush=True)
    sys.stdin.readline()
"""


@pytest.mark.slow
def test_a_new_writer_waits_for_the_transaction_of_a_former_one(tmp_path: Path) -> None:
    command = [sys.executable, "-c", HELD, str(tmp_path)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as former:
        assert former.stdin is not None
        assert former.stdout is not None
        former.stdout.readline()
        (tmp_path / "lock").unlink()
        opening = threading.Thread(target=lambda: Log(tmp_path).close())
        opening.start()
        opening.join(0.3)
        assert opening.is_alive()
        former.stdin.close()
        opening.join()
        former.kill()
    with Log(tmp_path) as log:
        assert (log.epoch, log.synced(STREAM)) == (3, 4)


def test_a_commit_that_failed_after_it_was_durable_counts_as_done(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write = batch_module.write

    def fail_late(*arguments: object) -> int:
        write(*arguments)  # type: ignore[arg-type]
        raise StorageError("the last sync said no")

    with Log(tmp_path) as log:
        log.open_stream(STREAM, SCHEMA)
        log.append(STREAM, rows(0, 5))
        monkeypatch.setattr(batch_module, "write", fail_late)
        assert log.commit() == {STREAM: 4}
        monkeypatch.undo()
        log.append(STREAM, rows(5, 5))
        assert log.commit() == {STREAM: 9}
        assert data_of(log.read(STREAM, 0, 2**20)) == rows(0, 10).tobytes()


def test_a_row_is_never_written_over_another(tmp_path: Path) -> None:
    with Log(tmp_path) as log:
        log.open_stream(STREAM, SCHEMA)
        log.append(STREAM, rows(0, 5))
        log.commit()
    plant(next(tmp_path.glob("online-*")), STREAM, 5, rows(5, 1, salt=1).tobytes())
    with Log(tmp_path) as log:
        log.append(STREAM, rows(5, 5))
        with pytest.raises(StorageCorrupt, match=rf"has stream {STREAM} step 5 already; verify this log"):
            log.commit()
    with Reader(tmp_path) as reader:
        assert [chunk.data for chunk in reader.scan(STREAM)] == [rows(0, 5).tobytes(), rows(5, 1, salt=1).tobytes()]


def test_a_log_without_its_identity_is_not_taken_for_a_new_one(tmp_path: Path) -> None:
    with Log(tmp_path) as log:
        log.open_stream(STREAM, SCHEMA)
        log.append(STREAM, rows(0, 5))
        log.commit()
    (tmp_path / "log.json").rename(tmp_path / "elsewhere")
    with pytest.raises(StorageCorrupt, match=r"has segments but no log.json; restore it"):
        Log(tmp_path)
    (tmp_path / "log.json").write_bytes(b"{}")
    with pytest.raises(StorageCorrupt, match=r"log.json cannot be read"):
        Log(tmp_path)
    (tmp_path / "log.json").write_text((tmp_path / "elsewhere").read_text().replace('"format":2', '"format":9'))
    with pytest.raises(StorageError, match=r"log format 9, allowed 2; use the release that wrote it"):
        Log(tmp_path)


@pytest.mark.slow
def test_small_segments_change_nothing_for_the_reader(tmp_path: Path) -> None:
    with Log(tmp_path, LogConfig(segment_bytes=1)) as log:
        log.open_stream(STREAM, SCHEMA)
        for first in range(0, 30, 6):
            log.append(STREAM, mixed(first, 6))
            log.commit()
        assert data_of(log.read(STREAM, 0, 2**20)) == mixed(0, 30).tobytes()


def test_streams_that_ended_hold_no_memory_for_their_next_rows(tmp_path: Path) -> None:
    schema = make_schema({"observation.images.a": Image(name="a", height=256, width=256)},
                         box("command", [("dx", "m", -1, 1)]))  # fmt: skip
    with Log(tmp_path / "log") as log:
        tracemalloc.start()
        try:
            for number in range(12):
                log.open_stream(f"arm/{number:032d}/run", schema)
                records = np.zeros(8, schema.dtype)
                records["step"] = range(8)
                log.append(f"arm/{number:032d}/run", records)
                log.commit()
            held = tracemalloc.get_traced_memory()[0]
        finally:
            tracemalloc.stop()
    assert held < 3 * 8 * schema.row_bytes


def test_streams_of_one_schema_share_it_after_a_restart(tmp_path: Path) -> None:
    with Log(tmp_path / "log") as log:
        for number in range(5):
            log.open_stream(f"arm/{number}/run", SCHEMA)
            log.append(f"arm/{number}/run", rows(0, 2))
        log.commit()
    with Log(tmp_path / "log") as log:
        assert len(log.streams()) == 5
        assert len({id(schema) for schema in log.streams().values()}) == 1
