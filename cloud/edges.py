"""Simulated cells: the launcher starts ordinary edge daemons for them, as children, and again when they die.

They are the same program with the same wire as on a real controller; only their pace and their robot differ.
"""

import logging
import os
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass

from cloud.run import RunFolder, write_json
from user_rl.clock import Clock
from user_rl.config import Tree
from user_rl.errors import HardwareError

log = logging.getLogger(__name__)

FIRST_PAUSE_S, LONGEST_PAUSE_S = 0.5, 10.0
CONFIG, FAULT = 2, 3  # exit codes of user-rl-edge
STEADY_S = 20.0  # a daemon that lived this long starts with the short pause again


@dataclass
class _Child:
    process: "subprocess.Popen[bytes]"
    started_s: float
    pause_s: float = FIRST_PAUSE_S
    again_s: float | None = None  # when to start it again; None while it lives
    end: str = ""  # its last words, when starting it again would end the same way


class SimulatedEdges:
    """The daemons of a run's simulated cells. All calls from one thread."""

    def __init__(self, folder: RunFolder, trees: Mapping[str, Tree], *, clock: Clock) -> None:
        """`trees` holds each cell's whole edge configuration."""
        self._folder, self._trees, self._clock = folder, dict(trees), clock
        self._children: dict[str, _Child] = {}

    def start(self) -> None:
        """Starts every daemon."""
        for cell, tree in self._trees.items():
            write_json(self._folder.edge(cell) / "config.json", tree)
            self._children[cell] = _Child(self._spawn(cell), self._clock.now_s())

    def watch(self) -> None:
        """Starts again what has died, with a growing pause; call it often.

        A daemon whose configuration is wrong, or whose robot has a latched fault, stays down; raises HardwareError with
        its last words when no other is left.
        """
        for cell, child in self._children.items():
            now_s = self._clock.now_s()
            if child.again_s is None and not child.end and child.process.poll() is not None:
                self._ended(cell, child, now_s)
            if child.again_s is not None and now_s >= child.again_s:
                child.process, child.started_s, child.again_s = self._spawn(cell), now_s, None
        ends = [child.end for child in self._children.values()]
        if ends and all(ends):
            raise HardwareError(ends[0])

    def _ended(self, cell: str, child: _Child, now_s: float) -> None:
        if child.process.returncode in (CONFIG, FAULT):
            words = self._folder.process_log(cell).read_text().strip().splitlines()
            child.end = words[-1] if words else f"edge {cell} ended with {child.process.returncode}"
            log.error("edge %s stays down: %s", cell, child.end)
            return
        steady = now_s - child.started_s > STEADY_S
        child.pause_s = FIRST_PAUSE_S if steady else min(2 * child.pause_s, LONGEST_PAUSE_S)
        child.again_s = now_s + child.pause_s
        log.warning("edge %s ended with %s, again in %.1f s", cell, child.process.returncode, child.pause_s)

    def stop(self, *, timeout_s: float) -> None:
        """Asks every daemon to halt, send what it holds and end; ends by force what has not after `timeout_s`."""
        for child in self._children.values():
            child.process.terminate()
        deadline_s = self._clock.now_s() + timeout_s
        for cell, child in self._children.items():
            try:
                child.process.wait(max(0.1, deadline_s - self._clock.now_s()))
            except subprocess.TimeoutExpired:
                log.warning(
                    "edge %s did not end within %.0f s and is killed; its spool keeps what it held", cell, timeout_s
                )
                child.process.kill()
                child.process.wait()
        self._children.clear()

    def pids(self) -> dict[str, int]:
        """The daemons' process ids, by cell."""
        return {cell: child.process.pid for cell, child in self._children.items()}

    def _spawn(self, cell: str) -> "subprocess.Popen[bytes]":
        config = self._folder.edge(cell) / "config.json"
        argv = [sys.executable, "-m", "edge.main", "run", "--config", str(config), "--parent", str(os.getpid())]
        with self._folder.process_log(cell).open("ab") as out:
            return subprocess.Popen(
                argv, stdin=subprocess.DEVNULL, stdout=out, stderr=subprocess.STDOUT, start_new_session=True
            )  # fmt: skip
