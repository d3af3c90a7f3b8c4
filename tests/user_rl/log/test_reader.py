"""The reader: another process's view, at once, in commit order, over both classes and over trimmed segments."""

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.user_rl.log.recorded import SCHEMA, STREAM, mixed, rows
from user_rl.errors import StorageBusy, StorageCorrupt, StorageError
from user_rl.log import Chunk, Gap, Log, LogConfig, Reader, reading
from user_rl.log.segment import Segment, SegmentGone
from user_rl.rows import Klass

WRITER = """
import sys
from pathlib import Path
from tests.user_rl.log.recorded import SCHEMA, STREAM, mixed
from user_rl.log import Log, LogConfig
log = Log(Path(sys.argv[1]), LogConfig(segment_bytes=int(sys.argv[2]), max_bytes=int(sys.argv[3]) or None))
at = log.open_stream(STREAM, SCHEMA) + 1
for line in sys.stdin:
    word, _, count = line.strip().partition(" ")
    if word == "rows":
        log.append(STREAM, mixed(at, int(count), length=40))
        at += int(count)
    elif word == "other":
        log.open_stream("other", SCHEMA)
        log.append("other", mixed(0, int(count)))
    elif word == "gap":
        log.append_gap(STREAM, at, at + int(count) - 1)
        at += int(count)
    elif word == "trim":
        print(log.trim({STREAM: at - 1}), flush=True)
        continue
    print(log.commit(), flush=True)
"""


SCANNING = """
import sys
from pathlib import Path
from user_rl.log import Reader
reader = Reader(Path(sys.argv[1]))
scan = reader.scan("cell/boot/run")
next(scan)
print("in a transaction", flush=True)
sys.stdin.read()
"""


class Writer:
    """A Log in a process of its own, told line by line what to do."""

    def __init__(self, path: Path, segment_bytes: int, max_bytes: int) -> None:
        command = [sys.executable, "-c", WRITER, str(path), str(segment_bytes), str(max_bytes)]
        self._process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        self.tell("nothing")

    def tell(self, line: str) -> str:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(f"{line}\n")
        self._process.stdin.flush()
        return self._process.stdout.readline().strip()

    def close(self) -> None:
        self._process.communicate()
        assert self._process.returncode == 0


@pytest.fixture
def writer(tmp_path: Path) -> Iterator[Writer]:
    writer = Writer(tmp_path, 64 * 1024, 0)
    yield writer
    writer.close()


@pytest.fixture
def bounded(tmp_path: Path) -> Iterator[Writer]:
    writer = Writer(tmp_path, 64 * 1024, 4 * 64 * 1024)
    yield writer
    writer.close()


def tail_all(reader: Reader, after_seq: int = 0, max_bytes: int = 2**20) -> list[tuple[int, Chunk]]:
    found: list[tuple[int, Chunk]] = []
    while more := reader.tail(found[-1][0] if found else after_seq, max_bytes):
        found += more
    return found


@pytest.mark.slow
def test_a_reader_sees_each_commit_of_another_process_at_once(tmp_path: Path, writer: Writer) -> None:
    with Reader(tmp_path) as reader:
        assert (reader.tail(0, 2**20), reader.streams()) == ([], {})
        seq, at = 0, 0
        for _ in range(80):
            writer.tell("rows 37")  # makes new segments now and then
            found = reader.tail(seq, 2**20)
            assert b"".join(chunk.data for _, chunk in found) == mixed(at, 37, length=40).tobytes()
            seq, at = found[-1][0], at + 37
            assert reader.synced(STREAM) == at - 1
        assert len([entry for entry in tmp_path.iterdir() if entry.is_dir()]) > 12
        assert sum(segment.is_open for segment in reader._segments) <= reading.KEPT_OPEN + 2
        writer.tell("gap 3")
        assert (reader.synced(STREAM), reader.gaps()) == (at + 2, [Gap(STREAM, at, at + 2)])
        assert b"".join(chunk.data for chunk in reader.read(STREAM, 0, 2**20)) == mixed(0, at, length=40).tobytes()
        assert reader.streams()[STREAM].encoded == SCHEMA.encoded


