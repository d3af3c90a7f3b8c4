"""Backup of a log: one instant of it while its writer goes on, only what is new, whole through every death."""

import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.user_rl.log.recorded import SCHEMA, STREAM, mixed, rows
from tests.user_rl.log.test_full import disk as disk
from user_rl.errors import StorageBusy, StorageCorrupt, StorageError, StorageFull
from user_rl.log import Log, LogConfig, Reader, verify
from user_rl.log.backup import LEAP, keep_log, restore_log
from user_rl.log.dropped import dropped_files, dropped_spans, keep_footer
from user_rl.log.durable import drop_folder
from user_rl.log.lock import read_identity
from user_rl.log.retention import RetentionConfig
from user_rl.log.segment import Segment, hash_file
from user_rl.log.tally import Tally
from user_rl.log.vault import Index, Kept, Tell, Vault, read_index
from user_rl.rows import Klass

pytestmark = pytest.mark.slow
SMALL = LogConfig(segment_bytes=96 * 1024)
ROOT = Path(__file__).parents[3]
KILLED = """
import os, signal, sys
from pathlib import Path
from tests.user_rl.log.test_backup import back_up
log, vault = map(Path, sys.argv[1:3])
die_at = 0
while True:
    child = os.fork()
    if not child:
        left = [die_at]
        def tell(_: int) -> None:
            left[0] -= 1
            if left[0] < 0:
                os.kill(os.getpid(), signal.SIGKILL)
        back_up(log, vault, tell=tell)
        os._exit(0)
    status = os.waitpid(child, 0)[1]
    print(status, flush=True)
    sys.stdin.readline()
    if status == 0:
        break
    die_at += 3
"""
OBEDIENT = """
import sys
from pathlib import Path
from tests.user_rl.log.recorded import SCHEMA, STREAM, rows
from tests.user_rl.log.test_backup import SMALL
from user_rl.log import Log
with Log(Path(sys.argv[1]), SMALL) as log:
    at = log.open_stream(STREAM, SCHEMA) + 1
    for line in sys.stdin:
        log.append(STREAM, rows(at, 10, klass=int(line)))
        at += 10
        log.commit()
        print(at, flush=True)
"""
FREE = """
import sys
from pathlib import Path
from tests.user_rl.log.recorded import SCHEMA, STREAM, mixed
from user_rl.log import Log, LogConfig
with Log(Path(sys.argv[1]), LogConfig(segment_bytes=2**20)) as log:
    at = log.open_stream(STREAM, SCHEMA) + 1
    while True:
        log.append(STREAM, mixed(at, 7, length=20))
        at += 7
        log.commit()
        print(at - 1, flush=True)
"""


def back_up(path: Path, folder: Path, *, tell: Tell = lambda _: None) -> tuple[int, int]:
    """(files, bytes) that were new."""
    identity = read_identity(path)
    with Vault(folder, tell=tell) as vault:
        vault.check_same("run", identity.log_id)
        files = keep_log(path, vault)
        vault.commit(Index(run="run", log_id=identity.log_id, epoch=identity.epoch, made="now", files=files))
        return vault.copied_files, vault.copied_bytes


def restore(folder: Path, target: Path, *, fork: bool = False) -> Path:
    index = read_index(folder)
    assert index is not None
    with Vault(folder, create=False) as vault:
        restore_log(vault, index, target, fork=fork)
    return target / "log"


def stored(path: Path) -> bytes:
    with Reader(path) as reader:
        return b"".join(chunk.data for chunk in reader.read(STREAM, 0, 2**30))


def write(path: Path, first: int, last: int) -> None:
    with Log(path, SMALL) as log:
        log.open_stream(STREAM, SCHEMA)
        for at in range(first, last, 100):
            log.append(STREAM, mixed(at, 100, length=20))
            log.commit()


@pytest.fixture
def path(tmp_path: Path) -> Path:
    write(tmp_path / "log", 0, 1500)
    assert len(list((tmp_path / "log").glob("*/footer.json"))) >= 2
    return tmp_path / "log"


