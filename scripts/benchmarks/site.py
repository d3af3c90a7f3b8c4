"""site: a whole real system for a benchmark: fleet, launcher with gateway and learner, and one robot's daemon, each in
the network that it is given: the machine's own, or a lab's namespaces (scripts/netlab).

Processes are started and killed as their supervisors would; nothing in them knows that it is measured.
"""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import psutil

from cloud.authority import Authority
from cloud.run import RunFolder, read_json
from user_rl.trust import save_bundle

ROOT = Path(__file__).parents[2]
CELL = "arm"
PATIENCE_S = 120.0
SMALL = (
    "robot=fake", "task=fake", "teleop=none", "demonstrations.count=0", "learner.warmup_rows=20",
    "learner.pace_robots=false", "learner.tolerance=1e9", "algorithm.update_ratio=10", "algorithm.batch_size=32",
    "algorithm.critic_hidden=[64,64]", "algorithm.policy.hidden=[64,64]", "learner.publish_every=20",
    "evaluation.episodes=0", "evaluation.baseline_updates=0", "learner.max_minutes=null",
)  # fmt: skip


class Site:
    """One run `r` that leases the cell `arm`. `cloud` and `robot` start commands in their networks."""

    def __init__(
        self, root: Path, *, cloud: Sequence[str] = (), robot: Sequence[str] = (), host: str = "127.0.0.1",
        run: Sequence[str] = (), edge: dict[str, Any] | None = None, port: int = 50551,
    ) -> None:  # fmt: skip
        """`host` is where the robot finds the cloud; `run` are launch overrides, `edge` is the robot's own."""
        self.root, self._cloud, self._robot = root, list(cloud), list(robot)
        self.folder = RunFolder(root / "runs" / "r")
        self._overrides = (*SMALL, *run)
        self._fleet_argv = ["fleet", "--home", str(root / "home"), "--listen", f"0.0.0.0:{port}"]
        self._host = host
        self.processes: dict[str, subprocess.Popen[bytes]] = {}
        bundle = Authority(root / "home/authority").mint(CELL, kind="edge", fleet_address=f"{host}:{port}")
        save_bundle(bundle, root / "arm.bundle")
        self._config = root / "edge.json"
        given = edge or {}
        self.cell = {k: given[k] for k in ("robot", "task", "cameras", "teleop") if k in given}
        self._config.write_text(
            json.dumps({"name": CELL, "bundle": str(root / "arm.bundle"), "home": str(root / "edge"), **given})
        )  # fmt: skip

    @property
    def spool(self) -> Path:
        """The robot's own log."""
        return self.root / "edge" / "spool"

    @property
    def status(self) -> dict[str, Any]:
        """The run's."""
        return read_json(self.folder.status)

    def start(self) -> None:
        """Everything, and waits until the learner learns from the robot."""
        self.start_fleet()
        self.start_cloud()
        self.start_edge()
        self.wait(lambda: self.status.get("updates", 0) > 20, "the learner learns")

    def start_fleet(self) -> None:
        self._start("fleet", self._cloud, [sys.executable, "-m", "cloud.main", *self._fleet_argv])

    def start_cloud(self) -> None:
        """The launcher; the same command goes on with the run."""
        argv = [
            sys.executable, "-m", "cloud.main", "launch", "run=r", f"runs={self.root}/runs", f"home={self.root}/home",
            "robots.simulated=false", "gateway.host=0.0.0.0", f"gateway.advertise={self._host}", *self._overrides,
        ]  # fmt: skip
        self._start("cloud", self._cloud, argv)

    def start_edge(self) -> None:
        argv = [sys.executable, "-m", "edge.main", "run", "--config", str(self._config)]
        self._start("edge", self._robot, argv)

    def kill(self, name: str) -> None:
        """kill -9 of a process that this started, with all its children, all at once."""
        process = self.processes.pop(name)
        with suppress(psutil.NoSuchProcess):
            family = psutil.Process(process.pid)
            for one in [*family.children(recursive=True), family]:
                with suppress(psutil.NoSuchProcess):
                    one.kill()
        process.wait()

    def close(self) -> None:
        """Stops what runs, the robot first, and waits for it."""
        for name in ("edge", "cloud", "fleet"):
            process = self.processes.pop(name, None)
            if process is not None and process.poll() is None:
                process.send_signal(signal.SIGTERM)
                try:
                    process.wait(PATIENCE_S)
                except subprocess.TimeoutExpired:
                    self.processes[name] = process
                    self.kill(name)

    def wait(self, condition: Callable[[], Any], what: str, *, within_s: float = PATIENCE_S) -> float:
        """Until it holds; returns the seconds that it took. Raises TimeoutError with the processes' last words."""
        began_s = time.monotonic()
        while not condition():
            if time.monotonic() - began_s > within_s:
                raise TimeoutError(f"{what}: not within {within_s:.0f} s\n{self.said()}")
            time.sleep(0.01)
        return time.monotonic() - began_s

    def said(self) -> str:
        """The end of every process's log."""
        logs = sorted(self.root.glob("*.log"))
        return "\n".join(f"--- {path.name}\n{path.read_text()[-2000:]}" for path in logs)

    def _start(self, name: str, prefix: list[str], argv: list[str]) -> None:
        with (self.root / f"{name}.log").open("ab") as out:
            self.processes[name] = subprocess.Popen(
                [*prefix, *argv], cwd=ROOT, stdin=subprocess.DEVNULL, stdout=out, stderr=subprocess.STDOUT,
                env=os.environ | {"PYTHONPATH": str(ROOT)},
            )  # fmt: skip
