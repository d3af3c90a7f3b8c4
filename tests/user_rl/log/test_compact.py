"""Compact: fewer chunks, the same rows in the same order, and a log that is whole whenever the process dies."""

import os
import subprocess
import sys
from collections.abc import Collection
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest

from tests.user_rl.log import filmed_rows
from tests.user_rl.log.recorded import SCHEMA, STREAM, mixed, plant, rows
from user_rl.errors import StorageBusy, StorageError
from user_rl.log import Chunk, Log, LogConfig, Reader, verify
from user_rl.log.chunk import CHUNK_BYTES, CODED
from user_rl.log.compact import STAGE, compact, sealed_bytes
from user_rl.log.merging import Piece, plan
from user_rl.log.sameness import differences
from user_rl.log.segment import Footer, Segment, hash_file

pytestmark = pytest.mark.slow
SMALL = LogConfig(segment_bytes=192 * 1024)
OTHER = "cell/other/run"
ROOT = Path(__file__).parents[3]


def record(path: Path, *, count: int = 1600, each: int = 4) -> None:
    """Two streams of mixed classes with gaps, committed `each` rows at a time; the second one now and then."""
    with Log(path, SMALL) as log:
        for name in (STREAM, OTHER):
            log.open_stream(name, SCHEMA)
        for at in range(0, count, each):
            log.append(STREAM, mixed(at, each, length=20))
            log.commit()
            if at % 80 == 40:
                first = log.appended(OTHER) + 1
                log.append_gap(OTHER, first, first + 2)
                log.append(OTHER, mixed(first + 3, 17, length=20))
                log.commit()


def rows_of(path: Path) -> list[tuple[str, int, bytes]]:
    """(stream, step, bytes) of every row in commit order."""
    with Reader(path) as reader:
        return [row for _, chunk in reader.tail(0, 2**40) for row in rows_in(chunk)]


def rows_in(chunk: Chunk) -> list[tuple[str, int, bytes]]:
    size = len(chunk.data) // chunk.count
    return [(chunk.stream, chunk.first + i, chunk.data[i * size : (i + 1) * size]) for i in range(chunk.count)]


def view_of(path: Path) -> dict[str, Any]:
    """What must stay, beside the rows."""
    with Reader(path) as reader:
        cursors = {name: (reader.synced(name), reader.first_kept(name)) for name in reader.streams()}
        numbers = {(ref.stream, ref.number) for ref in reader.refs(0, 2**40)}
        rest = (reader.episodes(), reader.gaps(), reader.spans(), reader.segments(), reader.log_id)
        return {"rest": rest, "cursors": cursors, "numbers": numbers}


def sealed_s(path: Path) -> dict[str, float]:
    found = {file.parent.name: file.read_bytes() for file in path.glob("*/footer.json")}
    return {name: msgspec.json.decode(data, type=Footer).sealed_s for name, data in found.items()}


def ends(path: Path, seqs: Collection[int]) -> list[int]:
    """How many rows there are up to each commit."""
    with Reader(path) as reader:
        found = [(ref.seq, ref.count) for ref in reader.refs(0, 2**40)]
    return [sum(count for seq, count in found if seq <= at) for at in seqs]


def chunks_in(path: Path) -> int:
    with Reader(path) as reader:
        return len(reader.refs(0, 2**40))


def test_chunks_become_few_and_everything_else_stays(tmp_path: Path) -> None:
    record(tmp_path)
    commits = list(range(1, 500))
    at_commit = dict(zip(commits, ends(tmp_path, commits), strict=True))
    before, seen, times, chunks, told = (
        rows_of(tmp_path), view_of(tmp_path), sealed_s(tmp_path), chunks_in(tmp_path), list[int]()
    )  # fmt: skip
    total = sealed_bytes(tmp_path)
    done = compact(tmp_path, tell=told.append)
    assert len(done) == len(times) >= 3
    assert [line.segment for line in done] == [name for name in seen["rest"][3] if name in times]
    assert all(not line.problem and line.chunks_after * 2 <= line.chunks_before for line in done)
    assert all(line.bytes_after < line.bytes_before for line in done)
    assert sum(told) == total
    assert chunks_in(tmp_path) == chunks - sum(line.chunks_before - line.chunks_after for line in done)
    assert rows_of(tmp_path) == before
    with Reader(tmp_path) as reader:
        kept = [ref.seq for ref in reader.refs(0, 2**40)]
    assert ends(tmp_path, kept) == [at_commit[seq] for seq in kept]  # a chunk has its last commit's number
    assert (view_of(tmp_path), sealed_s(tmp_path)) == (seen, times)
    assert verify(tmp_path) == []
    assert not list(tmp_path.glob(".*"))
    again = compact(tmp_path)
    assert [(line.chunks_before, line.chunks_after) for line in again] == [(d.chunks_after,) * 2 for d in done]


def test_the_writer_goes_on_where_it_was(tmp_path: Path) -> None:
    record(tmp_path)
    compact(tmp_path)
    before = rows_of(tmp_path)
    with Log(tmp_path, SMALL) as log:
        assert log.open_stream(STREAM, SCHEMA) == 1599
        log.append(STREAM, mixed(1600, 8, length=20))
        log.commit()
    assert rows_of(tmp_path)[:-8] == before
    assert verify(tmp_path) == []


