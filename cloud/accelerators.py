"""Accelerators of this node that torch can use and NVML does not know: AMD, Intel, Apple and whatever registers itself.

NVIDIA's are `hal.probes.nvidia`'s, with their slices and multiprocessors. Loading torch takes seconds: this runs in the
node's agent, never at the edge.
"""

from types import ModuleType

import torch

from hal.resources import Accelerator, Capabilities, Condition, Health, Resource, ResourceKind


def torch_accelerators(node: str, *, library: ModuleType = torch) -> list[Resource]:
    """Every device of torch's current accelerator on the node named `node`, unless it is NVIDIA's."""
    if not library.accelerator.is_available():
        return []
    kind = library.accelerator.current_accelerator().type
    if kind == "cuda" and library.version.hip is None:
        return []
    return [_resource(library, node, kind, index) for index in range(library.accelerator.device_count())]


def _resource(library: ModuleType, node: str, kind: str, index: int) -> Resource:
    module = library.get_device_module(kind)
    properties = module.get_device_properties(index) if hasattr(module, "get_device_properties") else None
    free_bytes, total_bytes = _memory(module, index)
    accelerator = Accelerator(
        vendor={"cuda": "amd", "xpu": "intel", "mps": "apple"}.get(kind, kind),
        memory_bytes=total_bytes or int(getattr(properties, "total_memory", 0)),
        free_bytes=free_bytes,
        multiprocessors=getattr(properties, "multi_processor_count", None) or getattr(properties, "gpu_eu_count", None),
    )
    return Resource(
        id=str(getattr(properties, "uuid", "")) or f"{node}-{kind}-{index}", kind=ResourceKind.ACCELERATOR,
        model=str(getattr(properties, "name", kind)), address=f"{kind}:{index}",
        capabilities=Capabilities(accelerator=accelerator), health=Health(condition=Condition.OK),
    )  # fmt: skip


def _memory(module: ModuleType, index: int) -> tuple[int | None, int]:
    """Free and total bytes, as far as the backend says."""
    if hasattr(module, "mem_get_info"):
        free_bytes, total_bytes = module.mem_get_info(index)
        return int(free_bytes), int(total_bytes)
    if hasattr(module, "recommended_max_memory"):  # Apple: shared with the processor
        total_bytes = int(module.recommended_max_memory())
        return total_bytes - int(module.driver_allocated_memory()), total_bytes
    return None, 0
