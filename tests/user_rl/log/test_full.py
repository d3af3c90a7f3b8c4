"""A full disk: the commit says so, nothing is lost or doubled, and it goes on once there is space."""

import os
import resource
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import lmdb
import pytest

from tests.user_rl.log.recorded import SCHEMA, STREAM, rows
from user_rl.errors import StorageError, StorageFull
from user_rl.log import Cursors, Log, LogConfig, Reader
from user_rl.log.durable import translated
from user_rl.rows import Klass

pytestmark = pytest.mark.slow


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    """A real file system of 2 MiB."""
    path = tmp_path / "disk"
    path.mkdir()
    done = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=2m", "tmpfs", str(path)], capture_output=True, check=False
    )
    if done.returncode:
        pytest.skip("mounting a tmpfs needs root")
    yield path
    subprocess.run(["umount", "-l", str(path)], check=True)


def append_until_full(log: Log, first: int) -> tuple[int, str]:
    """(next step to append, the error's text)."""
    for at in range(first, first + 20_000, 100):
        log.append(STREAM, rows(at, 100))
        try:
            log.commit()
        except StorageFull as error:
            return at + 100, str(error)
    raise AssertionError("the disk never filled")


def test_a_full_disk_undoes_the_commit_and_keeps_it_pending(disk: Path) -> None:
    ballast = disk / "ballast"
    ballast.write_bytes(b"x" * 2**19)
    with Log(disk / "log") as log:
        log.open_stream(STREAM, SCHEMA)
        at, text = append_until_full(log, 0)
        assert f"{disk}/log/online-00000001: no space for " in text
        assert "are free; free space on that disk, or trim acknowledged rows, then commit again" in text
        assert (log.synced(STREAM), log.appended(STREAM)) == (at - 101, at - 1)
        assert b"".join(c.data for c in log.read(STREAM, 0, 2**30)) == rows(0, at - 100).tobytes()
        with pytest.raises(StorageFull):
            log.commit()
        log.append(STREAM, rows(at, 100))  # still taken, into memory
        ballast.unlink()
        assert log.commit() == {STREAM: at + 99}
        at, _ = append_until_full(log, at + 100)
        log.append(STREAM, rows(at, 1))
    with Reader(disk / "log") as reader:
        assert reader.synced(STREAM) == at - 101
        assert b"".join(c.data for c in reader.read(STREAM, 0, 2**30)) == rows(0, at - 100).tobytes()
        seqs = [seq for seq, _ in reader.tail(0, 2**30)]
        assert seqs == list(range(1, len(seqs) + 1))


def test_a_disk_that_fills_between_two_classes_keeps_the_order(disk: Path) -> None:
    with Log(disk / "log") as log:
        log.open_stream(STREAM, SCHEMA)
        at, _ = append_until_full(log, 0)
        log.append(STREAM, rows(at, 50, klass=Klass.DEMONSTRATION))
        with pytest.raises(StorageFull):
            log.commit()
        assert log.synced(STREAM) == at - 101
        subprocess.run(["mount", "-o", "remount,size=4m", str(disk)], check=True)
        assert log.commit() == {STREAM: at + 49}
        held = SCHEMA.view(b"".join(c.data for c in log.read(STREAM, at - 100, 2**30)))
        assert held["klass"].tolist() == [Klass.ONLINE] * 100 + [Klass.DEMONSTRATION] * 50
    assert not list((disk / "log").glob(".*"))


def test_trimming_frees_a_full_disk(disk: Path) -> None:
    config = LogConfig(segment_bytes=128 * 1024, max_bytes=4 * 128 * 1024)
    with Log(disk / "log", LogConfig(segment_bytes=128 * 1024)) as log:
        log.open_stream(STREAM, SCHEMA)
        at, _ = append_until_full(log, 0)
    with Log(disk / "log", config) as log:
        assert log.trim({STREAM: log.synced(STREAM)}) > 0
        log.append(STREAM, rows(log.synced(STREAM) + 1, 100))
        log.commit()
        kept = log.first_kept(STREAM)
        assert (
            b"".join(c.data for c in log.read(STREAM, kept, 2**30))
            == rows(kept, log.synced(STREAM) + 1 - kept).tobytes()
        )
        assert at > kept