@pytest.mark.slow
def test_a_reader_hears_of_a_new_stream_in_a_segment_it_knows(tmp_path: Path, writer: Writer) -> None:
    with Reader(tmp_path) as reader:
        writer.tell("rows 5")
        assert set(reader.streams()) == {STREAM}
        writer.tell("other 5")
        assert set(reader.streams()) == {STREAM, "other"}
        assert [chunk.stream for _, chunk in reader.tail(0, 2**20)] == [STREAM, "other"]
        assert len(list(tmp_path.glob("online-*"))) == 1


@pytest.mark.slow
def test_a_reader_beside_a_writer_at_full_speed_misses_nothing(tmp_path: Path) -> None:
    Log(tmp_path).close()
    program = Path(__file__).with_name("recorded.py")
    command = [sys.executable, str(program), str(tmp_path), "7"]
    with (
        subprocess.Popen(command, stdout=subprocess.DEVNULL, cwd=program.parents[3]) as writer,
        Reader(tmp_path) as reader,
    ):
        seqs, data = [0], b""
        while seqs[-1] < 400 and writer.poll() is None:
            for seq, chunk in reader.tail(seqs[-1], 2**20):
                seqs.append(seq)
                data += chunk.data
        writer.kill()
    assert seqs == list(range(len(seqs)))
    assert len(seqs) > 400
    assert data == mixed(0, len(data) // SCHEMA.row_bytes, length=20).tobytes()


@pytest.mark.slow
def test_a_reader_goes_on_over_segments_that_are_trimmed_meanwhile(tmp_path: Path, bounded: Writer) -> None:
    with Reader(tmp_path) as reader:
        bounded.tell("rows 50")
        (_, first), *_ = reader.tail(0, 1)
        assert first.first == 0
        freed = 0
        for _ in range(40):
            bounded.tell("rows 100")
            freed += int(bounded.tell("trim"))
        assert freed > 0
        found = tail_all(reader)
        seqs, firsts = [seq for seq, _ in found], [chunk.first for _, chunk in found]
        assert seqs == sorted(set(seqs))
        assert firsts == sorted(firsts)
        assert firsts[0] > 0
        assert found[-1][1].last == reader.synced(STREAM) == 50 + 40 * 100 - 1
        kept = reader.first_kept(STREAM)
        chunks = reader.read(STREAM, kept, 2**30)
        assert b"".join(chunk.data for chunk in chunks) == mixed(kept, 4050 - kept, length=40).tobytes()
        assert reader.read(STREAM, 0, 1)[0].first <= kept


@pytest.mark.slow
def test_a_killed_reader_leaves_no_slot_behind(tmp_path: Path, writer: Writer) -> None:
    writer.tell("rows 10")
    command = [sys.executable, "-c", SCANNING, str(tmp_path)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as other:
        assert other.stdout is not None
        other.stdout.readline()
        with Reader(tmp_path) as reader:
            reader.tail(0, 1)
            assert slots_of(reader, other.pid) == 1
            other.kill()
            other.wait()
            reader.tail(0, 1)
            assert slots_of(reader, other.pid) == 0


@pytest.mark.slow
def test_a_writer_frees_the_slots_of_readers_that_were_killed(tmp_path: Path) -> None:
    write(tmp_path, (STREAM, 0, 5))
    command = [sys.executable, "-c", SCANNING, str(tmp_path)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as other:
        assert other.stdout is not None
        other.stdout.readline()
        other.kill()
    with Log(tmp_path) as log:
        (segment,) = log._shelf.segments
        assert f"{other.pid} " not in segment._environment().readers()


def slots_of(reader: Reader, pid: int) -> int:
    (segment,) = (segment for segment in reader._segments if segment.klass == Klass.ONLINE)
    return segment._environment().readers().count(f"{pid} ")


def write(path: Path, *parts: tuple[str, int, int], config: LogConfig | None = None) -> None:
    """Commits rows of (stream, first, count), one commit each."""
    with Log(path, config or LogConfig()) as log:
        for stream, first, count in parts:
            log.open_stream(stream, SCHEMA)
            log.append(stream, mixed(first, count))
            log.commit()


def test_the_tail_comes_in_commit_order_over_classes_and_streams(tmp_path: Path) -> None:
    write(tmp_path, ("a/1/r", 0, 12), ("b/1/r", 0, 8), ("a/1/r", 12, 20), ("b/1/r", 8, 1))
    with Reader(tmp_path) as reader:
        found = tail_all(reader)
        assert [seq for seq, _ in found] == list(range(1, len(found) + 1))
        for stream, count in (("a/1/r", 32), ("b/1/r", 9)):
            data = b"".join(chunk.data for _, chunk in found if chunk.stream == stream)
            assert data == mixed(0, count).tobytes()
        assert tail_all(reader, max_bytes=1) == found
        assert tail_all(reader, after_seq=3) == found[3:]
        assert reading.tail(reader._segments, reader._names, 1, 3, 2**20) == found[1:3]
        assert reader.tail(found[-1][0], 2**20) == []
        most = sum(len(chunk.data) for _, chunk in found[:3])
        assert reader.tail(0, most) == found[:3]
        assert reader.tail(0, most - 1) == found[:2]


@pytest.mark.parametrize(
    ("first", "second"), [(Klass.ONLINE, Klass.DEMONSTRATION), (Klass.DEMONSTRATION, Klass.ONLINE)]
)
def test_what_was_appended_first_is_committed_first(tmp_path: Path, first: Klass, second: Klass) -> None:
    with Log(tmp_path) as log:
        for stream in "abc":
            log.open_stream(stream, SCHEMA)
        for stream, klass in (("c", first), ("b", first), ("a", second)):
            log.append(stream, rows(0, 5, klass=klass))
        log.commit()
    with Reader(tmp_path) as reader:
        assert [chunk.stream for _, chunk in reader.tail(0, 2**20)] == ["c", "b", "a"]


def test_what_a_reader_tells_is_what_the_writer_tells(tmp_path: Path) -> None:
    with Log(tmp_path) as log:
        log.open_stream(STREAM, SCHEMA)
        log.append(STREAM, mixed(0, 23))
        log.append_gap(STREAM, 23, 24)
        log.append(STREAM, mixed(25, 10))
        log.commit()
        told = (log.episodes(), log.gaps(), log.read(STREAM, 3, 5000), log.first_kept(STREAM), log.log_id)
    with Reader(tmp_path) as reader:
        assert told == (
            reader.episodes(), reader.gaps(), reader.read(STREAM, 3, 5000), reader.first_kept(STREAM), reader.log_id,
        )  # fmt: skip
        assert [chunk.first for chunk in reader.scan(STREAM)] == [0, 15, 30, 10, 25]


def test_there_is_no_reader_without_a_log(tmp_path: Path) -> None:
    with pytest.raises(StorageError) as error:
        Reader(tmp_path / "log")
    assert str(error.value) == f"{tmp_path}/log: no log is there (log.json is missing); start its writer first"


def test_one_process_opens_a_log_once(tmp_path: Path) -> None:
    write(tmp_path, (STREAM, 0, 5))
    with Reader(tmp_path), pytest.raises(StorageBusy, match=r"this process has it open already; read through its Log"):
        Log(tmp_path)
    with Log(tmp_path), pytest.raises(StorageBusy, match=r"this process has it open already"):
        Reader(tmp_path)


def test_a_log_and_a_reader_of_another_log_share_a_process(tmp_path: Path) -> None:
    write(tmp_path / "one", (STREAM, 0, 5))
    with Reader(tmp_path / "one") as reader, Log(tmp_path / "two") as log:
        log.open_stream(STREAM, SCHEMA)
        for _, chunk in reader.tail(0, 2**20):
            log.append(STREAM, reader.streams()[STREAM].view(chunk.data))
        log.commit()
        assert log.read(STREAM, 0, 2**20) == reader.read(STREAM, 0, 2**20)


def test_an_unknown_stream_is_named(tmp_path: Path) -> None:
    write(tmp_path, (STREAM, 0, 5))
    with Reader(tmp_path) as reader:
        for call in (reader.synced, reader.first_kept, lambda name: reader.read(name, 0, 1), reader.scan):
            with pytest.raises(StorageError, match=r"no stream x/y/z, it has \['cell/boot/run'\]"):
                call("x/y/z")


def test_damaged_rows_are_not_handed_out(tmp_path: Path) -> None:
    write(tmp_path, (STREAM, 0, 10))
    files = sorted(tmp_path.glob("online-*/data.mdb"))
    data = bytearray(files[0].read_bytes())
    at = data.find(rows(6, 1).tobytes())
    assert at > 0
    data[at + 40] ^= 1
    files[0].write_bytes(data)
    with Reader(tmp_path) as reader:
        for call in (lambda: reader.tail(0, 1), lambda: reader.read(STREAM, 2, 100)):
            with pytest.raises(StorageCorrupt, match=r"chunk at step 0: \d+ bytes with digest \w{16}, written were"):
                call()


@pytest.mark.slow
def test_many_segments_need_few_files_open(tmp_path: Path) -> None:
    before = len(os.listdir("/proc/self/fd"))
    with Log(tmp_path, LogConfig(segment_bytes=1)) as log:
        log.open_stream(STREAM, SCHEMA)
        for first in range(0, 100, 5):
            log.append(STREAM, rows(first, 5))
            log.commit()
        assert len(log.episodes()) == 20
        assert len(os.listdir("/proc/self/fd")) - before < 90
    before = len(os.listdir("/proc/self/fd"))
    with Reader(tmp_path) as reader:
        assert sum(chunk.count for chunk in reader.scan(STREAM)) == 100
        assert len(reader.episodes()) == 20
        assert sum(chunk.count for _, chunk in tail_all(reader, max_bytes=1)) == 100
        assert len(os.listdir("/proc/self/fd")) - before < 24


def test_a_call_that_loses_its_segment_to_trimming_looks_again(tmp_path: Path) -> None:
    write(tmp_path, (STREAM, 0, 5))
    segment = Segment(next(tmp_path.glob("online-*")))
    answers = iter(["segment", "answer"])

    def call() -> str:
        if (answer := next(answers)) == "segment":
            segment.path.rename(tmp_path / ".old-segment")
            segment.streams()
        return answer

    with Reader(tmp_path) as reader:
        assert reader._fresh(call) == "answer"
        with pytest.raises(SegmentGone, match=r"was trimmed while it was read; ask again"):
            segment.streams()
        with pytest.raises(StorageError, match=r"segments were trimmed 8 times while they were read; read again later"):
            reader._fresh(segment.streams)


def test_a_reader_or_a_writer_that_cannot_open_leaves_nothing_open(tmp_path: Path) -> None:
    write(tmp_path, (STREAM, 0, 12))
    broken = next(tmp_path.glob("demonstration-*")) / "data.mdb"
    sound = broken.read_bytes()
    broken.write_bytes(b"x" * len(sound))
    for opened in (Reader, Log):
        with pytest.raises(StorageError, match=r"LMDB refused|is not one of LMDB"):
            opened(tmp_path)
    broken.write_bytes(sound)
    with Log(tmp_path) as log:
        assert log.synced(STREAM) == 11


def test_a_scan_goes_on_while_the_reader_does_other_things(tmp_path: Path) -> None:
    with Log(tmp_path, LogConfig(segment_bytes=1)) as log:
        log.open_stream(STREAM, SCHEMA)
        for first in range(0, 60, 5):
            log.append(STREAM, rows(first, 5))
            log.commit()
    with Reader(tmp_path) as reader:
        found = []
        for chunk in reader.scan(STREAM):
            found.append(chunk)
            assert reader.read(STREAM, 0, 2**20)[0].first == 0
        assert b"".join(chunk.data for chunk in found) == rows(0, 60).tobytes()
