"""The networks that algorithms share: normaliser, squashed-Gaussian actor, an ensemble of critics.

Sources: tanh-squashed Gaussian, Haarnoja et al. 2018 (arXiv:1801.01290, appendix C); LayerNorm in critics, Ball et al.
2023 (arXiv:2302.02948). Randomness comes from the generators passed in, never from torch's global one.

Shape letters: B batch, F features, A action, N critics, H hidden units.
"""

import itertools
import math
from collections.abc import Mapping, Sequence

import numpy as np
import torch
from torch import Generator, Tensor, nn
from torch.nn import functional

from policies.config import CLIP, STATE, ActorSpec
from policies.pixels import Pixels
from user_rl.specs import Array

SMALLEST_SCALE = 1e-3  # a feature that varies less is taken for constant, and only centred
LOG_2PI, LOG_2 = math.log(2 * math.pi), math.log(2.0)


class Normaliser(nn.Module):
    """Centres and scales a vector; fitted once, then part of every version."""

    mean: Tensor
    scale: Tensor

    def __init__(self, size: int, flags: Sequence[int] = ()) -> None:
        """`flags`: elements that stay as they are."""
        super().__init__()
        self._flags = list(flags)
        self.register_buffer("mean", torch.zeros(size))
        self.register_buffer("scale", torch.ones(size))

    def fit(self, values: Array) -> None:
        """Takes mean and scale from `values` [B, size]."""
        mean, std = values.mean(axis=0, dtype=np.float64), values.std(axis=0, dtype=np.float64)
        mean[self._flags], std[self._flags] = 0.0, 1.0
        self.mean.copy_(torch.tensor(mean))
        self.scale.copy_(torch.tensor(np.where(std < SMALLEST_SCALE, 1.0, std)))

    def forward(self, x: Tensor) -> Tensor:
        return ((x - self.mean) / self.scale).clamp(-CLIP, CLIP)


class Actor(nn.Module):
    """Observation → features → mean and log std of the action before tanh. Its state_dict is what a version holds.

    `encode` is apart from `forward` because critics look at the same features. Elements of the action that a cell
    does not have (`ActorSpec.mask`) are 0, and their noise counts for nothing.
    """

    def __init__(self, spec: ActorSpec, actions: int, generator: Generator) -> None:
        super().__init__()
        self.spec = spec
        self.normaliser = Normaliser(spec.state, spec.flags)
        self.pixels = Pixels(spec.images, spec.pixel_features, generator) if spec.images else None
        self.features = spec.state + len(spec.images) * spec.pixel_features
        sizes = (self.features, *spec.hidden)
        self.layers = nn.ModuleList(make_linear(*pair, generator) for pair in itertools.pairwise(sizes))
        self.head = make_linear(sizes[-1], 2 * actions, generator)

    def encode(self, observation: Mapping[str, Tensor]) -> Tensor:
        """[B, F] features; images are uint8 [B, height, width, channels]."""
        state: Tensor = self.normaliser(observation[STATE])
        return state if self.pixels is None else torch.cat([state, self.pixels(observation)], dim=1)

    def encoder_parameters(self) -> list[nn.Parameter]:
        """What `encode` learns with; none without cameras."""
        return [] if self.pixels is None else list(self.pixels.parameters())

    def head_parameters(self) -> list[nn.Parameter]:
        """What `forward` learns with."""
        return [*self.layers.parameters(), *self.head.parameters()]

    def forward(self, features_bf: Tensor) -> tuple[Tensor, Tensor]:
        """Mean and log std [B, A] of the Gaussian that tanh squashes."""
        x = features_bf
        for layer in self.layers:
            x = functional.relu(layer(x), inplace=True)
        mean_ba, log_std_ba = self.head(x).chunk(2, dim=1)
        return mean_ba, log_std_ba.clamp(self.spec.log_std_min, self.spec.log_std_max)

    def sample(self, features_bf: Tensor, generator: Generator) -> tuple[Tensor, Tensor]:
        """A reparametrised action [B, A] in (-1, 1) and its log-probability [B]."""
        mean_ba, log_std_ba = self(features_bf)
        noise_ba = torch.empty_like(mean_ba).normal_(generator=generator)
        raw_ba = torch.addcmul(mean_ba, log_std_ba.exp(), noise_ba)
        mask_ba, action_ba = self.mask(features_bf), raw_ba.tanh()
        log_prob_b = squashed_log_prob(raw_ba, noise_ba, log_std_ba, mask_ba)
        return action_ba if mask_ba is None else action_ba * mask_ba, log_prob_b

    def mode(self, features_bf: Tensor) -> Tensor:
        """The action [B, A] that is likeliest before tanh."""
        action_ba: Tensor = self(features_bf)[0].tanh()
        mask_ba = self.mask(features_bf)
        return action_ba if mask_ba is None else action_ba * mask_ba

    def mask(self, features_bf: Tensor) -> Tensor | None:
        """[B, A]: 1 for the elements of the action that are there; None: all are. The normaliser left it as it was."""
        mask_ba: Tensor | None = features_bf[:, list(self.spec.mask)] if self.spec.mask else None
        return mask_ba


def squashed_log_prob(raw_ba: Tensor, noise_ba: Tensor, log_std_ba: Tensor, mask_ba: Tensor | None = None) -> Tensor:
    """log p(tanh(raw)) [B], where raw = mean + std * noise, over the elements that are there."""
    gaussian_ba = -0.5 * noise_ba.square() - log_std_ba - 0.5 * LOG_2PI
    squash_ba = 2.0 * (LOG_2 - raw_ba - functional.softplus(-2.0 * raw_ba))  # log(1 - tanh²), stable
    log_prob_ba = gaussian_ba - squash_ba
    return (log_prob_ba if mask_ba is None else log_prob_ba * mask_ba).sum(dim=1)


class Critics(nn.Module):
    """N independent MLP critics. On one CPU thread a product per critic is a fifth faster than one batched product."""

    def __init__(
        self, features: int, actions: int, hidden: Sequence[int], *, count: int, layer_norm: bool, generator: Generator
    ) -> None:
        super().__init__()
        sizes = (features + actions, *hidden)
        self.members = nn.ModuleList(_critic(sizes, layer_norm, generator) for _ in range(count))

    def forward(self, features_bf: Tensor, action_ba: Tensor) -> Tensor:
        """The values [N, B]."""
        x = torch.cat([features_bf, action_ba], dim=1)
        return torch.stack([member(x).squeeze(1) for member in self.members])


def _critic(sizes: Sequence[int], layer_norm: bool, generator: Generator) -> nn.Sequential:
    parts: list[nn.Module] = []
    for inputs, outputs in itertools.pairwise(sizes):
        parts += [
            make_linear(inputs, outputs, generator),
            *([nn.LayerNorm(outputs)] if layer_norm else []),
            nn.ReLU(inplace=True),
        ]
    return nn.Sequential(*parts, make_linear(sizes[-1], 1, generator))


def make_linear(inputs: int, outputs: int, generator: Generator) -> nn.Linear:
    """A linear layer whose weights and biases are uniform in ±1/sqrt(inputs), torch's own rule, from `generator`."""
    layer: nn.Linear = nn.utils.skip_init(nn.Linear, inputs, outputs)
    bound = 1 / math.sqrt(inputs)
    nn.init.uniform_(layer.weight, -bound, bound, generator=generator)
    nn.init.uniform_(layer.bias, -bound, bound, generator=generator)
    return layer
