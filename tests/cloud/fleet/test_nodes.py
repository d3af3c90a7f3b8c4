"""What a cluster's machines have, as the fleet is told: arithmetic, and a real cluster."""

from collections.abc import Iterator
from pathlib import Path

import pytest
import ray
from ray.cluster_utils import Cluster

from cloud.nodes import LOOK_EVERY_S, Nodes, cards_on
from hal.resources import Accelerator, Capabilities, Condition, Health, Resource, ResourceKind
from tests.cloud.fleet.conftest import Enrol
from tests.cluster import small_cluster
from tests.edge.plant import wait_for
from user_rl.clock import FakeClock


def device(id: str, *, parent: str = "", condition: Condition = Condition.OK, reason: str = "") -> Resource:
    has = Accelerator(vendor="nvidia", memory_bytes=2**34, multiprocessors=132, utilisation=0.5, parent=parent)
    return Resource(
        id=id, kind=ResourceKind.ACCELERATOR, model="H100", address="cuda:0",
        capabilities=Capabilities(accelerator=has), health=Health(condition=condition, reason=reason),
    )  # fmt: skip


def test_what_was_seen_is_told_with_all_that_is_known_of_it() -> None:
    (card,) = cards_on("n", "lab", 1, "GPU", [device("GPU-1")])
    assert (card.id, card.node, card.site, card.model, card.address) == ("GPU-1", "n", "lab", "H100", "cuda:0")
    assert (card.memory_bytes, card.multiprocessors, card.utilisation, card.health) == (2**34, 132, 0.5, "ok")


def test_what_ray_counts_and_nobody_sees_is_told_by_its_number() -> None:
    cards = cards_on("n", "", 3, "TPU", [device("GPU-1"), device("MIG-1", parent="GPU-1")])
    assert [card.id for card in cards] == ["GPU-1", "MIG-1", "gpu:n:1", "gpu:n:2"]
    assert {card.model for card in cards[2:]} == {"TPU"}


@pytest.mark.parametrize(
    ("condition", "health"),
    [(Condition.BROKEN, "broken"), (Condition.DEGRADED, "degraded"), (Condition.UNKNOWN, "degraded")],
)
def test_a_device_that_is_not_well_says_why(condition: Condition, health: str) -> None:
    (card,) = cards_on("n", "", 1, "GPU", [device("GPU-1", condition=condition, reason="it is hot")])
    assert (card.health, card.reason) == (health, "it is hot")


@pytest.fixture
def cluster(tmp_path: Path) -> Iterator[Cluster]:
    with small_cluster(tmp_path) as made:
        yield made


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
def test_every_node_of_a_cluster_stands_in_the_inventory_while_a_run_looks_at_it(
    cluster: Cluster,
    enrol: Enrol,
    clock: FakeClock,
) -> None:
    nodes = [cluster.add_node(num_cpus=1, num_gpus=2) for _ in range(2)]
    cluster.wait_for_nodes()
    ray.init(address=cluster.address, log_to_driver=False, namespace="nodes")
    run, admin = enrol("r", "run"), enrol("me", "admin")
    looking = Nodes(run, clock, site="hall")

    def listed() -> set[str]:
        looking.tick()
        return {r.id for r in admin.list() if r.kind == "accelerator" and r.state == "free" and r.site == "hall"}

    wanted = {f"gpu:{node.node_id}:{i}" for node in nodes for i in range(2)}
    wait_for(lambda: listed() == wanted)
    cluster.remove_node(nodes[0], allow_graceful=True)
    wait_for(lambda: sum(n["Alive"] for n in ray.nodes()) == 2)
    for _ in range(4):
        clock.advance(LOOK_EVERY_S)
        wait_for(lambda: listed() is not None and not looking._looks)
    assert listed() == {f"gpu:{nodes[1].node_id}:{i}" for i in range(2)}
    states = {r.id: r.state for r in admin.list()}
    assert states[f"gpu:{nodes[0].node_id}:0"] == "lost"
