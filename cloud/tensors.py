"""From a batch of rows to what an algorithm computes with: tensors on its device, actions in [-1, 1].

Shape letters: B batch, A action.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Generator, Tensor

from cloud.batch import Batch, Values
from policies.config import STATE, ActionMap, ActorSpec
from policies.pixels import random_shift
from user_rl.errors import ConfigError
from user_rl.specs import Array


@dataclass(frozen=True)
class Transitions:
    """A batch on the device. Observations hold what the actor looks at, by name."""

    observation: dict[str, Tensor]
    action_ba: Tensor  # in [-1, 1]
    reward_b: Tensor
    goes_on_b: Tensor  # how much of gamma times what follows counts: 1; 0 after a termination; gamma^(n-1) over n steps
    next_observation: dict[str, Tensor]


def pick_device(name: str) -> torch.device:
    """The device called `name`; "auto" is a GPU where there is one. Raises ConfigError for one that is not here."""
    try:
        device = torch.device("cuda" if torch.cuda.is_available() else "cpu") if name == "auto" else torch.device(name)
    except RuntimeError as error:
        raise ConfigError(f"device = {name!r}: {error}; set device=auto".splitlines()[0]) from error
    if device.type == "cuda" and not torch.cuda.is_available():
        raise ConfigError(f"device = {name!r}, but this machine has no CUDA GPU; set device=cpu")
    return device


def to_transitions(
    batch: Batch, actions: ActionMap, spec: ActorSpec, device: torch.device, *, gamma: float = 1.0
) -> Transitions:
    """`batch` on `device`, without what the actor does not look at. `gamma` is the algorithm's, of one step."""
    observation, action_ba = to_tensors(batch.observation, spec, device), _tensor(_unit(actions, batch.action), device)
    if spec.mask:  # whatever stands in an element that a cell does not have, nobody learns from it
        action_ba = action_ba * observation[STATE][..., list(spec.mask)]
    return Transitions(
        observation=observation,
        action_ba=action_ba,
        reward_b=_tensor(batch.reward, device),
        goes_on_b=_tensor(_goes_on(batch, gamma), device),
        next_observation=to_tensors(batch.next_observation, spec, device),
    )


def _goes_on(batch: Batch, gamma: float) -> Array:
    if batch.discount is None:
        return 1 - batch.done.astype(np.float32)
    return (batch.discount / gamma).astype(np.float32)


def to_tensors(observation: Mapping[str, Values], spec: ActorSpec, device: torch.device) -> dict[str, Tensor]:
    """What the actor looks at, by name."""
    return {name: _tensor(observation[name], device) for name in spec.names}


def shifted(data: Transitions, pad: int, generator: Generator) -> Transitions:
    """Images of both observations moved at random, each on its own."""
    return replace(
        data,
        observation=_shift(data.observation, pad, generator),
        next_observation=_shift(data.next_observation, pad, generator),
    )


def _unit(actions: ActionMap, action: Values) -> Values:
    """As `ActionMap.to_unit`, where the action is."""
    if isinstance(action, np.ndarray):
        return actions.to_unit(action)
    low, high = (torch.from_numpy(edge).to(action.device) for edge in (actions.centre, actions.half))
    return (action - low) / high


def _tensor(array: Values, device: torch.device) -> Tensor:
    if isinstance(array, Tensor):
        return array.to(device)
    return torch.from_numpy(array if array.flags.writeable else array.copy()).to(
        device
    )  # torch wants to be able to write


def _shift(observation: Mapping[str, Tensor], pad: int, generator: Generator) -> dict[str, Tensor]:
    return {n: x if n == STATE else random_shift(x, pad, generator) for n, x in observation.items()}
