"""fleet: seconds from the fleet's start to 50 edges listed, of which one hangs and one lies; ms to place 1,000 robots.

The fleet is a process of its own with its defaults. The edges are real clients in another process: enrolled, TLS, the
edge's own heart, a thread each, without Ray; they know from the start where the fleet will be. One registers and is
never heard again, one claims a camera that its parts do not confirm. Listed means: each of them in its final state.
A plan places 100 requests over 1,000 robots and 100 accelerators; beside it, one bare look at every resource for every
request. Medians of the repeats.
"""

import argparse
import contextlib
import itertools
import multiprocessing
import random
import shutil
import signal
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from multiprocessing.connection import Connection as Pipe
from pathlib import Path

from cloud.authority import Authority
from cloud.fleet.ensure import admin_bundle
from cloud.fleet.server import read_address
from edge.heart import Heart
from hal.placement import ROBOTS, Entry, Request, needs_of, plan
from hal.resources import Capabilities, Resource, ResourceKind
from scripts.benchmarks.machine import record
from user_rl.ask import AcceleratorsAsk, Ask, RobotsAsk
from user_rl.clock import SystemClock
from user_rl.fleet import Card, FleetClient, Part, Status
from user_rl.fleet import Resource as Listed
from user_rl.trust import Bundle

EDGES = 50
ROBOT_COUNT, ACCELERATOR_COUNT, REQUEST_COUNT = 1000, 100, 100
REPEATS, PLANS = 5, 31
POLL_S, LIMIT_S = 0.05, 60.0
HANGS, LIES = "edge-07", "edge-23"
PARTS = (Part(name="robot"), Part(name="wrist"), Part(name="side"))


def start_up() -> tuple[float, list[Listed]]:
    """Seconds from the start of the fleet's process until every edge is listed in its final state, and the list."""
    root = Path(tempfile.mkdtemp(prefix="bench-fleet-"))
    authority = Authority(root / "authority")
    bundles = [authority.mint(f"edge-{i:02d}", kind="edge", fleet_address="") for i in range(EDGES)]
    admin = admin_bundle(root)
    with _edges(bundles) as pipe:
        start_s = time.monotonic()
        fleet = subprocess.Popen([sys.executable, "-m", "cloud.fleet", "--home", root], stderr=subprocess.DEVNULL)
        address = _address(root, start_s)
        pipe.send(address)
        with FleetClient(admin.at(address)) as client:
            listed = _final(client, start_s)
        took_s = time.monotonic() - start_s
    fleet.send_signal(signal.SIGTERM)
    fleet.wait(LIMIT_S)
    shutil.rmtree(root)
    return took_s, listed


def _address(root: Path, start_s: float) -> str:
    while (said := read_address(root)) is None:
        assert time.monotonic() < start_s + LIMIT_S, "the fleet does not say where it listens"
        time.sleep(POLL_S / 5)
    return said.address


def _final(client: FleetClient, start_s: float) -> list[Listed]:
    while True:
        listed = client.list()
        if len(listed) == EDGES and all(r.state in ("free", "quarantined") for r in listed):
            return listed
        assert time.monotonic() < start_s + LIMIT_S, Counter(r.state for r in listed)
        time.sleep(POLL_S)


@contextlib.contextmanager
def _edges(bundles: list[Bundle]) -> Iterator[Pipe]:
    """Their process, ready to be told where the fleet is."""
    context = multiprocessing.get_context("spawn")
    here, there = context.Pipe()
    child = context.Process(target=_live, args=(bundles, there))
    child.start()
    assert here.recv() == "ready"
    try:
        yield here
    finally:
        here.send("stop")
        child.join(LIMIT_S)


def _live(bundles: list[Bundle], pipe: Pipe) -> None:
    pipe.send("ready")
    address = pipe.recv()
    hearts = []
    for bundle in bundles:
        if bundle.name == HANGS:
            threading.Thread(target=_hang, args=(bundle.at(address),), daemon=True).start()
            continue
        heart = Heart(bundle.at(address), _card(bundle.name), SystemClock(), 1.0)
        heart.status = Status(state="waiting for a lease", parts=PARTS[:2] if bundle.name == LIES else PARTS)
        heart.start()
        hearts.append(heart)
    pipe.recv()
    for heart in hearts:
        heart.stop(0.0)


