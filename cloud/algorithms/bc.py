"""BC: behaviour cloning, the baseline beside reinforcement learning: the actor's mode regressed on demonstrations.

Source: Pomerleau 1991, "Efficient training of artificial neural networks for autonomous navigation". Differs: squared
error in [-1, 1] action units, which stays finite where an operator saturates the action, as a tanh Gaussian's
likelihood does not; exploration noise is a constant.

Shape letters: B batch, A action.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Generator, Tensor
from torch.nn import functional

from cloud.adam import Adam
from cloud.batch import Batch
from cloud.state import Part, pack, unpack
from cloud.tensors import pick_device, shifted, to_transitions
from policies.config import STATE, ActionMap, PolicyConfig, actor_spec
from policies.networks import Actor
from user_rl.rows import Schema
from user_rl.specs import Array
from user_rl.versions import PolicySpec


@dataclass(frozen=True, kw_only=True)
class BcConfig:
    """Every hyper-parameter."""

    policy: PolicyConfig = field(default_factory=PolicyConfig)
    demonstration_share: float = 1.0  # of each batch
    update_ratio: float = 1.0  # updates per environment step
    batch_size: int = 256
    learning_rate: float = 3e-4
    exploration_std: float = 0.05  # of the action in [-1, 1], before tanh
    image_shift: int = 4  # pixels, each way
    device: str = "cpu"  # a torch device, or "auto": a GPU where there is one


class Bc:
    """See cloud.algorithm.Algorithm."""

    def __init__(self, config: BcConfig, schema: Schema, seed: int) -> None:
        self.config, self._action = config, schema.action
        self._map, self._spec = ActionMap(schema.action), actor_spec(config.policy, schema)
        self._device = pick_device(config.device)
        actions = len(schema.action.names)
        actor = Actor(self._spec, actions, Generator().manual_seed(seed))
        with torch.no_grad():  # the log std is a constant: the loss sends these rows no gradient
            actor.head.weight[actions:] = 0.0
            actor.head.bias[actions:] = float(np.log(config.exploration_std))
        self.actor = actor.to(self._device)
        self._adam = Adam(self.actor.parameters(), config.learning_rate)
        self._generator = Generator(self._device).manual_seed(seed)

    def fit_normaliser(self, observation: Mapping[str, Array]) -> None:
        self.actor.normaliser.fit(observation[STATE])

    def update(self, batch: Batch) -> dict[str, Tensor]:
        data = to_transitions(batch, self._map, self._spec, self._device)
        if self._spec.images:
            data = shifted(data, self.config.image_shift, self._generator)
        features_bf = self.actor.encode(data.observation)
        loss = functional.mse_loss(self.actor.mode(features_bf), data.action_ba)
        if (mask_ba := self.actor.mask(features_bf)) is not None:
            loss = loss / mask_ba.mean()  # a mean over the elements that are there
        self._adam.descend(loss)
        return {"actor_loss": loss.detach()}

    def policy_spec(self) -> PolicySpec:
        return PolicySpec(self.config.policy.kind, self._action, self._spec.settings)

    def policy_tensors(self) -> dict[str, Array]:
        return {name: value.detach().cpu().numpy().copy() for name, value in self.actor.state_dict().items()}

    def state_dict(self) -> dict[str, Tensor]:
        return pack(self._parts())

    def load_state_dict(self, state: Mapping[str, Tensor]) -> None:
        unpack(self._parts(), state)

    def _parts(self) -> dict[str, Part]:
        return {"actor": self.actor, "adam": self._adam, "generator": self._generator}
