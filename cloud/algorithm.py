"""Algorithm: what the learner's loop asks of a learning method. `cloud.kits.check_algorithm` is its contract.

The loop owns everything that is not mathematics: when to publish, save, log and stop, and the refusal to publish NaN.
A config states, beside its own keys, `policy`, `batch_size`, `demonstration_share` (of each batch) and `update_ratio`
(gradient steps per environment step): the replay and the limiter read them there.
"""

from collections.abc import Mapping
from typing import Protocol

from torch import Tensor

from cloud.batch import Batch
from policies.config import PolicyConfig
from user_rl.specs import Array
from user_rl.versions import PolicySpec


class AlgorithmConfig(Protocol):
    """The keys that every algorithm's config has."""

    @property
    def policy(self) -> PolicyConfig: ...
    @property
    def batch_size(self) -> int: ...
    @property
    def demonstration_share(self) -> float: ...
    @property
    def update_ratio(self) -> float: ...


class Algorithm(Protocol):
    """A learner's mathematics. One owner; its randomness is its own generator's."""

    def fit_normaliser(self, observation: Mapping[str, Array]) -> None:
        """Takes the scale of observations from a sample [B, ...] by name; once, before the first update."""

    def update(self, batch: Batch) -> dict[str, Tensor]:
        """One gradient step. Metrics are scalars that stay on the device until someone looks."""

    def policy_spec(self) -> PolicySpec:
        """How an edge rebuilds the policy."""

    def policy_tensors(self) -> dict[str, Array]:
        """The policy's weights now, as copies."""

    def state_dict(self) -> dict[str, Tensor]:
        """Everything that the next update depends on, as copies on the host: flat, tensors only."""

    def load_state_dict(self, state: Mapping[str, Tensor]) -> None:
        """Goes on from `state` bit-identically; raises ConfigError when it is of another configuration."""
