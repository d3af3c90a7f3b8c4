"""Places: a chunk lies where it was found for as long as its segment is there, whatever the writer does meanwhile."""

import mmap
import os
from pathlib import Path

import pytest

from cloud.testing import state_schema
from tests.cloud.store.logs import elsewhere, rows_of, write
from user_rl.log import ChunkRef, Reader
from user_rl.log.hold import Hold
from user_rl.log.places import Places

SCHEMA = state_schema(states=600)  # rows of some 5 kB, ten a commit


def bytes_at(hold: Hold, ref: ChunkRef) -> bytes:
    found = hold.where(ref)
    assert found is not None
    return os.pread(found[0], ref.count * SCHEMA.row_bytes, found[1])


@pytest.mark.slow
def test_a_place_in_a_segment_that_is_written_to_holds_while_it_is_and_after_it_was_sealed(tmp_path: Path) -> None:
    write(tmp_path, SCHEMA, 59)
    with Reader(tmp_path) as reader:
        hold, ref = reader.hold(), reader.refs(0, 99)[-1]
        with hold:
            before = hold.where(ref)
        for first, last in ((59, 60), (60, 70)):
            elsewhere(f"logs.write(Path({str(tmp_path)!r}), state_schema(states=600), {last}, first={first})")
            reader.segments()
            with hold:
                after = hold.where(ref)
                assert before is not None
                assert after is not None
                assert before[1] == after[1]
                assert bytes_at(hold, ref) == rows_of(SCHEMA, 58).tobytes()
        hold.close()


def test_a_place_is_known_without_another_look_at_the_chunk_when_the_file_was_closed_between(tmp_path: Path) -> None:
    write(tmp_path, SCHEMA, 30)
    with Reader(tmp_path) as reader:
        hold, ref = reader.hold(), reader.refs(0, 99)[4]
        with hold:
            assert bytes_at(hold, ref) == rows_of(SCHEMA, 4).tobytes()
        hold.close()
        segment = reader._by_name[ref.segment]
        segment.close()
        assert not segment.is_open
        with hold:
            assert bytes_at(hold, ref) == rows_of(SCHEMA, 4).tobytes()
            assert not hold._held[ref.segment].known
        hold.close()


def test_no_descriptor_is_left_when_a_reader_is_closed(tmp_path: Path) -> None:
    write(tmp_path, SCHEMA, 30)
    before = len(os.listdir("/proc/self/fd"))
    with Reader(tmp_path) as reader:
        hold = reader.hold()
        with hold:
            for ref in reader.refs(0, 99):
                bytes_at(hold, ref)
        hold.close()
    assert len(os.listdir("/proc/self/fd")) <= before


def test_a_chunk_that_shares_a_page_has_no_place(tmp_path: Path) -> None:
    path = tmp_path / "data.mdb"
    path.write_bytes(bytes(5 * 4096))
    places = Places(path)
    places.note(1, memoryview(bytes(4097)))  # large enough, but the file is not mapped
    assert places.of(1) is None
    places.close()
    with path.open("r+b") as file, mmap.mmap(file.fileno(), 0) as mapped, memoryview(mapped) as values:
        places.note(2, values[8192 : 8192 + 4096])
        places.note(3, values[8192 : 8192 + 4097])
        assert places.of(2) is None
        assert (places.of(3) or (0, 0))[1] == 8192
    places.close()


def test_small_commits_are_read_from_the_map(tmp_path: Path) -> None:
    write(tmp_path, state_schema(), 5)
    with Reader(tmp_path) as reader:
        hold = reader.hold()
        with hold:
            assert [hold.where(ref) for ref in reader.refs(0, 99)] == [None] * 5
        hold.close()
