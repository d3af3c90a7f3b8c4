"""chaos: kill -9 at random, 200 times, over every process of a real system on an impaired link; what was lost, how soon
it was back.

A robot in real time at 10 Hz behind a NAT, 80 ms and 1 % of loss at 20 Mbit/s from its cloud, which it reaches
through a real sshd (`jump`: the processes that serve its connections). Whoever is killed is started again by what
starts it in the field: the daemon (control too: `restart_control` is set, the arm is simulated), Ray, or a supervisor
in this program (for the daemon itself and for the launcher). Back is the first row on the cloud's disk that was
recorded after the kill; for the learner and the whole cloud it is the first update of their next life. In the end the
robot's log and the cloud's are compared.
"""

import argparse
import os
import random
import signal
import statistics
import tempfile
import time
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from pathlib import Path

import numpy as np
import psutil

from scripts.benchmarks.machine import record
from scripts.benchmarks.site import Site
from scripts.netlab import Lab, missing
from scripts.netlab.lab import CLOUD, LOSSY_WAN
from scripts.netlab.sshd import Sshd
from user_rl.errors import UserRlError
from user_rl.log import Reader, compare

KILLS = 200
JUMP_PORT = 2222
STEADY_S = (0.2, 2.0)  # between two kills
WEIGHTS = {"edge": 3, "control": 2, "link": 3, "gateway": 4, "learner": 2, "tunnel": 3, "jump": 1}
CLOUD_KILLS = 5  # of the launcher with all its actors, once in so many ways of a run
EDGE = {"robot": {"name": "fake"}, "task": {"name": "fake"}, "drain_s": 60.0, "restart_control": True}


class Chaos:
    """The kills, and how soon each was back."""

    def __init__(self, site: Site, jump: Sshd, seed: int) -> None:
        self._site, self._jump, self._random = site, jump, random.Random(seed)
        self.back_s: dict[str, list[float]] = {}
        self._reader: Reader | None = None
        self._newest: dict[str, tuple[int, float]] = {}  # by stream: its last row, and when that was recorded

    def strike(self, victim: str) -> None:
        """Kills `victim` and waits until it is back."""
        kill, back = self._plans()[victim]
        learner = self._site.status.get("learner_pid", 0)
        kill()
        began_s = time.monotonic()
        mark = began_s, learner
        self._site.wait(lambda: self._supervise() or back(mark), f"{victim} is back")
        self.back_s.setdefault(victim, []).append(time.monotonic() - began_s)

    def close(self) -> None:
        """Lets go of the cloud's log."""
        if self._reader is not None:
            self._reader.close()

    def rest(self) -> None:
        """Lets it run for a random while."""
        until_s = time.monotonic() + self._random.uniform(*STEADY_S)
        while time.monotonic() < until_s:
            self._supervise()
            time.sleep(0.05)

    def _plans(self) -> dict[str, tuple[Callable[[], None], Callable[[tuple[float, int]], bool]]]:
        site = self._site
        return {
            "edge": (lambda: site.kill("edge"), self._row_after),
            **{name: (partial(self._kill_child, name), self._row_after) for name in ("control", "link", "tunnel")},
            "gateway": (lambda: self._kill_actor("gateway_pid"), self._row_after),
            "learner": (lambda: self._kill_actor("learner_pid"), self._update_after),
            "cloud": (lambda: site.kill("cloud"), self._update_after),
            "jump": (self._kill_connections, self._row_after),
        }  # fmt: skip

    def _supervise(self) -> bool:
        """Starts again what has ended, as systemd would; never a reason to stop waiting."""
        for name, start in (("edge", self._site.start_edge), ("cloud", self._site.start_cloud)):
            process = self._site.processes.get(name)
            if process is None or process.poll() is not None:
                start()
        return False

    def _kill_child(self, name: str) -> None:
        self._site.wait(lambda: self._supervise() or self._killed_child(name), f"edge.{name} lives, to be killed")

    def _killed_child(self, name: str) -> bool:
        with suppress(psutil.NoSuchProcess):
            for child in psutil.Process(self._site.processes["edge"].pid).children():
                if f"edge.{name}" in child.cmdline():
                    child.kill()
                    return True
        return False

    def _kill_actor(self, key: str) -> None:
        self._site.wait(lambda: self._supervise() or self._killed_actor(key), f"{key} lives, to be killed")

    def _killed_actor(self, key: str) -> bool:
        with suppress(ProcessLookupError, KeyError):
            os.kill(self._site.status[key], signal.SIGKILL)
            return True
        return False

    def _kill_connections(self) -> None:
        self._site.wait(lambda: self._supervise() or self._jump.kill_connections() > 0, "a connection, to be killed")

    def _row_after(self, mark: tuple[float, int]) -> bool:
        return self._newest_s() > mark[0]

    def _update_after(self, mark: tuple[float, int]) -> bool:
        status = self._site.status
        return status.get("learner_pid") != mark[1] and "learning" in str(status.get("phase"))

    def _newest_s(self) -> float:
        """When the newest row on the cloud's disk was recorded, by the machine's monotonic clock."""
        with suppress(UserRlError):
            self._reader = self._reader or Reader(self._site.folder.log)
            for stream, schema in self._reader.streams().items():
                last = self._reader.synced(stream)
                if last < 0 or last == self._newest.get(stream, (-1, 0.0))[0]:
                    continue
                stamps = [
                    schema.view(chunk.data)["stamp.observation.state"] for chunk in self._reader.read(stream, last, 1)
                ]
                self._newest[stream] = last, float(np.nanmax(np.concatenate(stamps), initial=0.0))
        return max((stamp_s for _, stamp_s in self._newest.values()), default=0.0)


