"""Gangs on a real Ray cluster of several nodes, with GPUs that Ray counts and nobody has."""

from collections.abc import Iterator
from typing import Any

import pytest
import ray

from cloud.gang import Gang
from tests.cluster import small_cluster
from user_rl.errors import Unreachable
from user_rl.fleet import AcceleratorCard

pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("ignore")]  # Ray's own


@pytest.fixture(scope="module")
def nodes(tmp_path_factory: pytest.TempPathFactory) -> Iterator[list[str]]:
    """Two nodes with two GPUs each beside a head without any; their ids."""
    with small_cluster(tmp_path_factory.mktemp("ray")) as cluster:
        added = [cluster.add_node(num_cpus=1, num_gpus=2) for _ in range(2)]
        cluster.wait_for_nodes()
        ray.init(address=cluster.address, log_to_driver=False, namespace="gangs")
        yield [node.node_id for node in added]


def card(node: str, index: int) -> AcceleratorCard:
    return AcceleratorCard(id=f"gpu:{node}:{index}", node=node, model="counted")


@ray.remote
class Where:
    """An actor that says where it runs, and what it was given."""

    def node(self) -> str:
        return str(ray.get_runtime_context().get_node_id())

    def devices(self) -> list[int]:
        return [int(i) for i in ray.get_gpu_ids()]


def placed(gang: Gang) -> Any:  # noqa: ANN401  # Ray's handle
    return Where.options(num_cpus=0, **gang.options()).remote()  # type: ignore[attr-defined]


def test_an_actor_runs_on_the_node_that_the_fleet_granted_and_has_its_devices(nodes: list[str]) -> None:
    for node in nodes:
        gang = Gang([card(node, 0), card(node, 1)])
        actor = placed(gang)
        assert ray.get(actor.node.remote(), timeout=30) == node
        assert sorted(ray.get(actor.devices.remote(), timeout=30)) == [0, 1]
        ray.kill(actor)
        gang.close()


def test_a_node_may_be_told_by_its_hosts_name(nodes: list[str]) -> None:
    host = next(n["NodeManagerHostname"] for n in ray.nodes() if n["NodeID"] in nodes)
    gang = Gang([AcceleratorCard(id="GPU-1", node=host, model="H100")])
    assert gang.size == 1
    gang.close()


def test_two_gangs_share_a_node_and_never_a_device(nodes: list[str]) -> None:
    gangs = [Gang([card(nodes[0], i)]) for i in range(2)]
    actors = [placed(gang) for gang in gangs]
    given = [ray.get(actor.devices.remote(), timeout=30) for actor in actors]
    assert sorted(device for devices in given for device in devices) == [0, 1]
    for actor, gang in zip(actors, gangs, strict=True):
        ray.kill(actor)
        gang.close()


def test_a_gang_over_two_nodes_is_made_whole(nodes: list[str]) -> None:
    gang = Gang([card(node, i) for node in nodes for i in range(2)])
    assert gang.size == 4
    assert ray.available_resources().get("GPU", 0.0) == 0.0
    gang.close()


def test_what_ray_cannot_give_is_given_up_and_holds_nothing(nodes: list[str]) -> None:
    whole = Gang([card(nodes[0], 0), card(nodes[0], 1)])
    with pytest.raises(Unreachable, match=r"^Ray does not give 2 GPUs on .* within 1 s; see that these nodes live"):
        Gang([card(nodes[0], 0), card(nodes[1], 0)], made_s=1.0)
    other = Gang([card(nodes[1], 0), card(nodes[1], 1)])  # the half that could have been made is free
    whole.close()
    other.close()
