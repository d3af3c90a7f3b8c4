"""Remote: the actor that plays chunks made elsewhere. It touches memory only, and never waits.

Each step: take the newest chunk that link has posted, show the observation with what is planned, act by the plan. A
step for which there is no action is the fallback's: the policy beside the robot, or nobody. When the place that was
chosen is the edge itself, the policy beside the robot acts, and glances go on, so that link sees how long it takes.
"""

import logging

import numpy as np

from edge.acting import Actor, Proposal
from edge.config import EdgeConfig
from edge.inference.config import Fallback, InferenceConfig, Where
from edge.inference.window import Posted, Window
from edge.shared import Shared
from hal.cell import Observation
from policies.chunks import Chunk, Player
from user_rl.clock import Clock
from user_rl.errors import ConfigError
from user_rl.rows import Schema

log = logging.getLogger(__name__)

EDGE = "edge"


class RemoteActor:
    """See Actor. `local` is the policy beside the robot, while there is one."""

    def __init__(self, window: Window, config: InferenceConfig, clock: Clock) -> None:
        self._window, self._config, self._clock = window, config, clock
        self._player = Player()
        self._heard = 0  # the number of the last chunk taken in
        self._first = window.step
        self._acted_s = 0.0
        self.local: Actor | None = None
        self.played = self.replaced = 0  # steps that a chunk acted at, and the policy beside the robot in its place

    def over(self, local: Actor | None) -> "RemoteActor | None":
        """This actor with `local` to fall back on; None, and no episode may begin: neither it nor a server is there."""
        self.local = local
        return self if local is not None or self._place not in ("", EDGE) else None

    def begin(self) -> None:
        if self.played or self.replaced:
            log.info("of the episode before, %d steps were chunks', %d the fallback's", self.played, self.replaced)
        self.played = self.replaced = 0
        self._player.clear()
        self._first = self._window.step
        self._acted_s = 0.0
        if self.local is not None:
            self.local.begin()

    def propose(self, seen: Observation, *, explore: bool) -> Proposal | None:
        taken_s, step = self._clock.now_s(), self._window.step
        self._hear(step)
        plan = self._player.prefix(step, self._player.remaining(step))
        self._window.show(
            seen, plan, first=self._first, explore=explore, taken_s=taken_s, acted_s=self._acted_s
        )  # fmt: skip
        self._acted_s = 0.0
        near = self._place == EDGE
        planned = None if near else self._player.at(step)
        if planned is not None:
            self.played += 1
            return Proposal(*planned)
        if self.local is None or not (near or self._config.fallback is Fallback.LOCAL):
            return None
        self.replaced += not near
        begun_s = self._clock.now_s()
        proposal = self.local.propose(seen, explore=explore)
        self._acted_s = self._clock.now_s() - begun_s
        return proposal

    @property
    def _place(self) -> str:
        placed = self._window.placed.read()
        return "" if placed is None else placed.name

    def _hear(self, step: int) -> None:
        posted = self._window.chunk.read()
        if posted is None or self._window.chunk.seen == self._heard:
            return
        self._heard = self._window.chunk.seen
        if posted.first >= self._first:  # of this episode
            self._player.add(_chunk(posted), now=step, frozen=posted.frozen)


def make_remote(shared: Shared, schema: Schema, config: EdgeConfig, clock: Clock) -> RemoteActor | None:
    """The actor that the configuration asks for; None: the policy beside the robot is all. Raises ConfigError."""
    inference = config.inference
    if config.free and inference.where is Where.REMOTE:
        raise ConfigError("inference.where = remote, allowed with pace = real: simulated time does not wait for a link")
    if config.free or inference.near:
        return None
    return RemoteActor(Window(shared, schema), inference, clock)


def _chunk(posted: Posted) -> Chunk:
    actions = np.frombuffer(posted.actions, "<f4").reshape(posted.horizon, -1)
    return Chunk(first=posted.first, actions=actions, version=posted.version, version_hash=posted.version_hash)