def measure(root: Path, lab: Lab, *, kills: int, cloud_kills: int, seed: int) -> dict[str, float]:
    """The figures of one storm."""
    jump = Sshd(root / "jump", CLOUD, JUMP_PORT, lab.cloud.prefix)
    edge = {**EDGE, "tunnel": jump.tunnel}
    site = Site(root, cloud=lab.cloud.prefix, robot=lab.robot.prefix, host=CLOUD, edge=edge)
    chaos, victims = Chaos(site, jump, seed), victims_of(kills, cloud_kills, random.Random(seed))
    try:
        jump.start()
        site.start()
        for i, victim in enumerate(victims):
            chaos.rest()
            chaos.strike(victim)
            print(f"{i + 1:3d}/{len(victims)} {victim:8s} back after {chaos.back_s[victim][-1]:5.2f} s", flush=True)
        site.processes["edge"].send_signal(signal.SIGTERM)
        site.processes["edge"].wait(90)
    finally:
        chaos.close()
        site.close()
        jump.kill()
    return figures_of(site, chaos)


def victims_of(kills: int, cloud_kills: int, draw: random.Random) -> list[str]:
    """Each of WEIGHTS once, as far as there are kills, others by their weights; the cloud so often; in any order."""
    each = list(WEIGHTS)[:kills]
    victims = each + draw.choices(list(WEIGHTS), list(WEIGHTS.values()), k=kills - len(each)) + ["cloud"] * cloud_kills
    draw.shuffle(victims)
    return victims


def figures_of(site: Site, chaos: Chaos) -> dict[str, float]:
    """What both logs and the stopwatch say."""
    with Reader(site.spool) as edge, Reader(site.folder.log) as cloud:
        found = compare(edge, cloud, "r")
    quick = [s for name, times in chaos.back_s.items() if name not in ("learner", "cloud") for s in times]
    by_name = {f"back_p95_s_{name}": percentile(times, 95) for name, times in sorted(chaos.back_s.items())}
    return {
        "chaos_lost": found.rows_lost, "chaos_doubled": found.rows_duplicated, "chaos_differing": found.rows_differing,
        "chaos_back_p95_s": percentile(quick, 95), "chaos_back_median_s": statistics.median(quick),
        "chaos_rows": found.rows, "chaos_kills": sum(map(len, chaos.back_s.values())), **by_name,
    }  # fmt: skip


def percentile(values: list[float], share: float) -> float:
    """A percentile, of a few or many."""
    return float(np.percentile(values, share))


def main() -> None:
    """Measures and prints."""
    parser = argparse.ArgumentParser(prog="scripts/bench chaos", description=__doc__)
    parser.add_argument("--json", help="where to write the figures")
    parser.add_argument("--kills", type=int, default=KILLS)
    parser.add_argument("--cloud-kills", type=int, default=CLOUD_KILLS)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    if missing():
        raise SystemExit(f"chaos: {missing()}")
    with tempfile.TemporaryDirectory(prefix="bench-chaos-") as path, Lab() as lab:
        lab.link.shape(LOSSY_WAN)
        figures = measure(
            Path(path), lab, kills=options.kills, cloud_kills=options.cloud_kills, seed=options.seed
        )  # fmt: skip
    record("chaos", figures, options.json)


if __name__ == "__main__":
    main()
