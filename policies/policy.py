"""Policy: observations in, chunks of actions out. `policies.kits` has the contract as a program.

A chunk says what to do at H steps in a row, the first of them that of the observation. A policy of single actions has
chunks of one step; one that is small and fast also keeps `SingleStep`, which the control loop calls.
"""

from collections.abc import Mapping
from typing import Protocol, TypeGuard

import numpy as np

from user_rl.specs import Array, Box


class SingleStep(Protocol):
    """What acts on a robot step by step. Built from a weight version; knows nothing of links or devices."""

    @property
    def action(self) -> Box: ...

    def act(self, observation: Mapping[str, Array], *, explore: bool) -> Array:
        """An action [A] float32 inside `action`'s bounds: sampled with `explore`, else the mode (deterministic)."""


class Policy(Protocol):
    """What acts for many robots at once, in chunks. Built from a weight version; knows nothing of links or devices."""

    horizon: int  # H
    takes_prefix: bool  # whether it completes a chunk whose first actions are given

    @property
    def action(self) -> Box: ...

    def act_chunks(
        self, observations: Mapping[str, Array], *, explore: bool, prefix: Array | None = None, effort: float = 1.0
    ) -> Array:
        """Actions [B, H, A] float32 inside `action`'s bounds, for observations [B, ...] by name; each row for itself.

        `prefix` [B, n, A]: the first n actions, which are certain; without `takes_prefix` it is ignored. `effort` in
        (0, 1]: the share of its denoising steps, one at least; a policy that has none ignores it. An instruction is
        `observations["task"]`, [B] of str.
        """


class Stepwise:
    """See Policy: a policy of single actions, each repeated for `horizon` steps."""

    takes_prefix = False

    def __init__(self, single: SingleStep, horizon: int = 1) -> None:
        self._single, self.horizon = single, horizon

    @property
    def action(self) -> Box:
        return self._single.action

    def act_chunks(
        self, observations: Mapping[str, Array], *, explore: bool, prefix: Array | None = None, effort: float = 1.0
    ) -> Array:
        rows = range(len(next(iter(observations.values()))))
        acted = [self._single.act({n: x[row] for n, x in observations.items()}, explore=explore) for row in rows]
        chunks: Array = np.repeat(np.stack(acted)[:, None], self.horizon, axis=1)
        return chunks


class First:
    """See SingleStep: of each chunk that a policy gives, the first action alone."""

    def __init__(self, policy: Policy) -> None:
        self._policy = policy

    @property
    def action(self) -> Box:
        return self._policy.action

    def act(self, observation: Mapping[str, Array], *, explore: bool) -> Array:
        action: Array = chunk_of(self._policy, observation, explore=explore)[0]
        return action


def as_single(policy: "SingleStep | Policy") -> SingleStep:
    """`policy` if it acts step by step; else the first action of each of its chunks."""
    return First(policy) if gives_chunks(policy) else policy  # type: ignore[return-value]


def gives_chunks(policy: "SingleStep | Policy") -> TypeGuard[Policy]:
    """Whether it puts out several actions at once."""
    return hasattr(policy, "act_chunks")


def as_chunks(policy: "SingleStep | Policy", horizon: int) -> Policy:
    """`policy` if it gives chunks itself, of its own length; else its one action repeated `horizon` times."""
    return policy if gives_chunks(policy) else Stepwise(policy, horizon)  # type: ignore[arg-type]


def chunk_of(
    policy: Policy, observation: Mapping[str, Array], *, explore: bool, prefix: Array | None = None, effort: float = 1.0
) -> Array:
    """The chunk [H, A] for one observation [...] by name; `prefix` [n, A]."""
    batch = {name: np.asarray(value)[None] for name, value in observation.items()}
    first = prefix[None] if prefix is not None else None
    chunk: Array = policy.act_chunks(batch, explore=explore, prefix=first, effort=effort)[0]
    return chunk