def test_commits_that_somebody_names_keep_their_rows(tmp_path: Path) -> None:
    record(tmp_path)
    pinned, named = [7, 8, 31], [20, 222]
    with Log(tmp_path, SMALL) as log:
        log.pin("checkpoint", log.sealed()[:1], seqs=pinned)
    before = ends(tmp_path, pinned + named)
    compact(tmp_path, seqs=named)
    assert ends(tmp_path, pinned + named) == before
    assert ends(tmp_path, [30]) != before  # the others are not kept


def test_a_log_with_a_writer_is_left_alone(tmp_path: Path) -> None:
    record(tmp_path, count=200)
    with Log(tmp_path, SMALL), pytest.raises(StorageBusy, match=f"is held by process {os.getpid()}"):
        compact(tmp_path)
    with pytest.raises(StorageError, match="no log is there"):
        compact(tmp_path / "nothing")
    assert not (tmp_path / "nothing").exists()


def test_large_chunks_are_left_as_they_are(tmp_path: Path) -> None:
    with Log(tmp_path, SMALL) as log:
        log.open_stream(STREAM, SCHEMA)
        log.append(STREAM, rows(0, 4000))
        log.commit()
    files = {file: file.stat().st_ino for file in tmp_path.glob("*/data.mdb")}
    assert all(line.chunks_after == line.chunks_before == 1 for line in compact(tmp_path))
    assert {file: file.stat().st_ino for file in tmp_path.glob("*/data.mdb")} == files


def test_coded_chunks_are_joined_blob_by_blob(tmp_path: Path) -> None:
    codecs = {filmed_rows.FRONT: "jpeg:80", filmed_rows.DEPTH: "zstd"}
    with Log(tmp_path, LogConfig(segment_bytes=256 * 1024, codecs=codecs)) as log:
        log.open_stream(STREAM, filmed_rows.SCHEMA)
        for at in range(0, 400, 2):
            log.append(STREAM, filmed_rows.filmed(at, 2))
            log.commit()
    before = rows_of(tmp_path)
    done = compact(tmp_path)
    assert any(line.chunks_after * 2 <= line.chunks_before for line in done)
    assert [line.problem for line in done] == [""] * len(done)
    assert rows_of(tmp_path) == before
    with Reader(tmp_path) as reader:
        assert any(ref.form == CODED and ref.count > 2 for ref in reader.refs(0, 2**40))
        assert reader.lossy(STREAM) == {filmed_rows.FRONT}


def reseal(folder: Path, **changes: object) -> None:
    """Writes a footer that fits what the file has become."""
    footer, (size, digest) = Segment(folder).footer, hash_file(folder / "data.mdb")
    assert footer is not None
    changed = msgspec.structs.replace(footer, bytes=size, xxh3_128=digest, **changes)
    (folder / "footer.json").write_bytes(msgspec.json.encode(changed))


def oldest(path: Path) -> Path:
    return min(path.glob("online-*"))


def test_rows_that_stand_twice_are_dropped_if_they_are_the_same(tmp_path: Path) -> None:
    record(tmp_path)
    before = rows_of(tmp_path)
    plant(oldest(tmp_path), STREAM, 1, mixed(1, 2, length=20).tobytes())
    reseal(oldest(tmp_path), last_seq=10_000)
    assert len(rows_of(tmp_path)) == len(before) + 2
    assert compact(tmp_path)[0].rows_twice == 2
    assert rows_of(tmp_path) == before
    assert verify(tmp_path) == []


def test_rows_that_stand_twice_and_differ_are_left_for_a_person(tmp_path: Path) -> None:
    record(tmp_path)
    plant(oldest(tmp_path), STREAM, 1, rows(1, 2, salt=1, length=20).tobytes())
    reseal(oldest(tmp_path))
    data = (oldest(tmp_path) / "data.mdb").read_bytes()
    line = compact(tmp_path)[0]
    assert "rows 1..2 of stream number 1 stand twice and differ" in line.problem
    assert (line.chunks_after, line.bytes_after) == (line.chunks_before, line.bytes_before)
    assert (oldest(tmp_path) / "data.mdb").read_bytes() == data


@pytest.mark.parametrize("sealed_anew", [False, True])
def test_a_flipped_bit_is_told_and_nothing_is_made_of_it(tmp_path: Path, sealed_anew: bool) -> None:
    """Also one that flipped before the segment was sealed: a new chunk would have made it look sound."""
    record(tmp_path)
    file = oldest(tmp_path) / "data.mdb"
    data = bytearray(file.read_bytes())
    data[data.index(mixed(0, 4, length=20).tobytes()) + 3] ^= 1
    file.write_bytes(data)
    if sealed_anew:
        reseal(oldest(tmp_path))
    first, *rest = compact(tmp_path)
    assert ("with digest" if sealed_anew else "with hash") in first.problem
    assert file.read_bytes() == data
    assert [line.problem for line in rest] == [""] * len(rest)


