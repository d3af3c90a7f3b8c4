"""Nodes: which accelerators the machines of the run's Ray cluster have, told to the fleet for as long as the run lives.

Each node with GPUs is looked at by a task on it: NVML for NVIDIA's, torch for others. What Ray counts and neither of
them sees (a kind that they do not know) is told by its number, for Ray gives it out all the same.
"""

import logging
from collections.abc import Sequence
from typing import Any

import ray
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from cloud.fleet.machine import accelerator_cards, look
from hal.resources import Resource
from user_rl.clock import Clock
from user_rl.errors import UserRlError
from user_rl.fleet import AcceleratorCard, FleetClient

log = logging.getLogger(__name__)

LOOK_EVERY_S = 10.0  # a third of what the fleet gives a report to live


class Nodes:
    """Looks and tells. All calls from one thread; none of them waits for a node."""

    def __init__(self, client: FleetClient, clock: Clock, *, site: str = "") -> None:
        """`site`: the network neighbourhood of the cluster."""
        self._client, self._clock, self._site = client, clock, site
        self._looks: list[Any] = []  # Ray's references to what nodes will answer
        self._next_s = clock.now_s()

    def tick(self) -> None:
        """Call it often: starts looks when they are due, and tells what has been answered."""
        if self._clock.now_s() >= self._next_s:
            self._next_s = self._clock.now_s() + LOOK_EVERY_S
            self._looks += [_look_at(node, self._site) for node in ray.nodes() if node["Alive"] and _gpus(node)]
        if self._looks:
            answered, self._looks = ray.wait(self._looks, num_returns=len(self._looks), timeout=0)
            for look in answered:
                self._tell(look)

    def _tell(self, look: Any) -> None:  # noqa: ANN401  # Ray's reference
        try:
            self._client.report_accelerators(ray.get(look))
        except (ray.exceptions.RayError, UserRlError) as error:  # the node is gone, or the fleet: it is told again
            log.debug("accelerators: %s", error)


def cards_on(node: str, site: str, gpus: int, model: str, found: Sequence[Resource]) -> list[AcceleratorCard]:
    """The cards of a node of which Ray counts `gpus`, of `model`, and on which `found` was seen."""
    cards = accelerator_cards(found, node=node, site=site)
    whole = sum(not card.parent for card in cards)
    counted = range(whole, gpus)
    return cards + [
        AcceleratorCard(id=f"gpu:{node}:{i}", node=node, site=site, model=model, address=str(i)) for i in counted
    ]


def _look_at(node: dict[str, Any], site: str) -> Any:  # noqa: ANN401
    resources = node["Resources"]
    model = next((name.partition(":")[2] for name in resources if name.startswith("accelerator_type:")), "GPU")
    strategy = NodeAffinitySchedulingStrategy(node["NodeID"], soft=False)
    options = {"num_cpus": 0, "scheduling_strategy": strategy, "max_retries": 0}
    return ray.remote(_look_here).options(**options).remote(node["NodeID"], site, _gpus(node), model)


def _look_here(node: str, site: str, gpus: int, model: str) -> list[AcceleratorCard]:
    """What runs on the node."""
    from cloud.accelerators import torch_accelerators

    return cards_on(node, site, gpus, model, look() or torch_accelerators(node))


def _gpus(node: dict[str, Any]) -> int:
    return int(node["Resources"].get("GPU", 0))
