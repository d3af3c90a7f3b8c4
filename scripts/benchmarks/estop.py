"""estop: milliseconds from the request for an emergency stop to the robot's halt, a real daemon, fleet and robot file.

The daemon has its defaults (a step at 10 Hz unless told otherwise), its robot moves by itself until it is halted and
notes when that was. Over loopback, TLS and gRPC included; each stop is cleared and admitted before the next one.
`estop_ms` is the median, `estop_p95_ms` and `estop_max_ms` beside it; `confirm_ms` is the median until the person is
told. `wedged_ms`: with a control that does not answer and has to be killed, until the halt command has run.
"""

import argparse
import json
import os
import shutil
import signal
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np

from cloud.authority import Authority
from cloud.fleet.ensure import admin_bundle
from cloud.fleet.server import read_address
from cloud.gateway import Gateway, GatewayConfig
from cloud.weights import WeightStore
from edge.fault import clear
from hal.make import CellConfig, make_cell
from hal.testing import Motion
from policies.config import ActorSpec
from scripts.benchmarks.machine import record
from user_rl.ask import Ask, RobotsAsk
from user_rl.clock import SystemClock
from user_rl.emergency import EmergencyClient
from user_rl.fleet import FleetClient, Resource, RunDoors
from user_rl.log import Log, LogConfig
from user_rl.rows import Schema, make_schema
from user_rl.trust import save_bundle
from user_rl.versions import PolicySpec

CELL, RUN = "arm", "bench"
STOPS, WEDGED = 20, 5
LIMIT_S, POLL_S = 60.0, 0.002


class Site:
    """A fleet, a gateway with one version of a policy that moves on, one daemon, and what a person does about them."""

    def __init__(self, root: Path, rate_hz: float) -> None:
        self.root, self.home, self.motion = root, root / "edge", root / "motion"
        authority = Authority(root / "authority")
        argv = [sys.executable, "-m", "cloud.fleet", "--home", str(root)]
        self.fleet = subprocess.Popen(argv, stderr=subprocess.DEVNULL)
        until(lambda: read_address(root) is not None, "the fleet's address")
        said = read_address(root)
        assert said is not None
        self.admin = EmergencyClient(admin_bundle(root).at(said.address))
        self.run = FleetClient(authority.mint(RUN, kind="run", fleet_address=said.address))
        save_bundle(authority.mint(CELL, kind="edge", fleet_address=said.address), root / "arm.bundle")
        tree = {
            "name": CELL, "bundle": str(root / "arm.bundle"), "home": str(self.home), "pulse_s": 60.0,
            "robot": {"name": "coasting", "path": str(self.motion), "rate_hz": rate_hz},
            "task": {"name": "fake", "max_steps": 10**6, "near_m": 1e-9}, "link": {"heartbeat_s": 0.2},
        }  # fmt: skip
        self._open_gateway(authority, tree)
        (root / "edge.json").write_text(json.dumps(tree))
        argv = [sys.executable, "-m", "edge.main", "run", "--config", str(root / "edge.json")]
        with (root / "edge.log").open("wb") as log:
            self.edge = subprocess.Popen(argv, stdout=log, stderr=log)

    def _open_gateway(self, authority: Authority, tree: dict[str, Any]) -> None:
        parts = CellConfig(robot=tree["robot"], task=tree["task"])
        cell = make_cell(parts, name=CELL, clock=SystemClock(), seed=0)
        publish(WeightStore(self.root / "weights"), make_schema(cell.observation, cell.action))
        self.tokens: dict[str, int] = {}
        self.log = Log(self.root / "log", LogConfig())
        self.gateway = Gateway(
            RUN, self.log, self.root / "weights", GatewayConfig(), keys=authority.server_bundle.curve,
            allowed=authority.allowed, tokens=self.tokens.get, demonstrations=0, clock=SystemClock(),
        )  # fmt: skip
        self.thread = threading.Thread(target=self.gateway.run)
        self.thread.start()
        self.run.open_run(RUN, RunDoors(doors=self.gateway.doors))

    def cell(self) -> Resource | None:
        return next((r for r in self.admin.list() if r.id == CELL), None)

    def move(self) -> None:
        """The robot is leased and moves; raises when it does not come to that."""
        ask = Ask(robots=RobotsAsk(cells=(CELL,)))
        until(lambda: self.tokens.update(self.run.request_lease(RUN, ask).granted) or CELL in self.tokens, "a lease")
        until(lambda: self.motion.exists() and Motion.load(self.motion).moves, "motion")

    def stop(self) -> tuple[float, float, str]:
        """Seconds from the request to the halt and to the answer, and the answer."""
        asked_s = SystemClock().now_s()
        [stopped] = list(self.admin.stop_robots([CELL], "", wait_s=LIMIT_S))
        told_s = SystemClock().now_s()
        motion = Motion.load(self.motion)
        assert stopped.confirmed, stopped.detail
        assert not motion.moves, "it was said to be halted, and it moves"
        return motion.since_s - asked_s, told_s - asked_s, stopped.detail

    def clear(self) -> None:
        """What a person does who has looked at the robot."""
        until(lambda: (c := self.cell()) is not None and c.status.state == "fault" and c.lease == "free", "the fault")
        clear(self.home)
        self.tokens.clear()
        self.admin.admit(CELL)

    def wedge(self) -> None:
        """Control does not answer any more."""
        children = Path(f"/proc/{self.edge.pid}/task/{self.edge.pid}/children").read_text().split()
        found = [int(p) for p in children if b"edge.control" in Path(f"/proc/{p}/cmdline").read_bytes()]
        os.kill(found[0], signal.SIGSTOP)

    def close(self) -> None:
        for process in (self.edge, self.fleet):
            process.terminate()
            process.wait(LIMIT_S)
        self.gateway.stop()
        self.thread.join()
        self.log.close()
        self.admin.close()
        self.run.close()
        shutil.rmtree(self.root)


