"""Trainable: a network that imitation can teach and a version can be made of. `policies.registry` names them by kind.

Shape letters: B batch, H steps of a chunk, A elements of an action, in [-1, 1] (`policies.config.ActionMap`).
"""

from collections.abc import Iterator, Mapping
from typing import Any, Protocol

from torch import Generator, Tensor, nn

from user_rl.specs import Array


class Trainable(Protocol):
    """An nn.Module. Its state_dict, normaliser included, is what a version holds."""

    horizon: int  # H

    @property
    def names(self) -> tuple[str, ...]:
        """The observations that it looks at; `task` among them if it reads the instruction."""

    @property
    def settings(self) -> dict[str, Any]:
        """Everything but the weights that it is made of, plain: `PolicySpec.settings`."""

    def fit_normaliser(self, observation: Mapping[str, Array], actions: Array) -> None:
        """Takes the scale of observations [B, ...] by name and, where it normalises them, actions [B, H, A]; once."""

    def loss(
        self, observation: Mapping[str, Tensor], action_bha: Tensor, valid_bh: Tensor, generator: Generator
    ) -> Tensor:
        """The loss [B] of imitating these actions; steps where `valid_bh` is 0 lie beyond the episode's end."""

    def sample(
        self, observation: Mapping[str, Tensor], generator: Generator, *, prefix: Tensor | None = None,
        effort: float = 1.0,
    ) -> Tensor:  # fmt: skip
        """Actions [B, H, A]; `prefix` [B, n, A] and `effort` as in policies.policy.Policy."""

    def parameters(self) -> Iterator[nn.Parameter]: ...
    def state_dict(self) -> dict[str, Tensor]: ...
    def load_state_dict(self, state: Mapping[str, Tensor]) -> Any: ...  # noqa: ANN401
