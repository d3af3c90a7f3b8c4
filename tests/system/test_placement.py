"""A run on a Ray cluster: its robot and its accelerator are granted together, and its learner runs where that is."""

import signal
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest
from ray.cluster_utils import Cluster

from cloud.fleet.ensure import admin_bundle
from cloud.fleet.server import read_address
from tests.cluster import small_cluster
from tests.system.rig import Run
from user_rl.fleet import FleetClient, Resource

pytestmark = [pytest.mark.slow, pytest.mark.timeout(400), pytest.mark.filterwarnings("ignore")]  # Ray's own
ROBOT = ("robot=fake", "task=fake", "teleop=fake", "learner.gpus=1", "algorithm.device=cpu", "ray.site=hall")


@pytest.fixture
def cluster(tmp_path: Path) -> Iterator[Cluster]:
    with small_cluster(tmp_path) as made:
        yield made


def inventory(home: Path) -> dict[str, Resource]:
    said = read_address(home)
    assert said is not None
    with FleetClient(admin_bundle(home).at(said.address)) as client:
        return {resource.id: resource for resource in client.list()}


def test_a_run_waits_for_its_accelerator_learns_on_its_node_and_gives_it_back(cluster: Cluster, tmp_path: Path) -> None:
    run = Run(tmp_path, *ROBOT, f"ray.address={cluster.address}")
    try:
        run.wait(lambda s: "accelerator" in s.get("trouble", ""), "the queue")
        assert run.status.get("updates", 0) == 0
        node = cluster.add_node(num_cpus=1, num_gpus=1)
        run.wait(lambda s: s.get("updates", 0) > 20, "updates on the node that came")
        gpu = inventory(tmp_path / "home")[f"gpu:{node.node_id}:0"]
        assert (gpu.state, gpu.run, gpu.role, gpu.site) == ("leased", "r", "learner", "hall")
        raylet = node.all_processes["raylet"][0].process.pid
        assert psutil.Process(run.status["learner_pid"]).ppid() == raylet
        run.driver.send_signal(signal.SIGTERM)
        assert run.driver.wait(90) == 130
        assert inventory(tmp_path / "home")[f"gpu:{node.node_id}:0"].state == "free"
    finally:
        run.close()
