"""Segments: where they end, how they are sealed, and what trimming may drop."""

import gc
import os
import shutil
from itertools import pairwise
from pathlib import Path

import msgspec
import pytest

from tests.user_rl.log.recorded import SCHEMA, STREAM, rows
from user_rl.errors import ConfigError, StorageFull
from user_rl.log import Log, LogConfig, Reader
from user_rl.log.segment import Footer, Segment, hash_file
from user_rl.log.verify import data_bytes
from user_rl.rows import Klass

SMALL = LogConfig(segment_bytes=96 * 1024)
TIGHT = LogConfig(segment_bytes=96 * 1024, max_bytes=4 * 96 * 1024)


def fill(log: Log, stream: str, count: int, *, each: int = 40, klass: int = Klass.ONLINE, length: int = 5) -> None:
    """Appends and commits `count` rows, `each` at a time."""
    first = log.open_stream(stream, SCHEMA) + 1
    for at in range(first, first + count, each):
        log.append(stream, rows(at, each, klass=klass, length=length))
        log.commit()


def footers(path: Path) -> dict[str, Footer]:
    found = sorted(path.glob("*/footer.json"))
    return {file.parent.name: msgspec.json.decode(file.read_bytes(), type=Footer) for file in found}


@pytest.mark.slow
def test_a_large_segment_is_sealed_where_an_episode_ends(tmp_path: Path) -> None:
    with Log(tmp_path, SMALL) as log:
        fill(log, STREAM, 1600, each=16, length=25)  # no commit but every 25th ends an episode
    sealed = list(footers(tmp_path).values())
    assert len(sealed) > 2
    for footer in sealed:
        (span,) = footer.spans.values()
        assert (span.first % 25, span.last % 25) == (0, 24)
        assert 96 * 1024 <= footer.bytes < 96 * 1024 * 1.5
    spans = [span for footer in sealed for span in footer.spans.values()]
    assert all(one.last + 1 == two.first for one, two in pairwise(sorted(spans, key=lambda span: span.first)))


@pytest.mark.slow
def test_an_endless_episode_is_cut_at_the_hard_limit(tmp_path: Path) -> None:
    with Log(tmp_path, SMALL) as log:
        fill(log, STREAM, 1600, length=10**6)
        (episode,) = log.episodes()
        assert (episode.first_step, episode.length, episode.closed) == (0, 1599, False)
    sealed = list(footers(tmp_path).values())
    assert sealed
    assert all(96 * 1024 * 1.4 < footer.bytes < 96 * 1024 * 1.7 for footer in sealed)


@pytest.mark.slow
def test_a_segment_waits_for_the_episodes_of_all_streams(tmp_path: Path) -> None:
    with Log(tmp_path, SMALL) as log:
        for name in ("a/1/r", "b/1/r"):
            log.open_stream(name, SCHEMA)
        for at in range(0, 600, 20):  # stream a ends an episode in each commit, b only at steps 119, 239, ...
            log.append("a/1/r", rows(at, 20, length=10))
            log.append("b/1/r", rows(at, 20, length=120))
            log.commit()
        assert {chunk.count for chunk in log.read("a/1/r", 0, 2**30)} == {20}  # one transaction a commit
    first = next(iter(footers(tmp_path).values()))
    assert [span.last for span in first.spans.values()] == [119, 119]


def test_a_commit_larger_than_a_segment_fills_several(tmp_path: Path) -> None:
    with Log(tmp_path, SMALL) as log:
        log.open_stream(STREAM, SCHEMA)
        log.append(STREAM, rows(0, 3000))
        assert log.commit() == {STREAM: 2999}
        assert b"".join(c.data for c in log.read(STREAM, 0, 2**30)) == rows(0, 3000).tobytes()
    assert len(footers(tmp_path)) > 3


def test_one_commit_of_two_streams_with_gaps_ends_its_segments_in_time(tmp_path: Path) -> None:
    with Log(tmp_path, LogConfig(segment_bytes=512 * 1024)) as log:
        for name in ("a/1/r", "b/1/r"):
            log.open_stream(name, SCHEMA)
            for at in range(0, 6000, 200):
                log.append(name, rows(at, 195))
                log.append_gap(name, at + 195, at + 199)
        assert log.commit() == {"a/1/r": 5999, "b/1/r": 5999}
    found = list(footers(tmp_path).values())
    assert len(found) >= 3
    assert all(footer.bytes < 512 * 1024 * 1.25 for footer in found)
    assert all(span.last % 5 == 4 for footer in found for span in footer.spans.values())


