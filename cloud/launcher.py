"""The launcher: one run from its configuration to its report. It drives; it holds no data.

    fleet (outside every run) <- leases      Ray: Gateway, Learner      children: simulated edges

A run that is already there goes on from its manifest: `resume` and `launch run=NAME` are the same thing. Whatever kills
the launcher ends its children and its actors; whoever comes next waits for the run's lock, then goes on.
"""

import contextlib
import os
import signal
import sys
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from pathlib import Path
from types import FrameType
from typing import Any

from rich.console import Console

from cloud.actors import Cloud
from cloud.authority import Authority
from cloud.cells import cell_trees
from cloud.claim import Claim
from cloud.config import STORE, LaunchConfig, build_launch, compose_launch
from cloud.demonstrations import copy_demonstrations
from cloud.disk import DiskWatch, check_space
from cloud.edges import SimulatedEdges
from cloud.ending import finish
from cloud.filming import Filming
from cloud.fleet.ensure import ensure_fleet
from cloud.nodes import Nodes
from cloud.placing import LearnerPlace, ask_of
from cloud.progress import Progress
from cloud.run import RunFolder, edge_name, find_run, keep_config, read_json, write_json
from cloud.shards.assign import loads
from cloud.tracker import Tracker, make_tracker
from user_rl.clock import Clock, SystemClock
from user_rl.config import Tree
from user_rl.errors import ConfigError
from user_rl.files import FileLock
from user_rl.fleet import FleetClient
from user_rl.renewal import Renewal
from user_rl.trust import save_bundle

LOCK_WAIT_S = 30.0
TICK_S = 0.25
EDGES_STOP_S = 30.0
LAUNCH_DAYS = 30.0  # of the keys that each launch makes, for itself and its simulated cells; both renew them


def launch(overrides: list[str]) -> int:
    """Starts the run that `overrides` describe, or goes on with it if `run=NAME` exists; returns the exit status."""
    named = [o.partition("=")[2] for o in overrides if o.startswith("run=")]
    runs = Path(next((o.partition("=")[2] for o in overrides if o.startswith("runs=")), "runs"))
    if named and RunFolder(runs / named[0]).config.is_file():
        return resume(runs, named[0], [o for o in overrides if not o.startswith(("run=", "runs="))])
    tree = compose_launch(overrides)
    tree["run"] = tree["run"] or _new_name(tree)
    folder = RunFolder(Path(tree["runs"], tree["run"]).resolve())
    config = build_launch(tree)
    check_space(folder.root, config.disk.floor_bytes)
    keep_config(folder, {"overrides": overrides, "tree": tree})
    return drive(folder, config, tree)


def resume(runs: Path, name: str, overrides: list[str]) -> int:
    """Goes on with a run; `overrides` may change keys, not the choices that the run was started with."""
    folder = find_run(runs, name)
    kept = read_json(folder.config)
    started = [o for o in kept["overrides"] if o.partition("=")[0] in STORE]
    changed = [o for o in overrides if o.partition("=")[0] in STORE and o not in started]
    if changed:
        allowed = " ".join(started) or "the defaults"
        raise ConfigError(f"run {folder.name}: {changed[0]} on a run that was started with {allowed}; start a new run")
    keys = [o for o in overrides if o.partition("=")[0] not in STORE]
    tree = changed_tree(kept["tree"], keys)
    config = build_launch(tree)
    check_space(folder.root, config.disk.floor_bytes)
    keep_config(folder, {"overrides": kept["overrides"], "tree": tree})
    return drive(folder, config, tree)


def changed_tree(tree: Tree, overrides: list[str]) -> Tree:
    """`tree` with `key.key=value` changes, which `build` checks."""
    from omegaconf import OmegaConf

    merged = OmegaConf.merge(OmegaConf.create(tree), OmegaConf.from_dotlist(overrides))
    changed: Tree = OmegaConf.to_container(merged)  # type: ignore[assignment]  # a mapping stays a mapping
    return changed


def drive(folder: RunFolder, config: LaunchConfig, tree: Tree) -> int:
    """One run under its lock, from start to report; 130 when a person stopped it."""
    clock = SystemClock()
    with contextlib.ExitStack() as on_exit:
        on_exit.callback(FileLock(folder.lock, wait_s=LOCK_WAIT_S, clock=clock).release)
        on_exit.enter_context(_terminated_like_interrupted())
        progress = Progress(folder.name, clock=clock)
        on_exit.callback(progress.close)
        if config.demonstrations.path is not None:
            copied = copy_demonstrations(Path(config.demonstrations.path).expanduser(), folder.log, config.log)
            progress.say(f"{copied} demonstrations from {config.demonstrations.path}")
        progress.say(f"[bold]{folder.name}[/]  in {folder.root}")
        driver = Driver(folder, config, tree, clock=clock, on_exit=on_exit)
        try:
            driver.learn(progress)
        except KeyboardInterrupt:
            driver.stop(progress)
            progress.say(f"stopped; go on with [bold]user-rl resume {folder.name}[/]")
            return 130
        driver.stop(progress)
        progress.close()
        finish(folder, config, tree, driver.status, console=_console())
    return 0