@pytest.mark.parametrize("form", ["raw", "zstd"])
def test_a_difference_between_old_and_new_is_seen(tmp_path: Path, form: str) -> None:
    codecs = {filmed_rows.DEPTH: "zstd"} if form == "zstd" else {}
    for name, salt in (("one", 0), ("other", 1)):
        with Log(tmp_path / name, LogConfig(segment_bytes=1, codecs=codecs)) as log:
            log.open_stream(STREAM, filmed_rows.SCHEMA)
            part = filmed_rows.filmed(0, 10)
            part[filmed_rows.DEPTH][0, 3, 3] += salt
            part["klass"] = 0
            for some in (part, filmed_rows.filmed(10, 5)):
                log.append(STREAM, some)
                log.commit()
    one, other = (oldest(tmp_path / name) for name in ("one", "other"))
    assert differences(one, one) == []
    assert "rows are not the same" in differences(one, other)


def test_the_plan_joins_neighbours_only() -> None:
    def made(*found: tuple[int, int, int, int], keep: Collection[int] = (), codecs: bytes = b"") -> list[list[int]]:
        schemas = {1: SCHEMA, 2: SCHEMA}
        groups = plan([Piece(*piece, codecs[at : at + 1]) for at, piece in enumerate(found)], schemas, keep).groups
        return [[piece.seq for piece in group] for group in groups]

    assert made((1, 1, 0, 5), (2, 1, 5, 5), (3, 1, 10, 5)) == [[1, 2, 3]]
    assert made((1, 1, 0, 5), (2, 2, 5, 5), (3, 1, 5, 5)) == [[1], [2], [3]]  # another stream between
    assert made((1, 1, 0, 5), (3, 1, 5, 5)) == [[1], [3]]  # a commit of another segment between
    assert made((1, 1, 0, 5), (2, 1, 6, 5)) == [[1], [2]]  # a gap between
    assert made((1, 1, 0, 5), (2, 1, 5, 5), (3, 1, 10, 5), keep={2}) == [[1, 2], [3]]
    assert made((1, 1, 0, 5), (2, 1, 2, 2), (3, 1, 5, 5)) == [[1], [3]]  # seq 2 stands twice
    assert made((1, 1, 0, 5), (2, 1, 5, 5), (3, 1, 10, 5), codecs=b"ab") == [[1], [2], [3]]
    assert made((1, 1, 0, 5), (2, 1, 5, 5), (3, 1, 10, 5), codecs=b"aab") == [[1, 2], [3]]
    most = CHUNK_BYTES // SCHEMA.row_bytes
    assert made((1, 1, 0, most - 1), (2, 1, most - 1, 1), (3, 1, most, 1)) == [[1, 2], [3]]


KILLED = """
import os, signal, sys
from pathlib import Path
from user_rl.log.compact import compact

left, checked = int(sys.argv[2]), 0
OURS = ("/log/compact.py", "/log/merging.py", "/user_rl/files.py", "/log/durable.py", "/shutil.py")

def count(frame, event, argument):
    global left, checked
    if not frame.f_code.co_filename.endswith(OURS):
        return None
    left -= event == "line"
    if event == "return" and frame.f_code.co_name == "_check_same":
        checked = checked or left
    if left == 0:
        os.kill(os.getpid(), signal.SIGKILL)
    return count

sys.settrace(count)
compact(Path(sys.argv[1]))
sys.settrace(None)
print(int(sys.argv[2]) - left, int(sys.argv[2]) - checked)
"""


def compact_until(path: Path, lines: int) -> list[int]:
    """A child compacts and dies at its line number `lines`; empty: it died, else how many it ran, and how many until
    the first new segment was ready to take its place."""
    done = subprocess.run(
        [sys.executable, "-c", KILLED, str(path), str(lines)], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode in (0, -9), done.stderr
    return [int(number) for number in done.stdout.split()]


def test_a_log_is_whole_wherever_the_process_dies(tmp_path: Path) -> None:
    """A child dies at lines spread over all that it does, each time in a log as it was at first."""
    record(tmp_path / "whole", count=400, each=2)
    whole = rows_of(tmp_path / "whole")
    seen, copy = view_of(tmp_path / "whole"), subprocess.run
    copy(["cp", "-r", tmp_path / "whole", tmp_path / "last"], check=True)
    lines, checked = compact_until(tmp_path / "last", 10**9)
    assert rows_of(tmp_path / "last") == whole
    points, swapped = {*np.linspace(30, lines - 1, 8).astype(int).tolist(), *range(checked, checked + 72, 6)}, 0
    for at in sorted(points):
        path = tmp_path / str(at)
        copy(["cp", "-r", tmp_path / "whole", path], check=True)
        assert compact_until(path, at) == []
        assert (rows_of(path), view_of(path)) == (whole, seen)
        assert verify(path) == []
        swapped += chunks_in(path) < chunks_in(tmp_path / "whole")
        compact(path)
        assert (rows_of(path), view_of(path)) == (whole, seen)
        assert not (path / STAGE).exists()
    assert 0 < swapped < len(points)
