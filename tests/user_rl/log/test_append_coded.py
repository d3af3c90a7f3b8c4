"""Coded rows into a log and out of it: the same stored bytes, whatever is cut, trimmed, compared or killed between."""

from pathlib import Path

import numpy as np
import pytest

from tests.user_rl.log.filmed_rows import DEPTH, FRONT, SCHEMA, STATE, WRIST, after, filmed
from tests.user_rl.log.recorded import STREAM
from user_rl.errors import StorageError
from user_rl.log import Log, LogConfig, Reader, compare, digest_of, verify
from user_rl.log.chunk import most_rows
from user_rl.log.codec import codecs_of
from user_rl.log.coded import Coded, packed
from user_rl.log.unfilmed import is_unfilmed, unfilmed
from user_rl.rows import Kind, Klass

CODECS = codecs_of(SCHEMA, {FRONT: "jpeg:80", WRIST: "png", DEPTH: "zstd"})


def take_over(source: Log, target: Log, *, max_bytes: int = 2**20) -> None:
    """What uplink and gateway do, without a wire."""
    target.open_stream(STREAM, SCHEMA)
    while chunks := source.stored(STREAM, target.appended(STREAM) + 1, max_bytes):
        for chunk in chunks:
            assert digest_of(chunk.data) == chunk.digest
            if chunk.coded:
                target.append_coded(STREAM, chunk.data, chunk.count)
            else:
                target.append(STREAM, SCHEMA.view(chunk.data))
        target.commit()


def spool(path: Path, count: int = 40) -> Log:
    log = Log(path, LogConfig(codecs=CODECS, segment_bytes=2**16))
    log.open_stream(STREAM, SCHEMA)
    for first in range(0, count, 8):
        log.append(STREAM, filmed(first, min(8, count - first)))
        log.commit()
    return log


@pytest.mark.parametrize("max_bytes", [1, 4000, 2**20])
def test_what_is_taken_over_is_the_same_bytes_in_whatever_pieces(tmp_path: Path, max_bytes: int) -> None:
    with spool(tmp_path / "edge") as edge, Log(tmp_path / "cloud", LogConfig(segment_bytes=2**16)) as cloud:
        take_over(edge, cloud, max_bytes=max_bytes)
        assert cloud.synced(STREAM) == 39
        read = b"".join(chunk.data for chunk in cloud.read(STREAM, 0, 2**30))
        assert read == after(filmed(0, 40), {FRONT: 80}).tobytes()
        assert [(e.first_step, e.length, e.closed) for e in cloud.episodes()] == [(5 * n, 4, True) for n in range(8)]
    assert verify(tmp_path / "cloud") == []
    with Reader(tmp_path / "edge") as one, Reader(tmp_path / "cloud") as other:
        same = compare(one, other, STREAM.rpartition("/")[2])
    assert (same.rows, same.rows_lost, same.rows_duplicated, same.rows_differing) == (40, 0, 0, 0)
    assert same.fields_left_out == frozenset()


def test_a_picture_that_differs_in_one_byte_of_its_jpeg_is_found(tmp_path: Path) -> None:
    with spool(tmp_path / "edge", 4) as edge, Log(tmp_path / "cloud") as cloud:
        (chunk,) = edge.stored(STREAM, 0, 2**20)
        part = Coded(memoryview(chunk.data), 4, SCHEMA.dtype)
        at = chunk.data.index(bytes(part.columns[1][1])) + 300
        cloud.open_stream(STREAM, SCHEMA)
        cloud.append_coded(STREAM, chunk.data[:at] + bytes([chunk.data[at] ^ 1]) + chunk.data[at + 1 :], 4)
        cloud.commit()
    with Reader(tmp_path / "edge") as one, Reader(tmp_path / "cloud") as other:
        assert compare(one, other, STREAM.rpartition("/")[2]).rows_differing == 1


