"""The driver's real library is not here, so pynvml loads one of ours by the same name, asked as NVIDIA's is."""

import shutil
import subprocess
from pathlib import Path

import pytest

from hal.discovery import Finding, Probe, discover
from hal.resources import Accelerator, Condition, ResourceKind

pytest.importorskip("pynvml")
pytestmark = pytest.mark.slow  # processes, a compiler

PROBE = Probe(name="nvidia", function="hal.probes.nvidia:probe")
SOURCE = Path(__file__).parent / "nvml.c"


@pytest.fixture(scope="module")
def library(tmp_path_factory: pytest.TempPathFactory) -> Path:
    compiler = shutil.which("cc")
    if compiler is None:
        pytest.skip("no C compiler for the emulated driver")
    folder = tmp_path_factory.mktemp("nvml")
    argv = [compiler, "-O1", "-Wall", "-Werror", "-shared", "-fPIC", "-o", folder / "libnvidia-ml.so.1", SOURCE]
    subprocess.run(argv, check=True)
    return folder


def found(library: Path, machine: str, monkeypatch: pytest.MonkeyPatch, *, deadline_s: float = 60.0) -> Finding:
    monkeypatch.setenv("LD_LIBRARY_PATH", str(library))
    monkeypatch.setenv("NVML_MACHINE", machine)
    return discover([PROBE], deadline_s=deadline_s)[0]


def accelerators(finding: Finding) -> list[Accelerator]:
    assert finding.reason == ""
    assert all(r.kind is ResourceKind.ACCELERATOR for r in finding.resources)
    chosen = [r.capabilities.accelerator for r in finding.resources]
    return [a for a in chosen if a is not None]


def test_a_gpu_is_told_with_memory_multiprocessors_and_load(library: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    finding = found(library, "h100", monkeypatch)
    h100, future = accelerators(finding)
    resource = finding.resources[0]
    assert (resource.id, resource.model, resource.address) == ("GPU-aaaa", "NVIDIA H100 80GB HBM3", "cuda:0")
    assert resource.health.condition is Condition.OK
    assert h100 == Accelerator(
        vendor="nvidia", memory_bytes=81559 * 2**20, free_bytes=80535 * 2**20, multiprocessors=132, utilisation=0.37
    )
    assert (future.multiprocessors, future.utilisation) == (None, 0.37)  # a generation that the table does not know


def test_each_slice_of_a_gpu_is_a_resource_of_its_own(library: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    finding = found(library, "a100-mig", monkeypatch)
    whole, small, large, plain = accelerators(finding)
    assert [r.id for r in finding.resources] == ["GPU-bbbb", "MIG-1111", "MIG-3333", "GPU-cccc"]
    assert [r.address for r in finding.resources] == ["cuda:0", "cuda:0", "cuda:0", "cuda:1"]
    assert (whole.slices, whole.multiprocessors, whole.utilisation) == (("MIG-1111", "MIG-3333"), 108, None)
    assert (small.mig_profile, small.parent, small.multiprocessors) == ("1g.5gb", "GPU-bbbb", 14)
    assert (large.mig_profile, large.memory_bytes, large.multiprocessors) == ("3g.20gb", 19968 * 2**20, 42)
    assert (plain.slices, plain.mig_profile, plain.parent) == ((), "", "")


def test_a_gpu_that_is_lost_is_broken_and_the_other_is_told(library: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    lost, well = found(library, "lost", monkeypatch).resources
    assert (lost.id, lost.health.condition) == ("nvidia-0", Condition.BROKEN)
    assert lost.health.reason == "NVML says: GPU is lost; see nvidia-smi and the kernel's log"
    assert (well.id, well.health.condition) == ("GPU-aaaa", Condition.OK)


def test_a_driver_that_is_not_loaded_is_a_reason(library: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    finding = found(library, "unloaded", monkeypatch)
    assert finding.resources == ()
    assert finding.reason == "the NVIDIA driver is installed but not loaded; modprobe nvidia, or restart"


def test_a_driver_that_hangs_costs_its_deadline(library: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    finding = found(library, "hang", monkeypatch, deadline_s=1.0)
    assert (finding.resources, finding.reason) == ((), "no answer within 1 s")
    assert 1.0 <= finding.took_s < 10.0


def test_a_machine_without_a_driver_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    if shutil.which("nvidia-smi"):
        pytest.skip("there is a driver")
    [finding] = discover([PROBE], deadline_s=60.0)
    assert finding.reason == "no NVIDIA driver on this machine (libnvidia-ml.so.1 is not there)"