def test_one_commit_of_single_episodes_between_gaps_ends_its_segments_in_time(tmp_path: Path) -> None:
    with Log(tmp_path, LogConfig(segment_bytes=512 * 1024)) as log:
        log.open_stream(STREAM, SCHEMA)
        for at in range(0, 20_000, 400):
            log.append(STREAM, rows(at, 200, length=200))
            log.append_gap(STREAM, at + 200, at + 399)
        log.commit()
    found = list(footers(tmp_path).values())
    assert len(found) >= 3
    assert all(footer.bytes < 512 * 1024 * 1.25 for footer in found)


def test_one_commit_of_an_endless_episode_ends_its_segments_at_the_hard_limit(tmp_path: Path) -> None:
    with Log(tmp_path, LogConfig(segment_bytes=512 * 1024)) as log:
        log.open_stream(STREAM, SCHEMA)
        for at in range(0, 20_000, 400):
            log.append(STREAM, rows(at, 399, length=10**6))
            log.append_gap(STREAM, at + 399, at + 399)
        log.commit()
    found = list(footers(tmp_path).values())
    assert len(found) >= 4
    assert all(512 * 1024 * 1.4 < footer.bytes < 512 * 1024 * 1.65 for footer in found)


def test_an_episode_that_went_on_in_another_class_does_not_hold_a_segment(tmp_path: Path) -> None:
    with Log(tmp_path, SMALL) as log:
        fill(log, "cut", 3, each=3)
        fill(log, "cut", 2, each=2, klass=Klass.DEMONSTRATION)
        fill(log, STREAM, 600, each=5)
    sealed = [footer for name, footer in footers(tmp_path).items() if name.startswith("online")]
    assert sealed
    assert all(footer.bytes < 96 * 1024 * 1.25 for footer in sealed)


def test_a_footer_says_what_is_in_the_file(tmp_path: Path) -> None:
    with Log(tmp_path, SMALL) as log:
        fill(log, STREAM, 10, each=10)
        fill(log, "gap", 10, each=10)
        log.append_gap("gap", 10, 19)
        log.commit()
        fill(log, STREAM, 400)
    name, footer = next(iter(footers(tmp_path).items()))
    assert (footer.bytes, footer.xxh3_128) == hash_file(tmp_path / name / "data.mdb")
    assert (footer.klass, footer.first_seq, name) == (Klass.ONLINE, 1, "online-00000001")
    with Reader(tmp_path) as reader:
        held = [(seq, chunk) for seq, chunk in reader.tail(0, 2**30) if seq <= footer.last_seq]
        assert footer.rows == sum(chunk.count for _, chunk in held) == sum(s.rows for s in footer.spans.values())
    assert footer.spans[2].covered == 20


def test_a_sealed_segment_is_never_written_again(tmp_path: Path) -> None:
    with Log(tmp_path, SMALL) as log:
        fill(log, STREAM, 800)
    files = {name: (tmp_path / name / "data.mdb").stat().st_mtime_ns for name in footers(tmp_path)}
    assert files
    with Log(tmp_path, SMALL) as log:
        log.read(STREAM, 0, 2**30)
        assert all(s._environment().flags()["readonly"] for s in log._shelf.segments if s.footer)
        fill(log, STREAM, 800)
    assert {name: (tmp_path / name / "data.mdb").stat().st_mtime_ns for name in files} == files


def test_an_episode_that_goes_on_after_a_restart_stays_in_its_segment(tmp_path: Path) -> None:
    with Log(tmp_path, SMALL) as log:
        fill(log, STREAM, 180, each=20, length=200)
        assert log.size_bytes() > SMALL.segment_bytes
    with Log(tmp_path, SMALL) as log:
        fill(log, STREAM, 60, each=10, length=200)
    assert [span.last for footer in footers(tmp_path).values() for span in footer.spans.values()] == [199]


