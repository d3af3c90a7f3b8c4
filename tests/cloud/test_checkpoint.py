import hashlib
import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest
import torch

from cloud.checkpoint import Checkpoints
from cloud.durable import Disk
from cloud.limiter import LimiterState
from cloud.manifest import RunState
from cloud.testing import RecordingDisk
from user_rl.errors import StorageCorrupt, StorageError, StorageFull


def state(updates: int) -> RunState:
    return RunState(
        updates=updates, draws=updates, log_seq=3 * updates, limiter=LimiterState(base_rows=1.0, base_updates=2.0),
        weight_number=updates, trained_s=0.5, wall_s=1.5, incarnation="one", seed=7, schema="ab" * 16,
    )  # fmt: skip


def algorithm(updates: int) -> dict[str, torch.Tensor]:
    return {"weight": torch.full((4, 3), float(updates)), "generator.state": torch.Generator().get_state()}


def save(run: Path, *updates: int, disk: Disk | None = None) -> None:
    checkpoints = Checkpoints(run, disk=disk)
    for n in updates:
        assert checkpoints.save(state(n), algorithm(n))
        checkpoints.wait()
    checkpoints.close()


def test_a_fresh_run_has_nothing_to_load(tmp_path: Path) -> None:
    assert Checkpoints(tmp_path).load() is None


def test_what_is_loaded_is_the_newest_that_was_saved(tmp_path: Path) -> None:
    save(tmp_path, 1, 2, 3)
    found = Checkpoints(tmp_path).load()
    assert found is not None
    assert found[0] == state(3)
    assert all(torch.equal(found[1][name], value) for name, value in algorithm(3).items())


def test_two_checkpoints_are_kept(tmp_path: Path) -> None:
    save(tmp_path, 1, 2, 3)
    assert sorted(p.name for p in (tmp_path / "checkpoints").iterdir()) == ["00000002", "00000003"]


def test_a_second_life_never_writes_over_a_first_ones_checkpoint(tmp_path: Path) -> None:
    save(tmp_path, 1)
    (tmp_path / "checkpoints" / "00000007").mkdir()  # whole, but its manifest was never written
    (tmp_path / "checkpoints" / "00000008.tmp").mkdir()
    save(tmp_path, 2)
    manifest = Checkpoints(tmp_path).manifest()
    assert manifest is not None
    assert manifest.checkpoint == 8
    assert not list((tmp_path / "checkpoints").glob("*.tmp"))


def test_a_changed_state_and_a_changed_manifest_are_found(tmp_path: Path) -> None:
    save(tmp_path, 1)
    path = tmp_path / "checkpoints" / "00000001" / "algorithm.safetensors"
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(StorageCorrupt, match=r"algorithm\.safetensors: \d+ bytes, allowed the \d+ that manifest"):
        Checkpoints(tmp_path).load()
    manifest = tmp_path / "manifest.json"
    whole = manifest.read_bytes()
    manifest.write_bytes(whole.replace(b'"format": 1', b'"format": 9'))
    with pytest.raises(StorageCorrupt, match=r"format 9, allowed 1; use the release that wrote it"):
        Checkpoints(tmp_path).load()
    manifest.write_bytes(whole[:40])
    with pytest.raises(StorageCorrupt, match=r"manifest\.json cannot be read: .*; restore it"):
        Checkpoints(tmp_path).load()


def test_a_state_that_is_no_safetensors_file_is_told_and_not_run(tmp_path: Path) -> None:
    save(tmp_path, 1)
    path = tmp_path / "checkpoints" / "00000001" / "algorithm.safetensors"
    old = hashlib.sha256(path.read_bytes()).hexdigest().encode()
    path.write_bytes(b"cos\nmkdir\n(S'owned'\ntR.")  # a pickle
    manifest = tmp_path / "manifest.json"
    new = hashlib.sha256(path.read_bytes()).hexdigest().encode()
    manifest.write_bytes(manifest.read_bytes().replace(old, new))
    with pytest.raises(StorageCorrupt, match=r"algorithm\.safetensors cannot be read: .*; restore the run from a copy"):
        Checkpoints(tmp_path).load()


