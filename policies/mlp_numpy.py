"""The MLP actor in numpy: what acts on a light edge, where there is no torch.

Its tensors are those of `policies.networks.Actor`; a test holds the two equal. One owner: `act` reuses its buffers.
"""

from collections.abc import Mapping

import numpy as np

from policies.config import CLIP, STATE, ActionMap, actor_spec_from_settings
from user_rl.errors import StorageCorrupt
from user_rl.specs import Array, Box
from user_rl.versions import PolicySpec


class NumpyMlp:
    """See policies.policy.Policy."""

    def __init__(self, spec: PolicySpec, tensors: Mapping[str, Array], *, seed: int) -> None:
        self.action: Box = spec.action
        self._spec = actor_spec_from_settings(spec)
        self._map = ActionMap(spec.action)
        self._random = np.random.default_rng(seed)
        sizes = (self._spec.state, *self._spec.hidden)
        self._mean = _take(tensors, "normaliser.mean", sizes[0])
        self._scale = _take(tensors, "normaliser.scale", sizes[0])
        self._input = np.empty(sizes[0], np.float32)
        names = [f"layers.{i}" for i in range(len(sizes) - 1)]
        self._layers = [_layer(tensors, *row) for row in zip(names, sizes[:-1], sizes[1:], strict=True)]
        self._head = _layer(tensors, "head", sizes[-1], 2 * len(spec.action.names))

    def act(self, observation: Mapping[str, Array], *, explore: bool) -> Array:
        x = self._input
        np.subtract(observation[STATE], self._mean, out=x)
        np.divide(x, self._scale, out=x)
        np.minimum(np.maximum(x, -CLIP, out=x), CLIP, out=x)  # np.clip's wrapper costs more than the work
        for weight, bias, out in self._layers:
            np.dot(weight, x, out=out)
            np.add(out, bias, out=out)
            x = np.maximum(out, 0.0, out=out)
        weight, bias, out = self._head
        np.add(np.dot(weight, x, out=out), bias, out=out)
        size = len(out) // 2
        unit = out[:size]
        if explore:
            log_std = np.minimum(np.maximum(out[size:], self._spec.log_std_min), self._spec.log_std_max)
            unit = unit + np.exp(log_std) * self._random.standard_normal(size, np.float32)
        return self._map.to_units(np.tanh(unit))


def _layer(tensors: Mapping[str, Array], name: str, inputs: int, outputs: int) -> tuple[Array, Array, Array]:
    """Weight [outputs, inputs], bias [outputs] and a buffer for the result."""
    weight, bias = _take(tensors, f"{name}.weight", outputs, inputs), _take(tensors, f"{name}.bias", outputs)
    return weight, bias, np.empty(outputs, np.float32)


def _take(tensors: Mapping[str, Array], name: str, *shape: int) -> Array:
    if name not in tensors or tensors[name].shape != shape:
        found = list(tensors[name].shape) if name in tensors else "nothing"
        raise StorageCorrupt(f"weights: {name} is {found}, allowed {list(shape)}; publish the version again")
    return np.ascontiguousarray(tensors[name], np.float32)
