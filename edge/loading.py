"""Loading: the newest version that link has fetched becomes an actor on a thread of its own, so no step waits for it.

What a thread has made is handed over whole, by one assignment. A version that cannot be loaded is named once and the
one before it goes on. The thread runs one below control's priority and above whoever is not in a hurry: while it holds
the interpreter's lock, nobody may take its processor.
"""

import logging
import os
import threading
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from edge.acting import ChunkActor, LocalActor, actor_of
from edge.orders import Orders
from edge.process import FIFO_PRIORITY
from hal.cell import Cell
from policies.load import load
from policies.policy import Policy, SingleStep, as_chunks, chunk_of
from user_rl.errors import ConfigError, SpecError, StorageError
from user_rl.versions import Version

log = logging.getLogger(__name__)

Load = Callable[..., tuple[Version, SingleStep | Policy]]  # (folder, *, seed)
Start = Callable[[Callable[[], None]], None]


@dataclass(frozen=True)
class Loaded:
    """A version that may act, and where it was loaded from."""

    folder: str
    version: Version
    actor: LocalActor | ChunkActor


class Loader:
    """Call `want` from one thread. `start` runs a piece of work, now or elsewhere."""

    def __init__(self, load: Load, seed: Callable[[Orders], int], *, start: Start) -> None:
        self.newest: Loaded | None = None
        self._load, self._seed, self._start = load, seed, start
        self._asked = ""  # the folder that was loaded last, or is being loaded, or could not be
        self._busy = False
        self._life = 0

    def want(self, orders: Orders) -> None:
        """The version that the orders name is to be loaded; returns at once, and does nothing about the same again."""
        if orders.weights != self._asked and orders.weights and not self._busy:
            self._asked, self._busy, life = orders.weights, True, self._life
            self._start(lambda: self._work(orders, life))

    def forget(self) -> None:
        """Nothing that was loaded, or is being loaded, may act any more."""
        self._life += 1
        self.newest, self._asked = None, ""

    def _work(self, orders: Orders, life: int) -> None:
        try:
            version, policy = self._load(Path(orders.weights), seed=self._seed(orders))
            if life == self._life:
                self.newest = Loaded(orders.weights, version, actor_of(policy, version))
        except (StorageError, ConfigError) as error:
            log.error("%s; the robot goes on with the version before it", error)
        finally:
            self._busy = False


def at_once(work: Callable[[], None]) -> None:
    """A start for simulated time, which stands still meanwhile."""
    work()


def beside(work: Callable[[], None]) -> None:
    """A start for real time: a thread, whose priority is one below control's where control has one."""
    threading.Thread(target=_below, args=(work, os.sched_getscheduler(0)), name="weights", daemon=True).start()


def _below(work: Callable[[], None], policy: int) -> None:
    if policy & ~os.SCHED_RESET_ON_FORK == os.SCHED_FIFO:
        os.sched_setscheduler(0, os.SCHED_FIFO, os.sched_param(FIFO_PRIORITY - 1))
    work()


def tried(cell: Cell, load: Load = load) -> Load:
    """A `load` whose policies have acted once, on zeros: a first pass is the slowest, and shows what does not fit."""
    zeros = {name: np.zeros(spec.shape, spec.dtype) for name, spec in cell.observation.items()}

    def load_and_try(folder: Path, *, seed: int) -> tuple[Version, SingleStep | Policy]:
        version, policy = load(folder, seed=seed)
        try:
            for action in chunk_of(as_chunks(policy, 1), zeros, explore=False):
                cell.action.check(action)
        except (ValueError, KeyError, RuntimeError, SpecError) as error:
            raise ConfigError(
                f"version {version.number} cannot act on {cell.name}: {error}; run both sides with one configuration"
            ) from error
        return version, policy

    return load_and_try
