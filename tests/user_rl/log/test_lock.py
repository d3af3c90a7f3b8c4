"""The writer's lock and the log's identity."""

import os
from pathlib import Path

import pytest

from user_rl.errors import StorageBusy, StorageError
from user_rl.log.lock import IDENTITY_BYTES, WriterLock, read_identity


def test_each_writer_raises_the_epoch_and_keeps_the_name(tmp_path: Path) -> None:
    found = []
    for _ in range(3):
        lock = WriterLock(tmp_path / "log")
        found.append(lock.identity)
        assert read_identity(tmp_path / "log") == lock.identity
        lock.check()
        lock.close()
        lock.close()
    assert [identity.epoch for identity in found] == [1, 2, 3]
    assert len({identity.log_id for identity in found}) == 1
    assert WriterLock(tmp_path / "other").identity.log_id != found[0].log_id


def test_the_identity_is_rewritten_in_place(tmp_path: Path) -> None:
    """So that it needs no space, and no more than a sector of the disk."""
    WriterLock(tmp_path).close()
    before = (tmp_path / "log.json").stat()
    WriterLock(tmp_path).close()
    after = (tmp_path / "log.json").stat()
    assert (after.st_ino, after.st_size) == (before.st_ino, before.st_size) == (before.st_ino, IDENTITY_BYTES)
    assert IDENTITY_BYTES <= 512


def test_one_process_is_a_holder_like_any_other(tmp_path: Path) -> None:
    lock = WriterLock(tmp_path)
    with pytest.raises(StorageBusy, match=rf"{tmp_path} is held by process {os.getpid()}, allowed one"):
        WriterLock(tmp_path)
    assert lock.identity.epoch == 1
    lock.check()
    lock.close()


def test_a_former_writer_is_told(tmp_path: Path) -> None:
    lock = WriterLock(tmp_path)
    (tmp_path / "lock").unlink()
    successor = WriterLock(tmp_path)
    successor.check()
    with pytest.raises(StorageBusy) as error:
        lock.check()
    assert str(error.value) == (f"{tmp_path}: its writer has epoch 2 now, ours is 1; close this one, it may not write")
    lock.close()
    successor.close()


def test_a_folder_that_cannot_be_made_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(StorageError, match=r"file/log: the disk refused 4096 bytes: .*Not a directory"):
        WriterLock(tmp_path / "file" / "log")


def test_a_failed_start_frees_the_lock(tmp_path: Path) -> None:
    (tmp_path / "log.json").write_text("{")
    for _ in range(2):
        with pytest.raises(StorageError, match=r"log.json cannot be read"):
            WriterLock(tmp_path)
    (tmp_path / "log.json").unlink()
    WriterLock(tmp_path).close()