def _hang(bundle: Bundle) -> None:
    with FleetClient(bundle) as client:
        client.register(_card(bundle.name))
        threading.Event().wait()


def _card(name: str) -> Card:
    return Card(
        cell=name, boot=name.encode().hex().ljust(32, "0"), model="light", rate_hz=10.0, schema_digest="d",
        action_dim=7, cameras=("wrist", "side"), on_silence="stops", site="lab", dof=7, control_modes=("position",),
    )  # fmt: skip


def inventory(rng: random.Random) -> list[Entry]:
    """Robots of four models at ten sites, two of three leased to twenty runs; accelerators of 13 machines."""
    owners = ["", *(f"run-{i}" for i in range(20) for _ in range(2))] + [""] * 20
    cells = [_robot(rng, f"arm-{i:04d}", rng.choice(owners)) for i in range(ROBOT_COUNT)]
    kind = ResourceKind.ACCELERATOR
    return cells + [
        Entry(resource=Resource(id=f"gpu:n{i // 8}:{i % 8}", kind=kind, model="gpu", site=f"lab-{i % 10}"))
        for i in range(ACCELERATOR_COUNT)
    ]


def _robot(rng: random.Random, name: str, owner: str) -> Entry:
    can = Capabilities(control_modes=("position",), cameras=("a", "b", "c")[: rng.randrange(4)])
    robot = Resource(
        id=name, kind=ResourceKind.CELL, model=f"model-{rng.randrange(4)}", site=f"lab-{rng.randrange(10)}",
        owner=owner, capabilities=can,
    )  # fmt: skip
    blocked = "is quarantined" if rng.random() < 0.05 else ""
    return Entry(resource=robot, role=ROBOTS if owner else "", blocked=blocked)


def requests(rng: random.Random) -> list[Request]:
    """Of one to eight robots, two of three for one site or with accelerators near the robots, three priorities."""
    made = []
    for i in range(REQUEST_COUNT):
        robots = RobotsAsk(
            count=rng.randint(1, 8), model=rng.choice(["", f"model-{rng.randrange(4)}"]), cameras=rng.randrange(3),
            site=rng.choice(["", f"lab-{rng.randrange(10)}"]),
        )  # fmt: skip
        near = AcceleratorsAsk(gpus=rng.randrange(2), near="robots")
        learner = AcceleratorsAsk(gpus=rng.randrange(3))
        ask = Ask(robots=robots, learner=learner, inference=near, priority=rng.randrange(3))
        made.append(Request(run=f"new-{i}", ask=ask))
    return made


def placing(plans: int) -> tuple[float, float]:
    """Milliseconds of one plan, and of a bare look at every resource for every request; medians of turns."""
    rng = random.Random(0)
    entries, asked = inventory(rng), requests(rng)
    holders = {f"run-{i}": Ask(preemptible=i % 2 == 0, priority=-1) for i in range(20)}
    turns = [
        (_timed(lambda: plan(entries, asked, holders)), _timed(lambda: _look(entries, asked))) for _ in range(plans)
    ]
    return statistics.median(ms for ms, _ in turns), statistics.median(ms for _, ms in turns)


def _timed(call: Callable[[], object]) -> float:
    start_s = time.perf_counter()
    call()
    return 1e3 * (time.perf_counter() - start_s)


def _look(entries: list[Entry], asked: list[Request]) -> None:
    for need, entry in itertools.product([needs_of(request.ask)[0] for request in asked], entries):
        need.means(entry.resource)


def measure(repeats: int) -> dict[str, float]:
    """Every figure."""
    plan_ms, look_ms = placing(PLANS)
    starts = [start_up() for _ in range(repeats)]
    for resource in starts[-1][1]:
        if resource.state == "quarantined":
            print(f"{resource.id}: {resource.reason}")
    states = [Counter(r.state for r in listed) for _, listed in starts]
    return {
        "place_1000_ms": plan_ms,
        "look_1000_ms": look_ms,
        "list_50_s": statistics.median(took_s for took_s, _ in starts),
        "list_50_worst_s": max(took_s for took_s, _ in starts),
        "free": min(found["free"] for found in states),
        "quarantined": max(found["quarantined"] for found in states),
    }


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json")
    parser.add_argument("--repeats", type=int, default=REPEATS)
    args = parser.parse_args()
    record("fleet", measure(args.repeats), args.json)
