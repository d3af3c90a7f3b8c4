"""Batch: B transitions as the replay gathers them, numpy, in the units of the rows."""

from dataclasses import dataclass

from user_rl.specs import Array


@dataclass(frozen=True)
class Batch:
    """Row t and row t+1 of B steps. `done` is a termination: no bootstrap; a time limit is not `done`."""

    observation: dict[str, Array]  # by name, [B, ...]
    action: Array  # [B, A] float32, executed
    reward: Array  # [B] float32
    done: Array  # [B] bool
    next_observation: dict[str, Array]
