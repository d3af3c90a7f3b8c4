"""Policy: observation in, action out. `policies.kits.check_policy` is the contract as a program."""

from collections.abc import Mapping
from typing import Protocol

from user_rl.specs import Array, Box


class Policy(Protocol):
    """What acts on a robot. Built from a weight version; knows nothing of links or devices."""

    @property
    def action(self) -> Box: ...

    def act(self, observation: Mapping[str, Array], *, explore: bool) -> Array:
        """An action [A] float32 inside `action`'s bounds: sampled with `explore`, else the mode (deterministic)."""
