"""Folders that a crash leaves, and errors in the operator's terms."""

import errno
from pathlib import Path

import lmdb
import pytest

from user_rl.errors import StorageBusy, StorageError, StorageFull
from user_rl.log.durable import SegmentFull, drop_folder, sweep, translated


def test_a_dropped_folder_is_gone_and_a_half_dropped_one_is_swept(tmp_path: Path) -> None:
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "data").write_text("rows")
    drop_folder(tmp_path / "one")
    (tmp_path / "two" / ".footer.json.17.part").write_text("half")
    (tmp_path / ".old-three").mkdir()
    (tmp_path / ".new-four").mkdir()
    (tmp_path / ".log.json.17.part").write_text("half")
    sweep(tmp_path)
    assert sorted(str(entry.relative_to(tmp_path)) for entry in tmp_path.rglob("*")) == ["two", "two/data"]


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT, errno.EFBIG])
def test_the_file_systems_ways_to_say_full(tmp_path: Path, number: int) -> None:
    with pytest.raises(StorageFull, match=r"no space for 77 bytes, \d+ are free; free space on that disk"):
        fail(tmp_path, OSError(number, "full"))


@pytest.mark.parametrize(
    ("raised", "expected", "text"),
    [
        (OSError(errno.EIO, "Input/output error"), StorageError, "the disk refused 77 bytes: .*; look at the disk"),
        (lmdb.Error("mdb_txn_commit: Input/output error"), StorageError, "LMDB refused 77 bytes: .*; look at the disk"),
        (lmdb.MapFullError("full"), SegmentFull, "its map has no room for 77 bytes; make segment_bytes larger"),
        (lmdb.Error("The environment is already open in this process."), StorageBusy, "read through its Log, or in"),
    ],
)
def test_each_failure_has_its_class(tmp_path: Path, raised: Exception, expected: type, text: str) -> None:
    with pytest.raises(StorageError, match=text) as error:
        fail(tmp_path, raised)
    assert type(error.value) is expected
    assert error.value.__cause__ is raised
    assert str(error.value).startswith(f"{tmp_path}: ")


def test_what_is_no_failure_of_storage_passes(tmp_path: Path) -> None:
    with pytest.raises(ZeroDivisionError):
        fail(tmp_path, ZeroDivisionError())


def test_a_folder_that_is_not_there_has_the_space_of_its_parent(tmp_path: Path) -> None:
    with pytest.raises(StorageFull, match=r"new: no space for 77 bytes"):
        fail(tmp_path / "new", OSError(errno.ENOSPC, "full"))


def fail(path: Path, error: Exception) -> None:
    with translated(path, 77):
        raise error
