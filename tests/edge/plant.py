"""A small cloud for a real daemon: authority, fleet, gateway and weights, all real, in threads of the test."""

import dataclasses
import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from cloud.authority import Authority
from cloud.fleet import FleetConfig, FleetServer, ServeConfig
from cloud.fleet.ensure import admin_bundle
from cloud.gateway import Gateway, GatewayConfig
from cloud.weights import WeightStore
from hal.make import CellConfig, make_cell
from policies.config import ActorSpec
from user_rl.ask import Ask, RobotsAsk
from user_rl.clock import SystemClock
from user_rl.fleet import Doors, FleetClient, Resource, RunDoors
from user_rl.log import Log, LogConfig, Reader, compare
from user_rl.rows import Schema, make_schema
from user_rl.trust import save_bundle
from user_rl.versions import PolicySpec

ROOT = Path(__file__).parents[2]
FAKE: dict[str, Any] = {
    "robot": {"name": "fake", "rate_hz": 100.0},
    "task": {"name": "fake", "max_steps": 20},
    "link": {"heartbeat_s": 0.2, "weights_every_s": 0.1},
    "realtime": "off",
    "drain_s": 20.0,
    "pulse_s": 10.0,
}


class Plant:
    """The cloud of one run, which leases the cell `arm`. `site`: another run's, whose fleet it shares.

    `host`: where the robot finds it; anything but the loopback listens on every address.
    """

    def __init__(self, path: Path, run: str = "run", site: "Plant | None" = None, host: str = "127.0.0.1") -> None:
        self.path, self.run, self._host = path, run, host
        self._bind = host if host == "127.0.0.1" else "0.0.0.0"
        self._clock = SystemClock()
        self.tokens: dict[str, int] = {}
        self.authority: Authority = site.authority if site else Authority(path / "cloud/authority")
        leases = FleetConfig(lease_ttl_s=600.0)
        serve = ServeConfig(home=path / "cloud", leases=leases, listen=f"{self._bind}:0")
        self.server: FleetServer = site.server if site else FleetServer(serve, clock=self._clock)
        self._owns_server = site is None
        self.log = Log(path / run / "log", LogConfig())
        self.store = WeightStore(path / run / "weights")
        address = self.server.address.replace(self._bind, host)
        self.fleet = FleetClient(self.authority.mint(run, kind="run", fleet_address=address))
        if site is None:
            save_bundle(self.authority.mint("arm", kind="edge", fleet_address=address), path / "arm.bundle")
        self.open_gateway()

    def open_gateway(self, demonstrations: int = 0) -> None:
        """A gateway that listens somewhere, and says so."""
        keys = self.authority.server_bundle.curve
        self.gateway = Gateway(
            self.run, self.log, self.path / self.run / "weights", GatewayConfig(host=self._bind), keys=keys,
            allowed=self.authority.allowed, tokens=self.tokens.get, demonstrations=demonstrations, clock=self._clock,
        )  # fmt: skip
        self._thread = threading.Thread(target=self.gateway.run)
        self._thread.start()
        self.fleet.open_run(self.run, RunDoors(doors=self._doors()))

    def _doors(self) -> Doors:
        found = dataclasses.asdict(self.gateway.doors)
        return Doors(**{name: address.replace(self._bind, self._host) for name, address in found.items()})

    def close_gateway(self) -> None:
        """Safe to call twice."""
        self.gateway.stop()
        self._thread.join()

    def differences(self) -> tuple[int, int, int]:
        """Rows lost, duplicated and differing between the edge's log and the cloud's, which is closed for good."""
        self.close_gateway()
        self.log.close()
        with Reader(self.path / "edge/spool") as edge, Reader(self.path / self.run / "log") as cloud:
            found = compare(edge, cloud, self.run)
        assert found.rows > 0
        return found.rows_lost, found.rows_duplicated, found.rows_differing

    def lease(self, **placement: Any) -> None:  # noqa: ANN401  # of user_rl.ask.Ask
        """Leases the cell, as soon as it is there."""

        self.tokens.clear()
        ask = Ask(robots=RobotsAsk(cells=("arm",)), **placement)

        def granted() -> bool:
            self.tokens.update(self.fleet.request_lease(self.run, ask).granted)
            return "arm" in self.tokens

        wait_for(granted)

    def cell(self) -> Resource:
        """What the fleet knows of the cell."""
        return next(r for r in self.fleet.list() if r.id == "arm")

    def admit(self) -> None:
        """A person ends the cell's quarantine."""
        with FleetClient(admin_bundle(self.path / "cloud").at(self.server.address)) as admin:
            admin.admit("arm")

    def publish(self, schema: Schema) -> None:
        """One more version."""
        publish_to(self.store, schema)

    def rows(self) -> int:
        """Rows that the cloud has, durably."""
        return sum(self.log.synced(s) + 1 for s in self.log.streams())

    def close(self) -> None:
        self.close_gateway()
        self.fleet.close()
        if self._owns_server:
            self.server.close()
        self.log.close()


