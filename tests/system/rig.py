"""A whole run as real processes, small enough for a test: started, watched by its status file, killed, resumed."""

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil

from cloud.run import RunFolder, read_json

SMALL = (
    "experiment=peg_insertion_rlpd", "demonstrations.count=3", "algorithm.batch_size=32",
    "algorithm.critic_hidden=[32,32]", "algorithm.policy.hidden=[32,32]", "algorithm.update_ratio=4",
    "learner.warmup_rows=60", "learner.checkpoint_s=1", "learner.publish_every=20", "learner.max_minutes=null",
    "evaluation.episodes=2", "evaluation.baseline_updates=0",
)  # fmt: skip
PATIENCE_S = 150.0


class Run:
    """One run of the launcher in a process of its own."""

    def __init__(self, root: Path, *overrides: str) -> None:
        self.folder = RunFolder(root / "runs" / "r")
        self._root = root
        given = {o.partition("=")[0] for o in overrides}
        small = [o for o in SMALL if o.partition("=")[0] not in given]
        self.driver = self._start("launch", f"runs={root}/runs", f"home={root}/home", "run=r", *small, *overrides)

    def resume(self, *overrides: str) -> None:
        """Goes on with the run after a kill."""
        self.driver = self._start("resume", "r", *overrides, "--runs", f"{self._root}/runs")

    @property
    def status(self) -> dict[str, Any]:
        return read_json(self.folder.status)

    @property
    def metrics(self) -> list[dict[str, Any]]:
        """Whole lines of metrics.jsonl."""
        if not self.folder.metrics.is_file():
            return []
        found = []
        for row in self.folder.metrics.read_text().splitlines():
            with contextlib.suppress(json.JSONDecodeError):
                found.append(json.loads(row))
        return found

    def wait(self, condition: Callable[[dict[str, Any]], object], what: str) -> dict[str, Any]:
        """The first status that meets `condition`."""
        until_s = time.monotonic() + PATIENCE_S
        while time.monotonic() < until_s:
            status = self.status
            if condition(status):
                return status
            assert self.driver.poll() is None, f"the launcher ended before {what}:\n{self.output()}"
            time.sleep(0.1)
        raise AssertionError(f"{what} did not happen within {PATIENCE_S:.0f} s: {self.status}\n{self.output()}")

    def finish(self) -> dict[str, Any]:
        """The report, after the run has ended by itself."""
        assert self.driver.wait(PATIENCE_S) == 0, self.output()
        return read_json(self.folder.report)

    def kill_everything(self) -> None:
        """kill -9 of the launcher, both actors, the edges' processes and Ray, all at once."""
        root = psutil.Process(self.driver.pid)
        family = [root, *root.children(recursive=True)]
        for pid in self.status.get("edge_pids", {}).values():
            with contextlib.suppress(psutil.NoSuchProcess):
                edge = psutil.Process(pid)
                family += [edge, *edge.children(recursive=True)]
        for process in family:
            with contextlib.suppress(psutil.NoSuchProcess):
                process.kill()
        psutil.wait_procs(family, timeout=20)
        self.driver.wait(20)

    def close(self) -> None:
        """Ends what is left of the run, and its fleet."""
        if self.driver.poll() is None:
            self.driver.send_signal(signal.SIGTERM)
            with contextlib.suppress(subprocess.TimeoutExpired):
                self.driver.wait(60)
        if self.driver.poll() is None:
            self.kill_everything()
        address = read_json(self._root / "home" / "fleet" / "address.json")
        with contextlib.suppress(ProcessLookupError, KeyError):
            os.kill(address["pid"], signal.SIGTERM)

    def output(self) -> str:
        """What the launcher and the edges said."""
        logs = [self._root / "launcher.log", *sorted(self.folder.root.glob("logs/*.log"))]
        return "\n".join(f"--- {f.name}\n{f.read_text()[-3000:]}" for f in logs if f.is_file())

    def _start(self, *args: str) -> "subprocess.Popen[bytes]":
        with (self._root / "launcher.log").open("ab") as out:
            argv = [sys.executable, "-m", "cloud.main", *args]
            return subprocess.Popen(argv, stdin=subprocess.DEVNULL, stdout=out, stderr=subprocess.STDOUT)