def test_a_restored_log_has_every_row_goes_on_and_is_at_an_epoch_of_its_own(path: Path, tmp_path: Path) -> None:
    back_up(path, tmp_path / "vault")
    copy = restore(tmp_path / "vault", tmp_path / "restored")
    assert stored(copy) == mixed(0, 1500, length=20).tobytes()
    assert verify(copy) == []
    before, after = read_identity(path), read_identity(copy)
    assert (after.log_id, after.epoch) == (before.log_id, before.epoch + LEAP)
    with Reader(path) as old, Reader(copy) as new:
        assert old.episodes() == new.episodes()
        assert [seq for seq, _ in old.tail(0, 2**30)] == [seq for seq, _ in new.tail(0, 2**30)]
    write(copy, 1500, 3000)
    assert stored(copy) == mixed(0, 3000, length=20).tobytes()
    assert verify(copy) == []
    fork = restore(tmp_path / "vault", tmp_path / "fork", fork=True)
    assert read_identity(fork).log_id != before.log_id


def test_a_second_backup_copies_what_is_new_alone(path: Path, tmp_path: Path) -> None:
    folder = tmp_path / "vault"
    back_up(path, folder)
    assert back_up(path, folder) == (0, 0)
    before = {file.name: file.stat().st_ino for file in (folder / "data").iterdir()}
    sealed = {file.parent.name for file in path.glob("*/footer.json")}
    write(path, 1500, 3000)
    files, size = back_up(path, folder)
    index = read_index(folder)
    assert index is not None
    named = {kept.xxh3_128: kept for kept in index.files}
    assert {file.name for file in (folder / "data").iterdir()} == named.keys()
    old = {name for name, kept in named.items() if kept.path.split("/")[1] in sealed}
    assert len(old) == 2 * len(sealed)
    assert all((folder / "data" / name).stat().st_ino == before[name] for name in old)
    assert (files, size) == (len(named) - len(old), sum(kept.size for n, kept in named.items() if n not in old))
    assert stored(restore(folder, tmp_path / "restored")) == mixed(0, 3000, length=20).tobytes()


def test_what_rotted_in_the_backup_is_copied_again_and_never_restored(path: Path, tmp_path: Path) -> None:
    folder = tmp_path / "vault"
    back_up(path, folder)
    index = read_index(folder)
    assert index is not None
    for n, kept in enumerate(sorted(index.files, key=lambda kept: kept.path)[-3:]):
        file = folder / "data" / kept.xxh3_128
        whole = file.read_bytes()
        file.write_bytes(whole[:-1] + bytes([whole[-1] ^ 1]))
        with pytest.raises(StorageCorrupt, match=rf"{kept.path} has \d+ bytes with hash .*; use another copy"):
            restore(folder, tmp_path / f"rotten{n}")
        assert back_up(path, folder) == (1, kept.size)
        assert file.read_bytes() == whole
        file.unlink()
        with pytest.raises(StorageCorrupt, match=rf"{kept.path} is missing; use another copy of this backup"):
            restore(folder, tmp_path / f"missing{n}")
        back_up(path, folder)
    (folder / "backup.json").write_bytes((folder / "backup.json").read_bytes().replace(b"log/online", b"../online", 1))
    with pytest.raises(StorageCorrupt, match=r"names '\.\./online.*', allowed are files inside a run"):
        read_index(folder)


def test_a_log_that_rotted_never_replaces_its_backup(path: Path, tmp_path: Path) -> None:
    folder = tmp_path / "vault"
    back_up(path, folder)
    sealed = min(path.glob("*/footer.json")).with_name("data.mdb")
    live = next(p / "data.mdb" for p in path.glob("*-*") if not (p / "footer.json").exists())
    index = (folder / "backup.json").read_bytes()
    step = next(e for e in (mixed(n, 1, length=20) for n in range(1499, 0, -1)) if e.tobytes() in live.read_bytes())
    for file, at, text in ((sealed, 30_000, "sealed were"), (live, live.read_bytes().find(step.tobytes()), "digest")):
        whole = file.read_bytes()
        if file is sealed:
            (folder / "data" / hash_file(file)[1]).unlink()  # else there is nothing to copy
        file.write_bytes(whole[:at] + bytes([whole[at] ^ 1]) + whole[at + 1 :])
        with pytest.raises(StorageCorrupt, match=rf"{file.parent}.*{text}.*what was backed up|backup before"):
            back_up(path, folder)
        file.write_bytes(whole)
        assert (folder / "backup.json").read_bytes() == index
        assert not list(folder.glob(".check-*"))
        back_up(path, folder)
    assert stored(restore(folder, tmp_path / "restored")) == mixed(0, 1500, length=20).tobytes()