def test_a_footer_that_a_crash_left_out_is_written_at_the_next_start(tmp_path: Path) -> None:
    with Log(tmp_path, SMALL) as log:
        fill(log, STREAM, 800)
    names = list(footers(tmp_path))
    (tmp_path / names[-1] / "footer.json").unlink()
    before = footers(tmp_path)
    with Log(tmp_path, SMALL) as log:
        assert log.synced(STREAM) == 799
        assert b"".join(c.data for c in log.read(STREAM, 0, 2**30)) == rows(0, 800).tobytes()
    assert {**footers(tmp_path), **before} == footers(tmp_path)
    assert list(footers(tmp_path)) == names


def test_what_a_crash_left_half_made_is_swept(tmp_path: Path) -> None:
    Log(tmp_path).close()
    for name in (".new-online-00000001", ".old-online-00000001"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "data.mdb").write_bytes(b"half")
    (tmp_path / ".log.json.1.part").write_bytes(b"half")
    with Log(tmp_path) as log:
        fill(log, STREAM, 40)
    assert {entry.name for entry in tmp_path.iterdir()} == {"lock", "log.json", "online-00000001"}


def test_trim_drops_the_oldest_acknowledged_segments_while_over_the_bound(tmp_path: Path) -> None:
    with Log(tmp_path, LogConfig(segment_bytes=96 * 1024)) as log:
        fill(log, STREAM, 3000)
        assert log.trim({STREAM: 2999}) == 0  # no bound, nothing to do
    with Log(tmp_path, TIGHT) as log:
        before, size = footers(tmp_path), log.size_bytes()
        assert log.trim({}) == 0
        names = list(before)
        ends = [span.last for name in names for span in before[name].spans.values()]
        assert log.trim({STREAM: ends[0] - 1}) == 0
        assert log.trim({STREAM: ends[0]}) == before[names[0]].bytes
        assert list(footers(tmp_path)) == names[1:]
        assert log.first_kept(STREAM) == ends[0] + 1
        freed = log.trim({STREAM: 2999})
        assert log.size_bytes() == size - before[names[0]].bytes - freed
        assert log.size_bytes() <= 4 * 96 * 1024 < log.size_bytes() + 1.5 * 96 * 1024
        kept = log.first_kept(STREAM)
        assert b"".join(c.data for c in log.read(STREAM, kept, 2**30)) == rows(kept, 3000 - kept).tobytes()
    assert not list(tmp_path.glob(".*"))


def test_a_stream_that_waits_for_its_run_does_not_hold_the_others(tmp_path: Path) -> None:
    with Log(tmp_path, SMALL) as log:
        fill(log, "cell/1/gone", 400)
        fill(log, STREAM, 3000)
    with Log(tmp_path, TIGHT) as log:
        assert log.trim({STREAM: 2999}) > 0
        assert log.first_kept("cell/1/gone") == 0
        assert b"".join(c.data for c in log.read("cell/1/gone", 0, 2**30)) == rows(0, 400).tobytes()


def test_the_log_refuses_to_grow_beyond_its_bound(tmp_path: Path) -> None:
    with Log(tmp_path, TIGHT) as log:
        with pytest.raises(StorageFull, match=r"allowed max_bytes = 393216, \d+ more wait; trim acknowledged rows or"):
            fill(log, STREAM, 3000)
        at = log.synced(STREAM)
        assert log.appended(STREAM) == at + 40
        assert log.size_bytes() < 4 * 96 * 1024 + 40 * 1024
        assert log.trim({STREAM: at}) > 0
        assert log.commit() == {STREAM: at + 40}
    with pytest.raises(ConfigError, match=r"max_bytes = 3; allowed are segment_bytes from 1 and max_bytes from 4"):
        LogConfig(segment_bytes=1, max_bytes=3)


def test_a_hole_between_the_classes_is_not_kept_rows(tmp_path: Path) -> None:
    with Log(tmp_path, SMALL) as log:
        fill(log, STREAM, 40)
        fill(log, STREAM, 400, klass=Klass.DEMONSTRATION)  # sealed, and acknowledged
        fill(log, STREAM, 40)
        fill(log, "other", 3000, klass=Klass.DEMONSTRATION)
    with Log(tmp_path, TIGHT) as log:
        dropped = log.trim({STREAM: 439})
        assert dropped > 0
        found = [(c.first, c.last) for c in log.read(STREAM, 0, 2**30)]
        assert found[0] == (0, 39)
        kept = log.first_kept(STREAM)
        assert 40 < kept <= 440
        assert b"".join(c.data for c in log.read(STREAM, kept, 2**30))[-SCHEMA.row_bytes :] == rows(479, 1).tobytes()
        assert kept == min(first for first, _ in found if first >= 40)