class Driver:
    """A run's processes, started in order and stopped in the opposite one."""

    def __init__(
        self, folder: RunFolder, config: LaunchConfig, tree: Tree, *, clock: Clock, on_exit: contextlib.ExitStack
    ) -> None:
        self._folder, self._config, self._clock = folder, config, clock
        self._cloud = Cloud(folder, config)
        on_exit.callback(self._cloud.close)
        home = Path(config.home).expanduser()
        authority = Authority(home / "authority")
        self._fleet_address = ensure_fleet(home)
        self.status: dict[str, Any] = read_json(folder.status)
        self._shards = ""  # what hinders a move between them
        self._filming = Filming(folder, config.videos)
        on_exit.callback(self._filming.close)
        self._disk = DiskWatch(folder.root, config.disk, clock=clock)
        self._start_s = clock.now_s() - float(self.status.get("wall_s", 0.0))
        self._tracker = make_tracker(config.tracker, folder.root, name=folder.name, config=tree)
        on_exit.callback(self._tracker.close)
        trees = edge_trees(folder, config)
        keys = authority.mint(folder.name, kind="run", fleet_address=self._fleet_address, valid_days=LAUNCH_DAYS)
        self._client, self._renewal = FleetClient(keys), Renewal(keys, keep=lambda keys: None)
        on_exit.callback(self._client.close)
        self._claim = Claim(
            self._client, folder.leases, run=folder.name, ask=ask_of(config, tuple(trees)), clock=clock,
            revive=lambda: ensure_fleet(home),
        )  # fmt: skip
        self._place = LearnerPlace(self._cloud, self._claim)
        self._nodes = Nodes(self._client, clock, site=config.ray.site)
        for cell, edge in trees.items():
            made = authority.mint(cell, kind="edge", fleet_address=self._fleet_address, valid_days=LAUNCH_DAYS)
            save_bundle(made, Path(edge["bundle"]))
        self._edges = SimulatedEdges(folder, trees, clock=clock)
        on_exit.callback(self._edges.stop, timeout_s=EDGES_STOP_S)

    def learn(self, progress: Progress) -> None:
        """Starts everything and watches it until the learner is done."""
        self._cloud.start()
        self._claim.tick(self._cloud.doors)
        self._place.tick()
        self._edges.start()
        while not self._cloud.done():
            self._shards = self._cloud.keep_shards(loads(self._claim.cells_seen))
            self._claim.tick(self._cloud.doors)
            self._renewal.tick(self._client)
            self._place.tick()
            self._nodes.tick()
            self._edges.watch()
            self._look()
            self._filming.tick(self.status.get("episodes") or 0)
            progress.show(self.status)
            self._clock.sleep_until(self._clock.now_s() + TICK_S)
        self._look()

    def stop(self, progress: Progress) -> None:
        """Ends the robots' part first, so that what they hold still arrives, then the cloud's."""
        progress.say("[dim]stopping: checkpoint, then the robots, then what they still hold[/]")
        self._filming.close()
        self._cloud.stop_learner()
        self._claim.release()
        self._edges.stop(timeout_s=EDGES_STOP_S)
        self._look()
        self._cloud.close()

    def _look(self) -> None:
        seen = self._cloud.status()
        wall_s = self._clock.now_s() - self._start_s
        self.status = {**self.status, **seen, "wall_s": wall_s, "driver_pid": os.getpid()}
        self._disk.tick(self.status)
        self.status |= {
            **self._disk.figures, "cells": self._claim.cells_seen or self.status.get("cells", {}),
            "edge_pids": self._edges.pids() or self.status.get("edge_pids", {}),
            "trouble": "; ".join(
                filter(None, (self._claim.trouble, self._place.trouble, self._disk.trouble, self._shards))
            ),
        }  # fmt: skip
        write_json(self._folder.status, self.status)
        _track(self._tracker, self.status)


def edge_trees(folder: RunFolder, config: LaunchConfig) -> dict[str, Tree]:
    """The simulated cells' whole edge configurations, by name; none when the fleet's own robots are asked for."""
    if not config.robots.simulated:
        return {}
    kinds = cell_trees(read_json(folder.config)["tree"]).items()
    named = [(edge_name(folder, kind, i), tree) for i in range(config.robots.count) for kind, tree in kinds]
    return {name: edge_tree(folder, config, tree, name, number) for number, (name, tree) in enumerate(named)}


def edge_tree(folder: RunFolder, config: LaunchConfig, tree: Tree, cell: str, number: int) -> Tree:
    """One of them, of a cell that is configured as in `tree`."""
    home = Path(config.home).expanduser()
    return {
        **tree, "name": cell, "bundle": str(home / "bundles" / f"{cell}.json"), "home": str(folder.edge(cell)),
        "pace": "free", "seed": 1000 * config.seed + number, **config.edge,
    }  # fmt: skip


def _console() -> Console:
    """The terminal, or lines wide enough for the summary where there is none."""
    return Console() if sys.stdout.isatty() else Console(width=120)


def _track(tracker: Tracker, status: Mapping[str, Any]) -> None:
    numbers = {k: float(v) for k, v in status.items() if isinstance(v, int | float) and not isinstance(v, bool)}
    tracker.log(numbers, step=int(status.get("updates") or 0))


def _new_name(tree: Tree) -> str:
    task = tree["task"].get("name", "task")
    what = tree["robot"].get("id", task) if task == "gymnasium" else task
    return f"{what}-{tree['algorithm']['name']}-{datetime.now(UTC):%Y%m%d-%H%M%S}"


@contextlib.contextmanager
def _terminated_like_interrupted() -> Iterator[None]:
    def interrupt(_number: int, _frame: FrameType | None) -> None:
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGTERM, interrupt)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