@contextmanager
def plant(path: Path, **config: Any) -> Iterator[tuple[Plant, "Daemon"]]:  # noqa: ANN401
    """A plant with one version published, and the daemon of its cell, started."""
    made = Plant(path)
    daemon = Daemon(path, {**FAKE, **config})
    made.publish(schema_of(daemon.tree))
    try:
        daemon.start()
        yield made, daemon
    finally:
        daemon.kill()
        made.close()


class Daemon:
    """A real `user-rl-edge run`, and what can be done to it."""

    def __init__(self, path: Path, changes: dict[str, Any], prefix: Sequence[str] = ()) -> None:
        """`prefix` starts the command in another network."""
        self._prefix = list(prefix)
        self.home, self._log = path / "edge", path / "edge.log"
        self.tree = {"name": "arm", "bundle": str(path / "arm.bundle"), "home": str(self.home), **changes}
        self._config = path / "edge.json"
        self._config.write_text(json.dumps(self.tree))
        self.process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        argv = [*self._prefix, sys.executable, "-m", "edge.main", "run", "--config", str(self._config)]
        with self._log.open("ab") as out:
            self.process = subprocess.Popen(argv, stdout=out, stderr=out, cwd=ROOT)

    @property
    def said(self) -> str:
        """Everything that it has logged."""
        return self._log.read_text()

    def forget(self) -> None:
        """What it has said so far."""
        self._log.write_text("")

    def child(self, name: str) -> int:
        """The process id of `control` or `link`, as soon as there is one."""
        found: list[int] = []

        def look() -> bool:
            assert self.process is not None
            try:
                pids = Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children").read_text().split()
                found[:] = [int(p) for p in pids if f"edge.{name}".encode() in Path(f"/proc/{p}/cmdline").read_bytes()]
            except OSError:
                return False
            return bool(found)

        wait_for(look)
        return found[0]

    def signal(self, name: str, number: signal.Signals) -> int:
        """Sends a signal to a child; returns its process id."""
        pid = self.child(name)
        os.kill(pid, number)
        return pid

    def ended(self, within_s: float = 60.0) -> int:
        """Its exit code, once it has ended."""
        assert self.process is not None
        return self.process.wait(within_s)

    def stop(self) -> int:
        assert self.process is not None
        self.process.terminate()
        return self.ended()

    def kill(self) -> None:
        """Ends it with its children, whatever state they are in."""
        if self.process is not None and self.process.poll() is None:
            children = Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children").read_text().split()
            for pid in [self.process.pid, *map(int, children)]:
                os.kill(pid, signal.SIGKILL)
            self.process.wait()


def publish_to(store: WeightStore, schema: Schema) -> None:
    """A version whose policy always commands the same, more or less."""
    spec = ActorSpec(state=2, hidden=(4,), log_std_min=-5.0, log_std_max=2.0, pixel_features=1)
    policy = PolicySpec(kind="mlp", action=schema.action, settings=spec.settings)
    shapes = {"layers.0.weight": (4, 2), "layers.0.bias": (4,), "head.weight": (4, 4), "head.bias": (4,)}
    tensors = {name: np.zeros(shape, np.float32) for name, shape in shapes.items()}
    tensors |= {"normaliser.mean": np.zeros(2, np.float32), "normaliser.scale": np.ones(2, np.float32)}
    tensors["head.bias"][:2] = 0.5
    store.publish(tensors, policy, schema=schema.digest, updates=0, incarnation="test")


def schema_of(tree: Mapping[str, Any]) -> Schema:
    """The rows of the cell in an edge's configuration."""
    parts = CellConfig(**{key: tree[key] for key in ("robot", "task", "cameras", "teleop") if key in tree})
    cell = make_cell(parts, name="arm", clock=SystemClock(), seed=0)
    return make_schema(cell.observation, cell.action)


def wait_for(condition: Callable[[], bool], within_s: float = 60.0) -> None:
    """Returns when `condition()` is true; fails after `within_s`."""
    deadline_s = time.monotonic() + within_s
    while not condition():
        assert time.monotonic() < deadline_s, "it did not happen"
        time.sleep(0.02)
