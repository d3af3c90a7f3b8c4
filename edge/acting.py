"""Acting: who proposes the action of a step. A policy beside the robot does, or whatever else keeps `Actor`.

A proposal names the weights that it comes from, for they may change within an episode (`swap`); its row says which.
"""

from collections.abc import Callable
from typing import Protocol

import msgspec
import numpy as np

from hal.cell import Observation
from policies.policy import Policy, SingleStep, chunk_of, gives_chunks
from user_rl.specs import Array
from user_rl.versions import Version


class Proposal(msgspec.Struct, frozen=True, gc=False):
    """What to do now, and on the word of which weights."""

    action: Array  # [A] float32 in the cell's action units
    version: int
    version_hash: bytes  # 16 bytes, as in a row


class Actor(Protocol):
    """What proposes. Called from control's only thread, within a step: never waits."""

    def begin(self) -> None:
        """An episode starts: nothing of the one before holds."""

    def propose(self, seen: Observation, *, explore: bool) -> Proposal | None:
        """The action for what was seen; None: nothing may act at this step."""


class LocalActor:
    """One version's policy in this process."""

    left = 0  # see Held: a policy that is asked step by step has chunks of one

    def __init__(self, policy: SingleStep, version: Version) -> None:
        self._policy, self._number, self._hash = policy, version.number, version.digest16

    def begin(self) -> None:
        """See Actor; a policy that is asked step by step remembers nothing."""

    def propose(self, seen: Observation, *, explore: bool) -> Proposal:
        return Proposal(self._policy.act(seen.values, explore=explore), self._number, self._hash)


class ChunkActor:
    """One version's policy of chunks in this process: when a chunk is over, the next is made of what is seen then."""

    def __init__(self, policy: Policy, version: Version) -> None:
        self._policy, self._number, self._hash = policy, version.number, version.digest16
        self._chunk: Array = np.zeros((0, 0), np.float32)  # what is still to come

    @property
    def left(self) -> int:
        """See Held."""
        return len(self._chunk)

    def begin(self) -> None:
        """See Actor."""
        self._chunk = self._chunk[:0]

    def propose(self, seen: Observation, *, explore: bool) -> Proposal:
        if not self.left:
            self._chunk = chunk_of(self._policy, seen.values, explore=explore)
        action, self._chunk = self._chunk[0], self._chunk[1:]
        return Proposal(action, self._number, self._hash)


def actor_of(policy: SingleStep | Policy, version: Version) -> "LocalActor | ChunkActor":
    """What proposes by this policy, step by step where it can."""
    return ChunkActor(policy, version) if gives_chunks(policy) else LocalActor(policy, version)  # type: ignore[arg-type]


class Held(Protocol):
    """An actor of fixed weights."""

    @property
    def left(self) -> int:
        """Actions of its running chunk that are still to come; 0: the next step begins another."""

    def begin(self) -> None: ...

    def propose(self, seen: Observation, *, explore: bool) -> Proposal | None: ...


class Swapping:
    """See Actor. What `newest` returns acts from the next step on, or with `chunks` when the running chunk is over."""

    def __init__(self, newest: Callable[[], Held], *, chunks: bool) -> None:
        self._newest, self._chunks, self._acting = newest, chunks, newest()

    def begin(self) -> None:
        self._take(self._newest())

    def propose(self, seen: Observation, *, explore: bool) -> Proposal | None:
        newest = self._newest()
        if newest is not self._acting and not (self._chunks and self._acting.left):
            self._take(newest)
        return self._acting.propose(seen, explore=explore)

    def _take(self, actor: Held) -> None:
        self._acting = actor
        actor.begin()
