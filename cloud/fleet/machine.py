"""A machine's accelerators as the inventory takes them; the fleet says its own machine's to itself, again and again.

The fleet looks for NVIDIA's only, by NVML and in a process of its own. Others need torch, which takes seconds to load:
whoever runs on their machine reports them.
"""

import socket
import threading
from collections.abc import Callable, Sequence
from dataclasses import replace

from hal.discovery import Probe, discover
from hal.resources import Condition, Resource, ResourceKind
from user_rl.fleet import AcceleratorCard, Health

LOOKS = 3  # in one time to live
DEADLINE_S = 3.0
_HEALTH: dict[Condition, Health] = {
    Condition.OK: "ok", Condition.DEGRADED: "degraded", Condition.BROKEN: "broken", Condition.UNKNOWN: "degraded",
}  # fmt: skip


def look() -> list[Resource]:
    """The NVIDIA devices and slices of this machine; none when there is no driver."""
    probes = [Probe(name="nvidia", function="hal.probes.nvidia:probe")]
    return [resource for finding in discover(probes, deadline_s=DEADLINE_S) for resource in finding.resources]


def report_own(
    report: Callable[[Sequence[AcceleratorCard]], float], ended: threading.Event, *, site: str,
    look: Callable[[], list[Resource]] = look,
) -> None:  # fmt: skip
    """Looks and reports until `ended`; a machine where the first look finds nothing is not looked at again."""
    while not ended.is_set():
        cards = accelerator_cards(look(), node=socket.gethostname(), site=site)
        if not cards or ended.is_set():
            return
        ended.wait(report(cards) / LOOKS)


def accelerator_cards(found: Sequence[Resource], *, node: str, site: str) -> list[AcceleratorCard]:
    """The accelerators among what was found on a machine. One that cannot say which it is gets the machine's name."""
    return [_card(r, node, site) for r in found if r.kind is ResourceKind.ACCELERATOR]


def _card(found: Resource, node: str, site: str) -> AcceleratorCard:
    device = found.capabilities.accelerator
    card = AcceleratorCard(
        id=found.id if device else f"{node}:{found.id}", node=node, site=site, model=found.model,
        address=found.address, health=_HEALTH[found.health.condition], reason=found.health.reason,
    )  # fmt: skip
    if device is None:
        return card
    return replace(
        card, memory_bytes=device.memory_bytes, multiprocessors=device.multiprocessors or 0,
        utilisation=device.utilisation or 0.0, mig_profile=device.mig_profile, parent=device.parent,
        slices=device.slices,
    )  # fmt: skip
