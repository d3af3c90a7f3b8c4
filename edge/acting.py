"""Acting: who proposes the action of a step. A policy beside the robot does, or whatever else keeps `Actor`.

A proposal names the weights that it comes from, for they may change within an episode; its row says which.
"""

from typing import Protocol

import msgspec

from hal.cell import Observation
from policies.policy import Policy
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

    def __init__(self, policy: Policy, version: Version) -> None:
        self._policy, self._number, self._hash = policy, version.number, version.digest16

    def begin(self) -> None:
        """See Actor; a policy that is asked step by step remembers nothing."""

    def propose(self, seen: Observation, *, explore: bool) -> Proposal:
        return Proposal(self._policy.act(seen.values, explore=explore), self._number, self._hash)
