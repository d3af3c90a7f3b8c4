"""SAC: soft actor-critic with two critics and a learnt temperature.

Source: Haarnoja et al. 2018, arXiv:1812.05905, algorithm 1. Differs from the paper: gamma 0.98, as goals are a few
dozen steps away. From cameras, as DrQ-v2: the encoder learns from the critics alone, and has no target copy.

Shape letters: B batch, F features, A action, N critics.
"""

import copy
from collections.abc import Mapping
from dataclasses import dataclass, field

import torch
from torch import Generator, Tensor
from torch.nn import functional

from cloud.adam import Adam
from cloud.batch import Batch
from cloud.state import Part, pack, unpack
from cloud.tensors import Transitions, pick_device, shifted, to_transitions
from policies.config import STATE, ActionMap, PolicyConfig, actor_spec
from policies.networks import Actor, Critics
from user_rl.rows import Schema
from user_rl.specs import Array
from user_rl.versions import PolicySpec


@dataclass(frozen=True, kw_only=True)
class SacConfig:
    """Every hyper-parameter."""

    policy: PolicyConfig = field(default_factory=PolicyConfig)
    demonstration_share: float = 0.0  # of each batch
    update_ratio: float = 1.0  # updates per environment step
    batch_size: int = 256
    gamma: float = 0.98
    tau: float = 0.005  # of the target critics, per update
    learning_rate: float = 3e-4  # of actor, critics and temperature
    critic_hidden: tuple[int, ...] = (256, 256)
    initial_temperature: float = 0.2
    target_entropy_per_action: float = -1.0  # nats
    image_shift: int = 4  # pixels, each way
    device: str = "cpu"  # a torch device, or "auto": a GPU where there is one


class Sac:
    """See cloud.algorithm.Algorithm."""

    def __init__(self, config: SacConfig, schema: Schema, seed: int) -> None:
        self.config, self._action = config, schema.action
        self._map, self._spec = ActionMap(schema.action), actor_spec(config.policy, schema)
        self._device = pick_device(config.device)
        actions, initial = len(schema.action.names), Generator().manual_seed(seed)
        self.actor = Actor(self._spec, actions, initial).to(self._device)
        self.critics = Critics(
            self.actor.features, actions, config.critic_hidden,
            count=2, layer_norm=False, generator=initial,
        ).to(self._device)  # fmt: skip
        self.targets = copy.deepcopy(self.critics)
        self.log_temperature = torch.tensor(config.initial_temperature, device=self._device).log().requires_grad_()
        self._critic_pairs: tuple[list[Tensor], list[Tensor]] = (
            list(self.targets.parameters()),
            list(self.critics.parameters()),
        )
        critic_parameters = [*self.critics.parameters(), *self.actor.encoder_parameters()]
        self._actor_adam = Adam(self.actor.head_parameters(), config.learning_rate)
        self._critic_adam = Adam(critic_parameters, config.learning_rate)
        self._temperature_adam = Adam([self.log_temperature], config.learning_rate)
        self._generator = Generator(self._device).manual_seed(seed)

    def fit_normaliser(self, observation: Mapping[str, Array]) -> None:
        self.actor.normaliser.fit(observation[STATE])

    def update(self, batch: Batch) -> dict[str, Tensor]:
        data = to_transitions(batch, self._map, self._spec, self._device, gamma=self.config.gamma)
        if self._spec.images:
            data = shifted(data, self.config.image_shift, self._generator)
        features_bf, metrics = self._update_critics(data)
        metrics |= self._update_actor(features_bf)
        with torch.no_grad():
            torch._foreach_lerp_(*self._critic_pairs, self.config.tau)
        return metrics

    def _update_critics(self, data: Transitions) -> tuple[Tensor, dict[str, Tensor]]:
        features_bf = self.actor.encode(data.observation)
        target_b = self._target(data)
        values_nb = self.critics(features_bf, data.action_ba)
        loss = functional.mse_loss(values_nb, target_b.expand_as(values_nb))
        self._critic_adam.descend(loss)
        return features_bf.detach(), {"critic_loss": loss.detach(), "value": values_nb.detach().mean()}

    @torch.no_grad()
    def _target(self, data: Transitions) -> Tensor:
        next_features_bf = self.actor.encode(data.next_observation)
        next_action_ba, log_prob_b = self.actor.sample(next_features_bf, self._generator)
        next_values_nb = self.targets(next_features_bf, next_action_ba)
        next_value_b = next_values_nb.amin(dim=0) - self.log_temperature.exp() * log_prob_b
        target_b: Tensor = data.reward_b + self.config.gamma * data.goes_on_b * next_value_b
        return target_b

    def _update_actor(self, features_bf: Tensor) -> dict[str, Tensor]:
        action_ba, log_prob_b = self.actor.sample(features_bf, self._generator)
        value_b = self.critics(features_bf, action_ba).amin(dim=0)
        temperature = self.log_temperature.detach().exp()
        loss = (temperature * log_prob_b - value_b).mean()
        self._actor_adam.descend(loss)
        entropy = -log_prob_b.detach().mean()
        temperature_loss = self.log_temperature.exp() * (entropy - self._target_entropy(features_bf))
        self._temperature_adam.descend(temperature_loss)
        return {"actor_loss": loss.detach(), "entropy": entropy, "temperature": temperature}

    def _target_entropy(self, features_bf: Tensor) -> Tensor | float:
        """Of the elements of the action that are there."""
        mask_ba = self.actor.mask(features_bf)
        elements = len(self._action.names) if mask_ba is None else mask_ba.sum(dim=1).mean()
        return self.config.target_entropy_per_action * elements

    def policy_spec(self) -> PolicySpec:
        return PolicySpec(self.config.policy.kind, self._action, self._spec.settings)

    def policy_tensors(self) -> dict[str, Array]:
        return {name: value.detach().cpu().numpy().copy() for name, value in self.actor.state_dict().items()}

    def state_dict(self) -> dict[str, Tensor]:
        return pack(self._parts())

    def load_state_dict(self, state: Mapping[str, Tensor]) -> None:
        unpack(self._parts(), state)

    def _parts(self) -> dict[str, Part]:
        return {
            "actor": self.actor, "critics": self.critics, "targets": self.targets,
            "log_temperature": self.log_temperature, "actor_adam": self._actor_adam,
            "critic_adam": self._critic_adam, "temperature_adam": self._temperature_adam,
            "generator": self._generator,
        }  # fmt: skip
