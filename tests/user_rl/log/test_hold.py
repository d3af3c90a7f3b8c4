"""Holds: rows come out of the map as they went in, chunk by chunk, thread by thread, whatever the writer does."""

import shutil
import subprocess
import sys
import tempfile
import threading
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.user_rl.log.filmed_rows import DEPTH, FRONT, SCHEMA, STATE, WRIST, after, filmed, write
from tests.user_rl.log.recorded import SCHEMA as SMALL
from tests.user_rl.log.recorded import STREAM, mixed
from user_rl.errors import StorageCorrupt
from user_rl.log import ChunkRef, Log, LogConfig, Reader
from user_rl.log.chunk import CODED, RAW
from user_rl.log.segment import SegmentGone
from user_rl.specs import Array

PICTURE = st.sampled_from(["raw", "lz4", "zstd", "png", "jpeg", "jpeg:50"])
VECTOR = st.sampled_from(["raw", "lz4", "zstd"])


def fetched(reader: Reader, refs: list[ChunkRef], schema_rows: int = 0) -> Array:
    """Every row of some chunks."""
    out = np.zeros(sum(ref.count for ref in refs) + schema_rows, reader.streams()[refs[0].stream].dtype)
    at = 0
    with reader.hold() as hold:
        for ref in refs:
            hold.fetch(ref, slice(None), out[at : at + ref.count])
            at += ref.count
        hold.close()
    return out


@given(
    cuts=st.lists(st.integers(1, 9), min_size=1, max_size=6),
    codecs=st.fixed_dictionaries({FRONT: PICTURE, WRIST: PICTURE, DEPTH: PICTURE, STATE: VECTOR}),
    length=st.integers(1, 12),
    seed=st.integers(0, 9),
    draw=st.randoms(use_true_random=False),
)  # fmt: skip
@settings(max_examples=25, deadline=None)
@pytest.mark.slow
def test_what_is_fetched_is_what_was_appended(cuts, codecs, length, seed, draw) -> None:  # type: ignore[no-untyped-def]  # noqa: ANN001
    whole = filmed(0, sum(cuts), seed=seed, length=length)
    lossy = {name: int((text + ":90").split(":")[1]) for name, text in codecs.items() if text.startswith("jpeg")}
    decoded = after(whole, lossy)
    with tempfile.TemporaryDirectory() as folder:
        write(Path(folder, "log"), np.split(whole, np.cumsum(cuts)[:-1]), codecs=codecs, segment_bytes=2**17)
        with Reader(Path(folder, "log")) as reader, reader.hold() as hold:
            refs = reader.refs(0, 1000)
            assert sorted(step for ref in refs for step in range(ref.first, ref.first + ref.count)) == list(
                range(len(whole))
            )
            assert [(seq, c.stream, c.first, c.count) for seq, c in reader.tail(0, 2**30)] == [
                (ref.seq, ref.stream, ref.first, ref.count) for ref in refs
            ]
            for ref, (_, chunk) in zip(refs, reader.tail(0, 2**30), strict=True):
                expected = (decoded if ref.form == CODED else whole)[ref.first : ref.first + ref.count]
                assert chunk.data == expected.tobytes()
                rows = np.array([draw.randrange(ref.count) for _ in range(draw.randrange(6))], np.int64)
                out = np.zeros(len(rows), SCHEMA.dtype)
                hold.fetch(ref, rows, out)
                assert out.tobytes() == expected[rows].tobytes()
                cut = slice(draw.randrange(ref.count), draw.randrange(ref.count + 1))
                out = np.zeros(len(expected[cut]), SCHEMA.dtype)
                hold.fetch(ref, cut, out)
                assert out.tobytes() == expected[cut].tobytes()
                plain = hold.plain(ref)
                assert not plain.flags.writeable
                assert all((plain[name] == expected[name]).all() for name in plain.dtype.names or ())
            hold.close()


@pytest.mark.slow
def test_chunks_are_listed_in_the_order_of_their_commits_and_not_twice(tmp_path: Path) -> None:
    with Log(tmp_path / "log", LogConfig(segment_bytes=32 * 1024)) as log:
        for at in range(0, 400, 40):
            for stream in ("a/1/r", "b/1/r"):
                log.open_stream(stream, SMALL)
                log.append(stream, mixed(at, 40))
            log.commit()
    with Reader(tmp_path / "log") as reader:
        whole = reader.refs(0, 10**6)
        assert [ref.seq for ref in whole] == list(range(1, len(whole) + 1))
        parts, after_seq = [], 0
        while part := reader.refs(after_seq, 7):
            assert len(part) <= 7
            parts += part
            after_seq = part[-1].seq
        assert parts == whole
        assert len({ref.segment for ref in whole}) > 4
        assert {ref.form for ref in whole} == {RAW}
        ours = [ref for ref in whole if ref.stream == "b/1/r"]
        found = fetched(reader, ours)
        assert found[np.argsort(found["step"])].tobytes() == mixed(0, 400).tobytes()