def test_whenever_the_power_fails_the_run_is_readable_and_never_older_than_promised(tmp_path: Path) -> None:
    run = tmp_path / "run"
    (run / "checkpoints").mkdir(parents=True)
    disk = RecordingDisk(run)
    checkpoints = Checkpoints(run, disk=disk)
    promised: list[int] = []
    for n in range(1, 5):
        checkpoints.save(state(n), algorithm(n))
        checkpoints.wait()
        promised += [n - 1] * (disk.worlds - len(promised))
    checkpoints.close()
    assert disk.worlds > 60
    for world, least in enumerate(promised):
        disk.restore(world, tmp_path / f"world{world}")
        found = Checkpoints(tmp_path / f"world{world}").load()
        assert (found[0].updates if found else 0) >= least
        if found:
            assert torch.equal(found[1]["weight"], algorithm(found[0].updates)["weight"])


class _HeldDisk(Disk):
    def __init__(self) -> None:
        self.go = threading.Event()

    def write(self, path: Path, data: bytes) -> None:
        assert self.go.wait(60)
        super().write(path, data)


def test_saving_does_not_wait_for_the_disk_and_one_at_a_time_is_written(tmp_path: Path) -> None:
    disk = _HeldDisk()
    checkpoints = Checkpoints(tmp_path, disk=disk)
    assert checkpoints.save(state(1), algorithm(1))
    assert not checkpoints.save(state(2), algorithm(2))
    disk.go.set()
    checkpoints.wait()
    assert checkpoints.save(state(3), algorithm(3))
    checkpoints.close()
    found = Checkpoints(tmp_path).load()
    assert found is not None
    assert found[0].updates == 3


class _FullDisk(Disk):
    full = True

    def write(self, path: Path, data: bytes) -> None:
        if self.full:
            raise OSError(28, "No space left on device")
        super().write(path, data)


def test_a_full_disk_is_told_and_the_next_save_succeeds_when_there_is_space(tmp_path: Path) -> None:
    disk = _FullDisk()
    save(tmp_path, 1)
    checkpoints = Checkpoints(tmp_path, disk=disk)
    checkpoints.save(state(2), algorithm(2))
    with pytest.raises(StorageFull, match=r"00000002: no space for \d+ bytes; free some, what was there"):
        checkpoints.wait()
    found = Checkpoints(tmp_path).load()
    assert found is not None
    assert found[0].updates == 1
    disk.full = False
    assert checkpoints.save(state(3), algorithm(3))
    checkpoints.close()
    assert Checkpoints(tmp_path).manifest() is not None


def test_another_fault_of_the_disk_is_told_by_its_name(tmp_path: Path) -> None:
    class BrokenDisk(Disk):
        def rename(self, source: Path, target: Path) -> None:
            raise OSError(5, "Input/output error")

    checkpoints = Checkpoints(tmp_path, disk=BrokenDisk())
    checkpoints.save(state(1), algorithm(1))
    with pytest.raises(StorageError, match=r"00000001: Input/output error writing \d+ bytes; mend the disk"):
        checkpoints.wait()
    checkpoints.close()
    assert not list((tmp_path / "checkpoints").iterdir())


WRITER = """
import itertools, sys
from pathlib import Path
sys.path.insert(0, sys.argv[2])
from test_checkpoint import algorithm, state
from cloud.checkpoint import Checkpoints
checkpoints = Checkpoints(Path(sys.argv[1]))
found = checkpoints.load()
for n in itertools.count(found[0].updates + 1 if found else 1):
    checkpoints.save(state(n), algorithm(n))
    checkpoints.wait()
    print(n, flush=True)
"""


@pytest.mark.slow
def test_a_writer_that_is_killed_again_and_again_goes_on_from_what_it_promised(tmp_path: Path) -> None:
    promised = 0
    for lives in range(3):
        argv = [sys.executable, "-c", WRITER, str(tmp_path), str(Path(__file__).parent)]
        with subprocess.Popen(argv, stdout=subprocess.PIPE, text=True) as writer:
            assert writer.stdout is not None
            for _ in range(3 + 4 * lives):
                promised = int(writer.stdout.readline())
            writer.send_signal(signal.SIGKILL)
        found = Checkpoints(tmp_path).load()
        assert found is not None
        assert found[0].updates >= promised
        assert torch.equal(found[1]["weight"], algorithm(found[0].updates)["weight"])
