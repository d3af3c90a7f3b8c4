"""Verify: an undamaged log has no problems; a flipped bit, a lost file part and a doubled row are each named."""

from pathlib import Path

import lmdb
import numpy as np
import pytest

from tests.user_rl.log.recorded import SCHEMA, STREAM, mixed, plant, rows
from user_rl.errors import StorageError
from user_rl.log import Log, LogConfig, verify
from user_rl.log.chunk import STEP_KEY
from user_rl.log.segment import TABLES

pytestmark = pytest.mark.slow


@pytest.fixture
def path(tmp_path: Path) -> Path:
    with Log(tmp_path, LogConfig(segment_bytes=96 * 1024)) as log:
        log.open_stream(STREAM, SCHEMA)
        for first in range(0, 1200, 100):
            log.append(STREAM, mixed(first, 100, length=100))
            log.commit()
    return tmp_path


def flip(file: Path, at: int, bit: int = 1) -> None:
    data = bytearray(file.read_bytes())
    data[at] ^= bit
    file.write_bytes(data)


def test_a_sound_log_has_no_problems(path: Path) -> None:
    assert verify(path) == []
    with Log(path):
        assert verify(path) == []
    with pytest.raises(StorageError, match="no log is there"):
        verify(path / "nowhere")


def test_a_flipped_bit_in_a_row_is_named_twice(path: Path) -> None:
    file = sorted(path.glob("online-*/footer.json"))[0].with_name("data.mdb")
    flip(file, file.read_bytes().find(rows(6, 1, length=100).tobytes()) + 50)
    by_file, by_chunk, by_count = verify(path)
    assert f"{file}: " in by_file
    assert "restore this segment" in by_file
    assert by_chunk.startswith(f"{file.parent}: stream {STREAM}, chunk at step 0: ")
    assert "sound rows, written were" in by_count


def test_a_footer_that_cannot_be_read_is_named(path: Path) -> None:
    file = next(path.glob("*/footer.json"))
    file.write_bytes(b"{}")
    assert [line for line in verify(path) if "footer.json cannot be read" in line]


def test_a_flipped_bit_anywhere_is_noticed(path: Path) -> None:
    """Also where it kills whoever follows LMDB's tree: verify itself must live."""
    file = sorted(path.glob("online-*/footer.json"))[0].with_name("data.mdb")
    sound, rng = file.read_bytes(), np.random.default_rng(3)
    for at in rng.integers(0, len(sound), 6):
        flip(file, int(at), 1 << int(rng.integers(8)))
        assert [line for line in verify(path) if str(file) in line]
        file.write_bytes(sound)
    file.write_bytes(sound[: len(sound) // 2])  # a page that is gone: SIGBUS for a reader
    problems = verify(path)
    assert f"{file}: {len(sound) // 2} bytes" in problems[0]
    assert all(line.startswith(str(file.parent)) for line in problems)
    assert len(problems) > 1


def test_rows_that_stand_twice_are_named(path: Path) -> None:
    folder = max(path.glob("online-*"))
    assert not (folder / "footer.json").exists()
    plant(folder, STREAM, 30, rows(30, 5, length=100).tobytes())
    plant(folder, STREAM, 99, rows(99, 1, length=100).tobytes())
    problems = verify(path)
    assert f"stream {STREAM}: rows 30..34 stand twice; restore this log" in problems
    assert f"stream {STREAM}: rows 99..99 stand twice; restore this log" in problems


def test_a_chunk_that_no_table_names_and_one_that_is_missing_are_named(path: Path) -> None:
    folder = max(path.glob("online-*"))
    with lmdb.open(str(folder), map_size=0, max_dbs=len(TABLES)) as env:
        chunks = env.open_db(b"chunks")
        with env.begin(write=True) as txn:
            cursor = txn.cursor(db=chunks)
            cursor.first()
            key, value = cursor.item()
            number, first = STEP_KEY.unpack(key)
            txn.delete(key, db=chunks)
            txn.put(STEP_KEY.pack(number, 10**6), value, db=chunks)
            txn.put(STEP_KEY.pack(77, 0), value, db=chunks)
    problems = "\n".join(verify(path))
    assert f"stream {STREAM}, step 1000000: a chunk that no table names" in problems
    assert "stream number 77, step 0: a chunk that no table names" in problems
    assert f"stream {number}, step {first}: this chunk is missing; restore it" in problems