def test_a_chunk_of_raw_rows_is_looked_at_where_it_lies(tmp_path: Path) -> None:
    write(tmp_path / "log", [filmed(0, 4)])
    with Reader(tmp_path / "log") as reader, reader.hold() as hold:
        (ref,) = reader.refs(0, 9)
        assert hold.plain(ref).tobytes() == filmed(0, 4).tobytes()
        assert hold.plain(ref).ctypes.data == hold.plain(ref).ctypes.data
        hold.close()


def test_rows_that_a_chunk_has_not_are_refused(tmp_path: Path) -> None:
    write(tmp_path / "log", [filmed(0, 4)])
    with Reader(tmp_path / "log") as reader, reader.hold() as hold:
        (ref,) = reader.refs(0, 9)
        for rows in ([0, 4], [-1, 2]):
            with pytest.raises(IndexError, match=rf"chunk at step 0: rows {rows[0]} to {rows[1]}, allowed 0 to 3$"):
                hold.fetch(ref, np.array(rows), np.zeros(2, SCHEMA.dtype))
        hold.close()


@pytest.mark.parametrize("codecs", [{}, {FRONT: "zstd"}])
def test_a_damaged_chunk_is_named_and_the_others_serve(tmp_path: Path, codecs: dict[str, str]) -> None:
    parts = [filmed(0, 2), filmed(2, 1), filmed(4, 2)]
    parts[2]["step"] -= 1
    parts[2]["token"] = 0x1122334455667788
    write(tmp_path / "log", parts, codecs=codecs)
    file = next(tmp_path.glob("log/online-*/data.mdb"))
    data = bytearray(file.read_bytes())
    at = data.find((0x1122334455667788).to_bytes(8, "little"))
    data[at] ^= 4
    file.write_bytes(data)
    with Reader(tmp_path / "log") as reader, reader.hold() as hold:
        refs = reader.refs(0, 9)
        assert {ref.form for ref in refs} == {CODED if codecs else RAW}
        for _ in range(2):
            with pytest.raises(
                StorageCorrupt, match=rf"^{file.parent.name}: stream {STREAM}, chunk at step 3: .* restore"
            ):
                hold.plain(refs[2])
        out = np.zeros(2, SCHEMA.dtype)
        hold.fetch(refs[0], slice(None), out)
        assert out.tobytes() == parts[0].tobytes()
        hold.close()


def test_a_digest_is_checked_once(tmp_path: Path) -> None:
    write(tmp_path / "log", [filmed(0, 2)])
    file = next(tmp_path.glob("log/online-*/data.mdb"))
    with Reader(tmp_path / "log") as reader, reader.hold() as hold:
        (ref,) = reader.refs(0, 9)
        hold.plain(ref)
        data = file.read_bytes()
        at = data.find(filmed(0, 2).tobytes())
        with file.open("r+b") as changed:
            changed.seek(at + 60)
            changed.write(b"\x07")
        assert hold.plain(ref).tobytes() != filmed(0, 2).tobytes()
        hold.close()
        with hold:
            assert hold.plain(ref).tobytes() != filmed(0, 2).tobytes()
        hold.close()
    with Reader(tmp_path / "log") as reader, reader.hold() as hold:
        with pytest.raises(StorageCorrupt):
            hold.plain(ref)
        hold.close()


@pytest.mark.slow
def test_a_trimmed_segment_serves_those_who_hold_it_and_no_other(tmp_path: Path) -> None:
    path = tmp_path / "log"
    write(path, [filmed(at, 10) for at in range(0, 100, 10)], segment_bytes=2**17)
    with Reader(path) as reader:
        refs = reader.refs(0, 99)
        name = refs[0].segment
        ours, other = reader.hold(), reader.hold()
        expected = np.zeros(refs[0].count, SCHEMA.dtype)
        with ours:
            ours.fetch(refs[0], slice(None), expected)
        with ours:
            view = ours.plain(refs[0])
            shutil.rmtree(path / name)
            assert refs[0] not in reader.refs(0, 99)
            assert view.tobytes() == expected.tobytes() == ours.plain(refs[0]).tobytes()
        for hold in (ours, other):
            with (
                hold,
                pytest.raises(SegmentGone, match=rf"{name}: .* trimmed; list the chunks again|{name}: was trimmed"),
            ):
                hold.plain(refs[0])
        with ours:
            assert ours.plain(refs[-1])["step"][0] == refs[-1].first
        ours.close()