def test_a_folder_holds_the_backup_of_one_run(path: Path, tmp_path: Path) -> None:
    back_up(path, tmp_path / "vault")
    write(tmp_path / "other", 0, 100)
    with pytest.raises(
        StorageError, match=r"holds the backup of run run \(log .{8}\), given was run \(log .{8}\); give"
    ):
        back_up(tmp_path / "other", tmp_path / "vault")
    with Vault(tmp_path / "vault"), pytest.raises(StorageBusy, match="is held by process"):
        back_up(path, tmp_path / "vault")
    with Log(path, SMALL), pytest.raises(StorageBusy, match="this process has it open already"):
        back_up(path, tmp_path / "vault")


def test_a_backup_says_what_retention_dropped_and_pins_nothing(tmp_path: Path) -> None:
    path, folder = tmp_path / "log", tmp_path / "vault"
    config = LogConfig(segment_bytes=96 * 1024, retention=RetentionConfig(keep_rows=300))
    write(path, 0, 1500)
    with Log(path, config) as log:
        log.pin("checkpoint", log.sealed()[-1:])
        while log.retain():
            pass
        gone, spans = log.gone(), dropped_spans(path)
    assert gone.segments == len(list((path / "dropped").iterdir())) > 1
    keep_footer(next(file.parent for file in path.glob("online-*/footer.json")))  # as of one that is about to leave
    back_up(path, folder)
    copy = restore(folder, tmp_path / "restored")
    assert (Tally(copy).count(), dropped_spans(copy)) == (gone, spans)
    assert sorted(file.name for file in (copy / "dropped").iterdir()) == [f.name for f in dropped_files(path)]
    assert not (copy / "pins").exists()


@contextmanager
def writer(program: list[str]) -> "Iterator[subprocess.Popen[str]]":
    command = [sys.executable, *program]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stdin=subprocess.PIPE, text=True, cwd=ROOT) as process:
        try:
            yield process
        finally:
            process.kill()


def test_backups_beside_a_writer_have_no_hole_and_all_that_was_synced_before(tmp_path: Path) -> None:
    path, folder = tmp_path / "log", tmp_path / "vault"
    with writer(["-c", FREE, str(path)]) as process:
        assert process.stdout is not None
        for n in range(4):
            for _ in range(200):
                synced = int(process.stdout.readline())
            back_up(path, folder)
            copy = restore(folder, tmp_path / f"restored{n}")
            data = stored(copy)
            count = len(data) // SCHEMA.row_bytes
            assert count > synced
            assert data == mixed(0, count, length=20).tobytes()
            with Reader(copy) as reader:
                assert reader.synced(STREAM) == count - 1


class _Growing(Vault):
    """Its writer commits into every class whenever something was taken in."""

    def __init__(self, root: Path, grow: Callable[[], object]) -> None:
        super().__init__(root)
        self._grow = grow

    def write(self, path: str, *args: Any, **kwargs: Any) -> Kept:  # noqa: ANN401  # whatever it takes
        kept = super().write(path, *args, **kwargs)
        if not path.endswith("footer.json"):
            self._grow()
        return kept


@contextmanager
def obedient(path: Path) -> Iterator[Callable[..., int]]:
    """A writer in its own process: what is called commits ten rows of each class given, and says what comes next."""
    with writer(["-c", OBEDIENT, str(path)]) as process:

        def commit(*classes: Klass) -> int:
            assert process.stdin is not None
            assert process.stdout is not None
            for klass in classes:
                process.stdin.write(f"{klass.value}\n")
                process.stdin.flush()
                at = int(process.stdout.readline())
            return at

        yield commit