def publish(store: WeightStore, schema: Schema) -> None:
    """A version whose policy always commands much the same."""
    spec = ActorSpec(state=2, hidden=(4,), log_std_min=-5.0, log_std_max=2.0, pixel_features=1)
    policy = PolicySpec(kind="mlp", action=schema.action, settings=spec.settings)
    shapes = {"layers.0.weight": (4, 2), "layers.0.bias": (4,), "head.weight": (4, 4), "head.bias": (4,)}
    tensors = {name: np.zeros(shape, np.float32) for name, shape in shapes.items()}
    tensors |= {"normaliser.mean": np.zeros(2, np.float32), "normaliser.scale": np.ones(2, np.float32)}
    tensors["head.bias"][:2] = 0.5
    store.publish(tensors, policy, schema=schema.digest, updates=0, incarnation="bench")


def until(done: Callable[[], bool], what: str) -> None:
    """Returns when it is so."""
    deadline_s = time.monotonic() + LIMIT_S
    while not done():
        assert time.monotonic() < deadline_s, f"{what} did not come within {LIMIT_S:g} s"
        time.sleep(POLL_S)


def main() -> None:
    """The figures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", help="where to write them")
    parser.add_argument("--stops", type=int, default=STOPS, help="how many (default: %(default)s)")
    parser.add_argument("--wedged", type=int, default=WEDGED, help="with a control that does not answer, how many")
    parser.add_argument("--rate-hz", type=float, default=10.0, help="of the robot (default: %(default)s)")
    args = parser.parse_args()
    halts, answers, wedged = [], [], []
    with ExitStack() as on_exit:
        site = Site(Path(tempfile.mkdtemp(prefix="bench-estop-")), args.rate_hz)
        on_exit.callback(site.close)
        for count in range(args.stops + args.wedged):
            site.move()
            if count >= args.stops:
                site.wedge()
            halt_s, answer_s, _ = site.stop()
            (wedged if count >= args.stops else halts).append(halt_s * 1e3)
            answers += [] if count >= args.stops else [answer_s * 1e3]
            site.clear()
    figures = {
        "estop_ms": statistics.median(halts), "estop_p95_ms": float(np.percentile(halts, 95)),
        "estop_max_ms": max(halts), "confirm_ms": statistics.median(answers),
    }  # fmt: skip
    record("estop", figures | ({"wedged_ms": statistics.median(wedged)} if wedged else {}), args.json)


if __name__ == "__main__":
    main()
