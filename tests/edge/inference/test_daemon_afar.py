"""The whole daemon, acted from afar: its own processes, the fleet that names the server, rows that name its version."""

import threading
from contextlib import ExitStack
from pathlib import Path

import numpy as np
import pytest

from cloud.inference.actor import newest_of
from cloud.inference.brain import Brain
from cloud.inference.config import ServingConfig
from cloud.inference.service import InferenceServer
from cloud.weights import WeightStore
from tests.edge.plant import plant, publish_to, schema_of, wait_for
from user_rl.clock import SystemClock
from user_rl.fleet import InferencePlace, RunDoors
from user_rl.log import Reader
from user_rl.rows import Kind

pytestmark = pytest.mark.slow
REMOTE = {"where": "remote", "fallback": "hold", "horizon": 20, "execute": 10, "probe_s": 0.05}


def test_rows_of_a_robot_that_only_a_server_moves_name_the_servers_version(tmp_path: Path) -> None:
    with plant(tmp_path, inference=REMOTE) as (cloud, daemon), ExitStack() as stack:
        store = WeightStore(tmp_path / "other")
        for _ in range(3):  # version 3, where the edge has version 1
            publish_to(store, schema_of(daemon.tree))
        config = ServingConfig()
        server = InferenceServer(
            cloud.run, "tcp://127.0.0.1:0", Brain(newest_of(store.root), config), config, tokens=cloud.tokens.get,
            keys=cloud.authority.server_bundle.curve, allowed=cloud.authority.allowed, clock=SystemClock(),
        )  # fmt: skip
        thread = threading.Thread(target=server.run)
        thread.start()
        stack.callback(thread.join)
        stack.callback(server.stop)
        place = InferencePlace(name="cloud", address=server.address)
        cloud.fleet.open_run(cloud.run, RunDoors(doors=cloud.gateway.doors, inference=(place,)))
        cloud.lease()
        wait_for(lambda: cloud.rows() > 60)
        assert cloud.cell().status.reason.startswith("acts from cloud: cloud p95 ")
        assert daemon.stop() == 0
        cloud.close_gateway()
        cloud.log.close()
        with Reader(tmp_path / cloud.run / "log") as log:
            ((stream, schema),) = log.streams().items()
            rows = np.concatenate([schema.view(chunk.data) for chunk in log.read(stream, 0, 2**26)])
    acted = rows[rows["kind"] == Kind.STEP]
    assert set(acted["version"]) == {3}
    assert {bytes(h) for h in acted["version_hash"]} == {store.manifest(3).digest16}