def test_no_log_can_be_made_on_a_full_disk(disk: Path) -> None:
    (disk / "log").mkdir()
    with (disk / "ballast").open("wb") as file:
        os.posix_fallocate(file.fileno(), 0, shutil.disk_usage(disk).free)
    with pytest.raises(StorageFull, match=r"no space for 4096 bytes, 0 are free"):
        Log(disk / "log")
    (disk / "ballast").unlink()
    Log(disk / "log").close()
    with Cursors(disk / "cursors") as cursors:
        cursors.put({"a": 1})
        with (disk / "ballast").open("wb") as file:
            os.posix_fallocate(file.fileno(), 0, shutil.disk_usage(disk).free)
        with pytest.raises(StorageFull):
            cursors.put({f"a long name of a stream {i}": i for i in range(2000)})
        assert cursors.all() == {"a": 1}


LIMITED = """
import resource, sys
from pathlib import Path
from tests.user_rl.log.recorded import SCHEMA, STREAM, rows
from user_rl.errors import StorageFull
from user_rl.log import Log
hard = resource.getrlimit(resource.RLIMIT_FSIZE)[1]
with Log(Path(sys.argv[1])) as log:
    log.open_stream(STREAM, SCHEMA)
    resource.setrlimit(resource.RLIMIT_FSIZE, (200_000, hard))
    at = 0
    try:
        while True:
            log.append(STREAM, rows(at, 50))
            at += 50
            log.commit()
    except StorageFull as error:
        assert "no space for" in str(error), error
    assert log.synced(STREAM) == at - 51
    resource.setrlimit(resource.RLIMIT_FSIZE, (hard, hard))
    assert log.commit() == {STREAM: at - 1}
    print(at)
"""


def test_a_limit_on_file_sizes_is_a_full_disk_too(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", LIMITED, str(tmp_path / "log")], stdout=subprocess.PIPE, text=True, check=True
    )
    count = int(done.stdout)
    assert count > 100
    with Reader(tmp_path / "log") as reader:
        assert b"".join(c.data for c in reader.read(STREAM, 0, 2**30)) == rows(0, count).tobytes()


def test_a_full_map_goes_on_in_a_new_segment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("user_rl.log.shelf.MAP_SLACK", -512 * 1024)  # maps smaller than their segments
    with Log(tmp_path, LogConfig(segment_bytes=400 * 1024)) as log:
        log.open_stream(STREAM, SCHEMA)
        for at in range(0, 3000, 50):
            log.append(STREAM, rows(at, 50))
            log.commit()
        assert b"".join(c.data for c in log.read(STREAM, 0, 2**30)) == rows(0, 3000).tobytes()
        assert len(list(tmp_path.glob("*/footer.json"))) > 1
    with Log(tmp_path, LogConfig(segment_bytes=280 * 1024)) as log:
        log.append(STREAM, rows(3000, 60, klass=Klass.DEMONSTRATION))
        with pytest.raises(StorageFull, match=r"its map has no room for \d+ bytes; make segment_bytes larger"):
            log.commit()


def test_another_failure_of_the_disk_is_not_called_full(tmp_path: Path) -> None:
    denied = r"the disk refused 5 bytes: .*Permission denied.*; look at the disk"
    with pytest.raises(StorageError, match=denied) as error, translated(tmp_path, 5):
        raise PermissionError(13, "Permission denied")
    assert not isinstance(error.value, StorageFull)
    with pytest.raises(StorageFull, match=r"no space for 5 bytes"), translated(tmp_path, 5):
        raise OSError(122, os.strerror(122))
    assert resource.getrlimit(resource.RLIMIT_FSIZE)[0] == resource.RLIM_INFINITY
    with pytest.raises(StorageError, match=r"LMDB refused 5 bytes") as error, translated(tmp_path, 5):
        raise lmdb.DiskError("Input/output error")
    assert not isinstance(error.value, StorageFull)
