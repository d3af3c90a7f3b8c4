"""user_rl.files: atomic writes and locks that name their holder, against real files and processes."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from user_rl.clock import FakeClock
from user_rl.errors import StorageBusy
from user_rl.files import FileLock, free_bytes, write_atomically


def test_a_write_replaces_the_whole_file_and_leaves_nothing_beside_it(tmp_path: Path) -> None:
    target = tmp_path / "deep" / "manifest.json"
    write_atomically(target, b"first, and longer")
    write_atomically(target, b"second", mode=0o600)
    assert target.read_bytes() == b"second"
    assert target.stat().st_mode & 0o777 == 0o600
    assert list(target.parent.iterdir()) == [target]


def test_a_write_that_fails_leaves_the_old_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    target = tmp_path / "manifest.json"
    write_atomically(target, b"old")

    def full(_fd: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space left"):
        write_atomically(target, b"new")
    assert target.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [target]


@pytest.mark.slow
def test_a_second_process_is_refused_with_the_holders_pid_and_admitted_after_its_death(tmp_path: Path) -> None:
    code = (
        "import sys, time; from pathlib import Path; from user_rl.files import FileLock\n"
        "lock = FileLock(Path(sys.argv[1])); print('held', flush=True); time.sleep(60)"
    )
    with subprocess.Popen([sys.executable, "-c", code, str(tmp_path / "lock")], stdout=subprocess.PIPE) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == b"held\n"
        clock = FakeClock()
        with pytest.raises(StorageBusy, match=f"^{tmp_path} is held by process {holder.pid}, allowed one; stop it"):
            FileLock(tmp_path / "lock", wait_s=0.2, clock=clock)
        assert clock.now_s() >= 0.2
        holder.kill()
        holder.wait()
        FileLock(tmp_path / "lock").release()


def test_a_lock_can_be_let_go_twice_and_taken_again(tmp_path: Path) -> None:
    lock = FileLock(tmp_path / "lock")
    assert (tmp_path / "lock").read_text() == f"{os.getpid()}\n"
    lock.release()
    lock.release()
    FileLock(tmp_path / "lock").release()


def test_what_a_disk_has_left_is_said_unless_there_is_no_disk(tmp_path: Path) -> None:
    assert (free_bytes(tmp_path) or 0) > 0
    assert free_bytes(tmp_path / "nothing") is None
