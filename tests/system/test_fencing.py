"""Whatever Ray believes, an old token is refused: the holder of a lease on a node that Ray has declared dead goes on
running, and moves nothing any more once the lease is another's."""

import os
import signal
import threading
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
import ray
from ray.cluster_utils import Cluster

from cloud.authority import Authority
from cloud.gateway import Gateway, GatewayConfig
from cloud.weights import WeightStore
from tests.cluster import small_cluster
from tests.edge.plant import Plant, plant, publish_to, schema_of, wait_for
from user_rl.ask import Ask, RobotsAsk
from user_rl.clock import SystemClock
from user_rl.errors import UserRlError
from user_rl.fleet import FleetClient, RunDoors
from user_rl.log import Log

pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("ignore")]  # Ray's own

QUICK_DEATH = {
    "health_check_period_ms": 500, "health_check_timeout_ms": 500, "health_check_failure_threshold": 3,
    "health_check_initial_delay_ms": 0,
}  # fmt: skip
ASK = Ask(robots=RobotsAsk(cells=("arm",)))


@ray.remote(max_restarts=0)
class Holder:
    """A run's whole cloud on one Ray node: it holds the cell, serves it weights, and never lets go by itself."""

    def __init__(self, path: Path, fleet_address: str, tree: dict[str, Any]) -> None:
        self._path, authority = path, Authority(path / "cloud/authority")
        self._store, self._schema = WeightStore(path / "old/weights"), schema_of(tree)
        self._log, self._tokens = Log(path / "old/log"), dict[str, int]()
        self._gateway = Gateway(
            "old", self._log, path / "old/weights", GatewayConfig(), keys=authority.server_bundle.curve,
            allowed=authority.allowed, tokens=self._tokens.get, demonstrations=0, clock=SystemClock(),
        )  # fmt: skip
        self._fleet = FleetClient(authority.mint("old", kind="run", fleet_address=fleet_address))
        publish_to(self._store, self._schema)
        for work in (self._gateway.run, self._hold):
            threading.Thread(target=work, daemon=True).start()

    def _hold(self) -> None:
        """Renews, asks again, says where it listens, publishes and lets the robot act, for as long as it lives."""
        while True:
            with suppress(UserRlError):
                self._fleet.open_run("old", RunDoors(doors=self._gateway.doors))
                held = self._fleet.renew("old").cells
                reply = self._fleet.request_lease("old", ASK) if not held else None
                self._tokens.update(held or (reply.granted if reply else {}))
                self._gateway.set_permit(None)
            beat = f"{os.getpid()} {sorted(self._tokens.values())} {self.rows()}"
            (self._path / "old/beats").open("a").write(f"{beat}\n")
            time.sleep(0.1)

    def rows(self) -> int:
        """Rows that came to this holder."""
        return sum(self._log.synced(stream) + 1 for stream in self._log.streams())


@pytest.fixture
def cluster(tmp_path: Path) -> Iterator[Cluster]:
    with small_cluster(tmp_path, **QUICK_DEATH) as made:
        yield made


def beats(path: Path) -> list[str]:
    file = path / "old/beats"
    return file.read_text().splitlines() if file.exists() else []


def test_the_orphan_of_a_dead_node_moves_nothing_once_the_lease_is_anothers(cluster: Cluster, tmp_path: Path) -> None:
    node = cluster.add_node(num_cpus=1, resources={"robots": 1})
    cluster.wait_for_nodes()
    ray.init(address=cluster.address, log_to_driver=False, namespace="fencing")
    with plant(tmp_path) as (new, daemon):
        holder = Holder.options(resources={"robots": 1}, num_cpus=0).remote(  # type: ignore[attr-defined]
            tmp_path, new.server.address, daemon.tree
        )
        wait_for(lambda: ray.get(holder.rows.remote(), timeout=30) > 50)
        holder_pid = int(beats(tmp_path)[-1].split()[0])
        raylet = node.all_processes["raylet"][0].process
        try:
            raylet.send_signal(signal.SIGSTOP)  # the node hangs, as behind a partition
            wait_for(lambda: not any(n["Alive"] for n in ray.nodes() if n["NodeID"] == node.node_id))
            orphan_is_fenced(new, tmp_path)
        finally:
            raylet.send_signal(signal.SIGCONT)
            with suppress(ProcessLookupError):
                os.kill(holder_pid, signal.SIGKILL)
        assert daemon.stop() == 0


def orphan_is_fenced(new: Plant, path: Path) -> None:
    before = len(beats(path))
    admin = FleetClient(new.authority.mint("person", kind="admin", fleet_address=new.server.address))
    with admin:
        admin.release("old")
        new.lease()
        wait_for(lambda: new.rows() > 50)
    lines = beats(path)
    assert len(lines) > before, "Ray's dead node still runs its actor: that is what fencing is for"
    moved = int(lines[-1].rpartition(" ")[2])
    wait_for(lambda: new.rows() > 100)
    lines = beats(path)
    assert int(lines[-1].rpartition(" ")[2]) == moved, "no row goes to the old holder any more"
    token = new.tokens["arm"]
    assert all(str(token) not in line.partition("[")[2].partition("]")[0].split(", ") for line in lines)
    (stream,) = new.log.streams()
    rows = [new.log.streams()[stream].view(chunk.data) for chunk in new.log.read(stream, 0, 2**30)]
    assert {int(t) for each in rows for t in each["token"]} == {token}
    assert {bytes(r) for each in rows for r in each["run"]} == {b"run"}