def test_a_cursor_outlives_the_last_segment_that_held_its_rows(tmp_path: Path) -> None:
    with Log(tmp_path, SMALL) as log:
        fill(log, "demo", 40, klass=Klass.DEMONSTRATION)
        fill(log, "old", 400)
    with Log(tmp_path, SMALL) as log:
        fill(log, STREAM, 3000)
    with Log(tmp_path, TIGHT) as log:
        assert log.trim({"old": 399, "demo": 39, STREAM: 2999}) > 0
        assert log.first_kept("old") == 400
    with Log(tmp_path, TIGHT) as log:
        assert {name: log.synced(name) for name in log.streams()} == {"demo": 39, "old": 399, STREAM: 2999}
        assert log.open_stream("old", SCHEMA) == 399
        log.append("old", rows(400, 5))
        log.commit()
    with Reader(tmp_path) as reader:
        assert (reader.synced("old"), reader.first_kept("old")) == (404, 400)


@pytest.mark.parametrize("seal_both", [False, True])
@pytest.mark.parametrize("after", [0, 40])
def test_what_only_a_trimmed_segment_knew_is_written_down_first(tmp_path: Path, seal_both: bool, after: int) -> None:
    """After a crash between sealing a segment and making the next, the newest segment is older than its last rows."""
    with Log(tmp_path, SMALL) as log:
        fill(log, STREAM, 40)
        fill(log, "demo", 40, klass=Klass.DEMONSTRATION)
        fill(log, "late", 40)
        fill(log, "demo", after, klass=Klass.DEMONSTRATION)
        next_seq = log._shelf.next_seq
        for segment in log._shelf.segments if seal_both else log._shelf.segments[:1]:
            log._shelf.retire(segment)
    with Log(tmp_path, LogConfig(segment_bytes=8 * 1024, max_bytes=32 * 1024)) as log:
        assert log.trim({STREAM: 39, "late": 39}) > 0
        assert not list(tmp_path.glob("online-00000001"))
    with Log(tmp_path, SMALL) as log:
        assert {name: log.synced(name) for name in log.streams()} == {STREAM: 39, "late": 39, "demo": 39 + after}
        assert log._shelf.next_seq == next_seq


def test_closing_waits_for_the_end_of_a_reading(tmp_path: Path) -> None:
    with Log(tmp_path) as log:
        fill(log, STREAM, 40)
    segment = Segment(next(tmp_path.glob("online-*")))
    with segment.begin() as txn:
        segment.close()
        assert segment.is_open
        assert txn.stat(db=segment.table("chunks"))["entries"] == 1
    assert not segment.is_open


def test_no_file_of_a_dropped_segment_that_is_open_gives_its_inode_to_another(tmp_path: Path) -> None:
    with Log(tmp_path) as log:
        fill(log, STREAM, 40)
    Segment(next(tmp_path.glob("online-*"))).seal(0.0)
    segment = Segment(next(tmp_path.glob("online-*")))
    with segment.begin():
        known = {(segment.path / name).stat().st_ino for name in ("data.mdb", "lock.mdb")}
        shutil.rmtree(segment.path)
        assert not known & new_inodes(tmp_path, 50)
    segment.close()
    gc.collect()
    assert not open_files(segment.path)


def new_inodes(path: Path, count: int) -> set[int]:
    """The inodes of so many new files."""
    files = [path / f"new-{i}" for i in range(count)]
    for file in files:
        file.touch()
    return {file.stat().st_ino for file in files}


def open_files(path: Path) -> list[str]:
    """What this process holds of the folder, dropped or not."""
    links = (Path(f"/proc/self/fd/{fd}") for fd in os.listdir("/proc/self/fd"))
    return [os.readlink(link) for link in links if link.is_symlink() and os.readlink(link).startswith(str(path))]


def test_the_size_of_a_segment_that_is_gone_is_nothing(tmp_path: Path) -> None:
    assert data_bytes(tmp_path / "online-00000001") == 0
