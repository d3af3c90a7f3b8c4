"""The CNN actor in torch: two cameras and the state. Imported by `policies.load` for a "cnn" version alone.

One thread and no gradients; the number of torch threads belongs to the process.
"""

from collections.abc import Mapping

import torch
from torch import Generator

from policies.config import ActionMap, actor_spec_from_settings
from policies.networks import Actor
from user_rl.errors import StorageCorrupt
from user_rl.specs import Array, Box
from user_rl.versions import PolicySpec


class TorchCnn:
    """See policies.policy.SingleStep."""

    def __init__(self, spec: PolicySpec, tensors: Mapping[str, Array], *, seed: int) -> None:
        self.action: Box = spec.action
        self._map, self._spec = ActionMap(spec.action), actor_spec_from_settings(spec)
        self._generator = Generator().manual_seed(seed)
        self._actor = Actor(self._spec, len(spec.action.names), Generator())
        try:
            self._actor.load_state_dict({name: torch.tensor(value) for name, value in tensors.items()})
        except RuntimeError as error:
            raise StorageCorrupt(f"weights of a {spec.kind} policy: {error}; publish the version again") from error

    @torch.no_grad()
    def act(self, observation: Mapping[str, Array], *, explore: bool) -> Array:
        batch = {name: torch.tensor(observation[name]).unsqueeze(0) for name in self._spec.names}
        features_bf = self._actor.encode(batch)
        if explore:
            unit_ba, _ = self._actor.sample(features_bf, self._generator)
        else:
            unit_ba = self._actor.mode(features_bf)
        return self._map.to_units(unit_ba[0].numpy())