def test_a_commit_between_two_looks_makes_it_look_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path, begin = tmp_path / "log", Segment.begin
    with obedient(path) as commit:
        at = commit(Klass.DEMONSTRATION, Klass.ONLINE)
        left = [Klass.DEMONSTRATION, Klass.ONLINE]

        @contextmanager
        def late(segment: Segment) -> Iterator[Any]:
            with begin(segment) as txn:
                while left:
                    commit(left.pop(0))
                yield txn

        monkeypatch.setattr(Segment, "begin", late)
        back_up(path, tmp_path / "vault")
        monkeypatch.undo()
    steps = SCHEMA.view(stored(restore(tmp_path / "vault", tmp_path / "restored")))["step"]
    assert steps.tolist() == list(range(at + 20))


def test_commits_while_it_copies_are_in_it_whole_or_not_at_all(tmp_path: Path) -> None:
    path = tmp_path / "log"
    with obedient(path) as commit:
        at = commit(Klass.ONLINE, Klass.DEMONSTRATION)
        for n in range(3):
            with _Growing(tmp_path / "vault", lambda: commit(Klass.DEMONSTRATION, Klass.ONLINE)) as vault:
                index = Index(
                    run="run", log_id=read_identity(path).log_id, epoch=1, made="", files=keep_log(path, vault)
                )
                vault.commit(index)
            steps = SCHEMA.view(stored(restore(tmp_path / "vault", tmp_path / f"restored{n}")))["step"]
            assert steps.tolist() == list(range(at))
            at = commit(Klass.ONLINE)


def test_a_segment_that_is_trimmed_while_it_is_copied_makes_it_begin_again(path: Path, tmp_path: Path) -> None:
    oldest, *_ = sorted(path.glob("online-*/footer.json"))
    left = [oldest.parent]

    def tell(_: int) -> None:
        if left:
            drop_folder(left.pop())

    back_up(path, tmp_path / "vault", tell=tell)
    index = read_index(tmp_path / "vault")
    assert index is not None
    assert left == []
    assert not [kept for kept in index.files if oldest.parent.name in kept.path]
    assert {kept.path.split("/")[1] for kept in index.files} == {p.name for p in path.glob("*-*")}


def test_a_backup_that_is_killed_anywhere_leaves_the_one_before_or_is_whole(path: Path, tmp_path: Path) -> None:
    folder, old = tmp_path / "vault", mixed(0, 1500, length=20).tobytes()
    back_up(path, folder)
    write(path, 1500, 2000)
    new, found, deaths = mixed(0, 2000, length=20).tobytes(), list[bytes](), 0
    indices = list[Index]()
    with writer(["-c", KILLED, str(path), str(folder)]) as process:
        assert process.stdout is not None
        assert process.stdin is not None
        while status := int(process.stdout.readline()):
            assert status == 9
            index = read_index(folder)
            assert index is not None
            if index not in indices:
                found.append(stored(restore(folder, tmp_path / f"restored{deaths}")))
                indices.append(index)
            for kept in index.files:
                assert hash_file(folder / "data" / kept.xxh3_128) == (kept.size, kept.xxh3_128)
            deaths += 1
            process.stdin.write("\n")
            process.stdin.flush()
    assert deaths > 4
    assert found == [old, new]
    assert stored(restore(folder, tmp_path / "last")) == new
    assert not list((folder / "data").glob("*.part"))


def test_a_full_disk_leaves_the_backup_before_and_says_what_to_do(disk: Path, tmp_path: Path) -> None:
    path = tmp_path / "log"
    write(path, 0, 1500)
    back_up(path, disk / "vault")
    write(path, 1500, 9000)
    with pytest.raises(
        StorageFull, match=r"/vault: no space, \d+ bytes are free; free some or give a folder on another"
    ):
        back_up(path, disk / "vault")
    assert not list((disk / "vault" / "data").glob("*.part"))
    assert stored(restore(disk / "vault", tmp_path / "restored")) == mixed(0, 1500, length=20).tobytes()
    with pytest.raises(StorageFull, match=r"no space, \d+ bytes are free; .*; what was backed up before is untouched"):
        restore(disk / "vault", disk / "restored")


def test_a_full_disk_is_told_for_what_is_still_written_too(disk: Path, tmp_path: Path) -> None:
    with Log(tmp_path / "log") as log:
        log.open_stream(STREAM, SCHEMA)
        log.append(STREAM, rows(0, 30_000))
        log.commit()
    with pytest.raises(StorageFull, match=r"/vault: no space, \d+ bytes are free; free some or give a folder"):
        back_up(tmp_path / "log", disk / "vault")
