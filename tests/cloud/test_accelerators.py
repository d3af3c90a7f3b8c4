"""torch's accelerators. None is here, so torch's surface is stood in for with what each backend offers of it."""

from types import ModuleType, SimpleNamespace

import pytest
import torch

from cloud.accelerators import torch_accelerators
from hal.resources import Condition

GIB = 2**30


def backend(kind: str, module: SimpleNamespace, *, hip: str | None = None, count: int = 1) -> ModuleType:
    library = ModuleType("torch")
    accelerator = SimpleNamespace(
        is_available=lambda: True, device_count=lambda: count, current_accelerator=lambda: torch.device(kind)
    )
    vars(library).update(
        accelerator=accelerator,
        version=SimpleNamespace(hip=hip),
        get_device_module=lambda wanted: {kind: module}[wanted],
    )
    return library


def properties(**known: object) -> SimpleNamespace:
    return SimpleNamespace(
        get_device_properties=lambda index: SimpleNamespace(**known), mem_get_info=lambda i: (GIB, 4 * GIB)
    )


def test_a_machine_without_an_accelerator_has_none() -> None:
    if torch.accelerator.is_available():
        pytest.skip("there is one")
    assert torch_accelerators("node") == []


def test_nvidias_are_left_to_nvml() -> None:
    assert torch_accelerators("node", library=backend("cuda", properties(name="H100"))) == []


def test_amds_have_their_own_identity_memory_and_units() -> None:
    module = properties(name="MI300X", uuid="abc", multi_processor_count=304)
    first, second = torch_accelerators("node", library=backend("cuda", module, hip="6.4", count=2))
    accelerator = first.capabilities.accelerator
    assert accelerator is not None
    assert (first.id, first.model, first.address, second.address) == ("abc", "MI300X", "cuda:0", "cuda:1")
    assert (accelerator.vendor, accelerator.memory_bytes, accelerator.free_bytes) == ("amd", 4 * GIB, GIB)
    assert (accelerator.multiprocessors, first.health.condition) == (304, Condition.OK)


def test_apples_share_the_machines_memory_and_are_named_by_their_node() -> None:
    module = SimpleNamespace(recommended_max_memory=lambda: 16 * GIB, driver_allocated_memory=lambda: 2 * GIB)
    [found] = torch_accelerators("mac", library=backend("mps", module))
    accelerator = found.capabilities.accelerator
    assert accelerator is not None
    assert (found.id, found.model, accelerator.vendor) == ("mac-mps-0", "mps", "apple")
    assert (accelerator.memory_bytes, accelerator.free_bytes) == (16 * GIB, 14 * GIB)
    assert accelerator.multiprocessors is None


def test_a_backend_that_says_nothing_is_listed_all_the_same() -> None:
    [found] = torch_accelerators("node", library=backend("privateuseone", SimpleNamespace()))
    accelerator = found.capabilities.accelerator
    assert accelerator is not None
    assert (found.id, accelerator.vendor, accelerator.memory_bytes) == ("node-privateuseone-0", "privateuseone", 0)
    assert accelerator.free_bytes is None