@pytest.mark.slow
def test_segments_stay_open_from_batch_to_batch_up_to_a_bound(tmp_path: Path) -> None:
    path = tmp_path / "log"
    write(path, [filmed(at, 10) for at in range(0, 200, 10)], segment_bytes=2**16)
    with Reader(path) as reader:
        refs = {ref.segment: ref for ref in reader.refs(0, 99)}
        assert len(refs) > 5
        hold = reader.hold(max_open=2)
        with hold:
            views = [hold.plain(ref) for ref in refs.values()]
            assert [view["step"][0] for view in views] == [ref.first for ref in refs.values()]
            opened = [segment.path.name for segment in reader._segments if segment.is_open]
            assert set(opened) >= set(refs)
        reader.refs(0, 1)
        kept = [name for name in refs if reader._by_name[name].is_open and reader._by_name[name]._readers]
        sealed = [name for name in refs if reader._by_name[name].footer]
        assert kept == [name for name in list(refs)[-2:] if name in sealed]
        hold.close()
        assert not any(segment._readers for segment in reader._segments)


@pytest.mark.slow
def test_threads_fetch_at_the_same_time(tmp_path: Path) -> None:
    path = tmp_path / "log"
    whole = filmed(0, 120)
    write(path, np.split(whole, 12), segment_bytes=2**17, codecs={FRONT: "png"})
    wrong: list[str] = []
    with Reader(path) as reader:
        refs = reader.refs(0, 99)

        def work(seed: int) -> None:
            rng, hold = np.random.default_rng(seed), reader.hold(max_open=3)
            for _ in range(12):
                with hold:
                    for at in rng.integers(0, len(refs), 4):
                        rows = rng.integers(0, refs[at].count, 3)
                        out = np.zeros(3, SCHEMA.dtype)
                        hold.fetch(refs[at], rows, out)
                        if out.tobytes() != whole[refs[at].first + rows].tobytes():
                            wrong.append(f"{refs[at]} {rows}")
                reader.refs(int(rng.integers(0, 9)), 5)
            hold.close()

        threads = [threading.Thread(target=work, args=(seed,)) for seed in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert wrong == []


WRITER = """
import sys
from pathlib import Path
from tests.user_rl.log.filmed_rows import SCHEMA, filmed
from tests.user_rl.log.recorded import STREAM
from user_rl.log import Log, LogConfig
log = Log(Path(sys.argv[1]), LogConfig(segment_bytes=2**18))
log.open_stream(STREAM, SCHEMA)
for line in sys.stdin:
    first, count = map(int, line.split())
    log.append(STREAM, filmed(first, count))
    print(log.commit()[STREAM], flush=True)
"""


@pytest.mark.slow
def test_rows_are_held_while_their_writer_goes_on(tmp_path: Path) -> None:
    with subprocess.Popen(
        [sys.executable, "-c", WRITER, str(tmp_path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as writer:
        assert writer.stdin
        assert writer.stdout

        def tell(first: int, count: int) -> None:
            assert writer.stdin
            assert writer.stdout
            writer.stdin.write(f"{first} {count}\n")
            writer.stdin.flush()
            assert writer.stdout.readline() == f"{first + count - 1}\n"

        tell(0, 10)
        with Reader(tmp_path) as reader:
            hold, seen = reader.hold(), 0
            for first in range(10, 200, 10):
                with hold:
                    known = [(ref, hold.plain(ref)) for ref in reader.refs(seen, 999)]
                    tell(first, 10)
                    late = reader.refs(known[-1][0].seq, 999)
                    for ref, view in [*known, *((ref, hold.plain(ref)) for ref in late)]:
                        assert view.tobytes() == filmed(ref.first, ref.count).tobytes()
                    seen = known[-1][0].seq
            assert len({ref.segment for ref in reader.refs(0, 999)}) > 3
            hold.close()
        writer.stdin.close()
