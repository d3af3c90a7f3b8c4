"""Gang: the accelerators that the fleet granted a run, held in Ray as one placement group on just their nodes.

The fleet decides which node, so that nothing is leased twice; Ray then gives the devices of that node to the actor. A
group that Ray cannot make in time (a node has died since, or somebody uses its devices past the fleet) is given up.
"""

from collections import Counter
from collections.abc import Sequence
from typing import Any

from user_rl.errors import Unreachable
from user_rl.fleet import AcceleratorCard

NODE_LABEL = "ray.io/node-id"
MADE_S = 20.0


class Gang:
    """One placement group, made when this returns; raises Unreachable when Ray does not make it within `made_s`."""

    def __init__(self, cards: Sequence[AcceleratorCard], *, made_s: float = MADE_S) -> None:
        import ray
        from ray.util.placement_group import placement_group

        nodes = Counter(_node_id(card.node) for card in cards)
        self.size = len(cards)
        self._group = placement_group(
            [{"GPU": float(count)} for count in nodes.values()],
            strategy="PACK",
            bundle_label_selector=[{NODE_LABEL: node} for node in nodes],
        )
        ready, _ = ray.wait([self._group.ready()], timeout=made_s)
        if not ready:
            self.close()
            raise Unreachable(
                f"Ray does not give {self.size} GPUs on {', '.join(nodes)} within {made_s:g} s; see that these nodes "
                "live and that nobody uses them past the fleet, then again"
            )

    def options(self) -> dict[str, Any]:
        """Where an actor runs that has all of them: `.options(**gang.options())`."""
        from ray.util.scheduling_strategies import PlacementGroupSchedulingStrategy

        strategy = PlacementGroupSchedulingStrategy(self._group, placement_group_bundle_index=0)
        return {"num_gpus": self.size, "scheduling_strategy": strategy}

    def close(self) -> None:
        """Gives them back to Ray."""
        from ray.util.placement_group import remove_placement_group

        remove_placement_group(self._group)


def _node_id(node: str) -> str:
    """Ray's id of a node that is told by that or, as a fleet tells its own machine, by its host's name.

    Of several of one name it is one that has GPUs.
    """
    import ray

    with_gpus = [n for n in ray.nodes() if n["Alive"] and n["Resources"].get("GPU")]
    hosts = {n["NodeManagerHostname"]: n["NodeID"] for n in with_gpus}
    return str(hosts.get(node, node))
