"""Batch: B samples as the replay gathers them, in the units of the rows."""

from dataclasses import dataclass
from typing import Any

from user_rl.specs import Array

Values = Any  # a numpy array; a torch tensor, by `replay.device_rows`, on the device where the rows are kept


@dataclass(frozen=True)
class Batch:
    """Row t and what follows it, of B steps. `done` is a termination: no bootstrap; a time limit is not `done`.

    The fields that are None belong to other shapes than single transitions (`cloud.store.shapes`), or to priorities.
    """

    observation: dict[str, Values]  # by name, [B, ...]; [B, L, ...] in a sequence
    action: Values  # [B, A] float32, executed; [B, L, A] in a chunk or a sequence
    reward: Array  # [B] float32; over n steps, discounted; [B, L] in a sequence
    done: Array  # [B] bool
    next_observation: dict[str, Values]  # [B, ...]
    discount: Array | None = None  # [B] float32, of what bootstraps: 0 after a termination; None: gamma, unless done
    mask: Array | None = None  # [B, L] bool, which steps are there; None: one step each
    weight: Array | None = None  # [B] float32, of importance; None: all 1
