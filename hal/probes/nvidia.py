"""NVIDIA GPUs and their MIG slices, from the driver's own library (NVML). Needs the extra `nvidia` and a driver.

Source: NVML's API reference. NVML counts the multiprocessors of slices only; those of a whole GPU are its cores over
the cores per multiprocessor of its compute capability (CUDA programming guide, "Compute Capabilities").
"""

from collections.abc import Callable, Iterator
from types import ModuleType
from typing import Any

import msgspec

from hal.resources import Accelerator, Capabilities, Condition, Health, Resource, ResourceKind
from user_rl.errors import HardwareError

_CORES_PER_SM = {
    (5, 0): 128, (5, 2): 128, (5, 3): 128, (6, 0): 64, (6, 1): 128, (6, 2): 128, (7, 0): 64, (7, 2): 64, (7, 5): 64,
    (8, 0): 64, (8, 6): 128, (8, 7): 128, (8, 9): 128, (9, 0): 128, (10, 0): 128, (10, 3): 128, (12, 0): 128,
    (12, 1): 128,
}  # fmt: skip
Handle = Any  # NVML's


def probe(argument: object) -> Iterator[Any]:
    """Every GPU and slice, as plain data; raises HardwareError with the reason when nothing can be said."""
    try:
        import pynvml as nvml
    except ImportError as error:
        raise HardwareError("nvidia-ml-py is not installed; pip install 'user-rl[nvidia]'") from error
    try:
        nvml.nvmlInit()
        for index in range(nvml.nvmlDeviceGetCount()):
            yield from (msgspec.to_builtins(resource) for resource in _gpu(nvml, index))
    except nvml.NVMLError_LibraryNotFound as error:
        raise HardwareError("no NVIDIA driver on this machine (libnvidia-ml.so.1 is not there)") from error
    except nvml.NVMLError_DriverNotLoaded as error:
        raise HardwareError("the NVIDIA driver is installed but not loaded; modprobe nvidia, or restart") from error
    except nvml.NVMLError as error:
        raise HardwareError(f"NVML says: {error}; see what nvidia-smi says") from error


def _gpu(nvml: ModuleType, index: int) -> list[Resource]:
    """A GPU and its slices. One that does not answer is broken; the others are told all the same."""
    try:
        handle = nvml.nvmlDeviceGetHandleByIndex(index)
        id, model, address = nvml.nvmlDeviceGetUUID(handle), nvml.nvmlDeviceGetName(handle), f"cuda:{index}"
        slices = [_slice(nvml, part, id, address) for part in _parts(nvml, handle)]
        accelerator = Accelerator(
            vendor="nvidia", **_memory(nvml, handle), multiprocessors=_multiprocessors(nvml, handle),
            utilisation=_utilisation(nvml, handle), slices=tuple(part.id for part in slices),
        )  # fmt: skip
    except nvml.NVMLError as error:
        reason = f"NVML says: {error}; see nvidia-smi and the kernel's log"
        health = Health(condition=Condition.BROKEN, reason=reason)
        return [Resource(id=f"nvidia-{index}", kind=ResourceKind.ACCELERATOR, model="", health=health)]
    return [_resource(id, model, address, accelerator), *slices]


def _slice(nvml: ModuleType, handle: Handle, parent: str, address: str) -> Resource:
    id, name = nvml.nvmlDeviceGetUUID(handle), nvml.nvmlDeviceGetName(handle)
    attributes = _known(nvml, nvml.nvmlDeviceGetAttributes, handle)
    accelerator = Accelerator(
        vendor="nvidia", **_memory(nvml, handle), mig_profile=name.rpartition("MIG ")[2], parent=parent,
        multiprocessors=None if attributes is None else attributes.multiprocessorCount,
    )  # fmt: skip
    return _resource(id, name, address, accelerator)


def _resource(id: str, model: str, address: str, accelerator: Accelerator) -> Resource:
    return Resource(
        id=id, kind=ResourceKind.ACCELERATOR, model=model, address=address,
        capabilities=Capabilities(accelerator=accelerator), health=Health(condition=Condition.OK),
    )  # fmt: skip


def _parts(nvml: ModuleType, handle: Handle) -> list[Handle]:
    mode = _known(nvml, nvml.nvmlDeviceGetMigMode, handle)  # now, after the next reset; None: a GPU without MIG
    if mode is None or mode[0] != nvml.NVML_DEVICE_MIG_ENABLE:
        return []
    places = range(nvml.nvmlDeviceGetMaxMigDeviceCount(handle))
    found = [_known(nvml, nvml.nvmlDeviceGetMigDeviceHandleByIndex, handle, place) for place in places]
    return [part for part in found if part is not None]


def _memory(nvml: ModuleType, handle: Handle) -> dict[str, int]:
    memory = nvml.nvmlDeviceGetMemoryInfo(handle)
    return {"memory_bytes": memory.total, "free_bytes": memory.free}


def _utilisation(nvml: ModuleType, handle: Handle) -> float | None:
    rates = _known(nvml, nvml.nvmlDeviceGetUtilizationRates, handle)
    return None if rates is None else rates.gpu / 100


def _multiprocessors(nvml: ModuleType, handle: Handle) -> int | None:
    cores = _known(nvml, nvml.nvmlDeviceGetNumGpuCores, handle)
    capability = _known(nvml, nvml.nvmlDeviceGetCudaComputeCapability, handle)
    per = None if capability is None else _CORES_PER_SM.get(tuple(capability))
    return None if cores is None or per is None else cores // per


def _known(nvml: ModuleType, ask: Callable[..., Any], *of: Any) -> Any:  # noqa: ANN401
    """The answer; None where this device, driver or place has none."""
    try:
        return ask(*of)
    except (nvml.NVMLError_NotSupported, nvml.NVMLError_FunctionNotFound, nvml.NVMLError_NotFound):
        return None