def test_classes_in_one_message_go_to_their_segments(tmp_path: Path) -> None:
    rows = filmed(0, 20)
    stored = packed(rows, CODECS)
    assert stored is not None
    with Log(tmp_path) as log:
        log.open_stream(STREAM, SCHEMA)
        log.append_coded(STREAM, stored, 20)
        assert log.appended(STREAM) == 19
        assert log.synced(STREAM) == -1
        log.commit()
        klasses = {e.first_step: e.klass for e in log.episodes()}
        assert klasses == {0: Klass.ONLINE, 5: Klass.ONLINE, 10: Klass.DEMONSTRATION, 15: Klass.ONLINE}
        heads = [c.head(SCHEMA) for c in log.stored(STREAM, 0, 2**20)]
        assert np.concatenate([h["step"] for h in heads]).tolist() == list(range(20))


def test_steps_that_do_not_follow_are_refused_and_nothing_is_taken(tmp_path: Path) -> None:
    stored = packed(filmed(3, 2), CODECS)
    assert stored is not None
    with Log(tmp_path) as log:
        log.open_stream(STREAM, SCHEMA)
        with pytest.raises(StorageError, match="step 3, expected 0"):
            log.append_coded(STREAM, stored, 2)
        assert log.appended(STREAM) == -1


def test_a_segment_that_ends_within_a_message_takes_its_first_rows_and_the_next_the_rest(tmp_path: Path) -> None:
    with Log(tmp_path, LogConfig(segment_bytes=2**14)) as log:
        log.open_stream(STREAM, SCHEMA)
        for first in range(0, 40, 20):
            stored = packed(filmed(first, 20), {FRONT: "blank", **CODECS})
            assert stored is not None
            log.append_coded(STREAM, stored, 20)
        assert log.commit() == {STREAM: 39}
        assert len(log.sealed()) >= 2
        steps = [step for c in log.stored(STREAM, 0, 2**20) for step in c.head(SCHEMA)["step"].tolist()]
        assert steps == list(range(40))


def test_a_log_whose_last_picture_is_garbage_opens_and_says_where_its_episodes_are_cut(tmp_path: Path) -> None:
    stored = packed(filmed(0, 3), {FRONT: "jpeg"})
    assert stored is not None
    part = Coded(memoryview(stored), 3, SCHEMA.dtype)
    ((ends, blobs),) = part.columns
    at = stored.index(bytes(blobs)) + ends[2] + 20
    with Log(tmp_path) as log:
        log.open_stream(STREAM, SCHEMA)
        log.append_coded(STREAM, stored[:at] + bytes(300) + stored[at + 300 :], 3)
        log.commit()
    with Log(tmp_path) as again:
        assert again.synced(STREAM) == 2
        again.append(STREAM, filmed(3, 2))
        assert again.commit() == {STREAM: 4}


def test_rows_without_pictures_cost_their_state_and_say_so(tmp_path: Path) -> None:
    rows = filmed(0, 10)
    made = unfilmed(rows, SCHEMA, {DEPTH: "zstd", STATE: "lz4"})
    assert made.stored is not None
    assert len(made.stored) < 10 * (SCHEMA.row_bytes - sum(SCHEMA.dtype[n].itemsize for n in SCHEMA.pictures)) + 400
    with Log(tmp_path) as log:
        log.open_stream(STREAM, SCHEMA)
        made.append_to(log, STREAM)
        log.append(STREAM, filmed(10, 2))
        log.commit()
        read = SCHEMA.view(b"".join(c.data for c in log.read(STREAM, 0, 2**20)))
    assert is_unfilmed(read, SCHEMA).tolist() == [True] * 10 + [False] * 2
    for name in SCHEMA.pictures:
        assert not read[name][:10].any()
    for name in (STATE, "action", "step", "kind", "next.reward", f"stamp.{STATE}"):
        assert (read[name][:10] == rows[name]).all()
    assert read["kind"][4] == Kind.LAST


def test_a_message_is_stored_in_chunks_of_a_bounded_number_of_rows(tmp_path: Path) -> None:
    count = most_rows(SCHEMA.row_bytes) + 5
    rows = SCHEMA.new(count)
    rows["step"] = np.arange(count)
    stored = packed(rows, dict.fromkeys(SCHEMA.pictures, "blank"))
    assert stored is not None
    with Log(tmp_path) as log:
        log.open_stream(STREAM, SCHEMA)
        log.append_coded(STREAM, stored, count)
        log.commit()
        assert [c.count for c in log.stored(STREAM, 0, 2**30)] == [count - 5, 5]
