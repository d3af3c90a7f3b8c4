"""The MLP actor in numpy: what acts on a light edge, where there is no torch.

Its tensors are those of `policies.networks.Actor`; a test holds the two equal. One owner: `act` reuses its buffers.
At this size a call to numpy costs more than its arithmetic, so there are few: every vector ends in a 1 that carries the
next layer's bias, and the normaliser's scale is part of the first layer.
"""

from collections.abc import Iterator, Mapping

import numpy as np

from policies.config import CLIP, STATE, ActionMap, actor_spec_from_settings
from user_rl.errors import StorageCorrupt
from user_rl.specs import Array, Box
from user_rl.versions import PolicySpec

_NOISE_ROWS = 256  # drawn at once


class NumpyMlp:
    """See policies.policy.SingleStep."""

    def __init__(self, spec: PolicySpec, tensors: Mapping[str, Array], *, seed: int) -> None:
        self.action: Box = spec.action
        self._map, self._size = ActionMap(spec.action), len(spec.action.names)
        self._random = np.random.default_rng(seed)
        self._noise: Iterator[Array] = iter(())
        actor = actor_spec_from_settings(spec)
        self._mask = list(actor.mask)
        self._log_std = actor.log_std_min, actor.log_std_max
        self._mean = _take(tensors, "normaliser.mean", actor.state)
        scale = _take(tensors, "normaliser.scale", actor.state)
        self._low, self._high = self._mean - CLIP * scale, self._mean + CLIP * scale
        self._input = np.ones(actor.state + 1, np.float32)
        sizes = (actor.state, *actor.hidden)
        self._layers = [_layer(tensors, f"layers.{i}", *sizes[i : i + 2]) for i in range(len(actor.hidden))]
        self._head, self._out = _layer(tensors, "head", sizes[-1], 2 * self._size)
        first = self._layers[0][0] if self._layers else self._head
        first[:, :-1] /= scale

    def act(self, observation: Mapping[str, Array], *, explore: bool) -> Array:
        inside = np.minimum(np.maximum(observation[STATE], self._low), self._high)  # np.clip costs more than its work
        x = self._input
        np.subtract(inside, self._mean, out=x[:-1])
        for weight, out in self._layers:
            np.dot(weight, x, out=out[:-1])
            x = np.maximum(out, 0.0, out=out)
        raw = np.dot(self._head, x, out=self._out[:-1])
        unit = raw[: self._size]
        if explore:
            low, high = self._log_std
            unit = unit + np.exp(np.minimum(np.maximum(raw[self._size :], low), high)) * self._drawn()
        unit = np.tanh(unit)
        return self._map.to_units(unit * observation[STATE][self._mask] if self._mask else unit)

    def _drawn(self) -> Array:
        """The next [A] standard normal numbers."""
        drawn = next(self._noise, None)
        if drawn is None:
            self._noise = iter(self._random.standard_normal((_NOISE_ROWS, self._size), np.float32))
            drawn = next(self._noise)
        return drawn


def _layer(tensors: Mapping[str, Array], name: str, inputs: int, outputs: int) -> tuple[Array, Array]:
    """[outputs, inputs + 1], the bias as the last column, and a buffer for its result that ends in the next 1."""
    weight, bias = _take(tensors, f"{name}.weight", outputs, inputs), _take(tensors, f"{name}.bias", outputs)
    return np.column_stack((weight, bias)), np.ones(outputs + 1, np.float32)


def _take(tensors: Mapping[str, Array], name: str, *shape: int) -> Array:
    if name not in tensors or tensors[name].shape != shape:
        found = list(tensors[name].shape) if name in tensors else "nothing"
        raise StorageCorrupt(f"weights: {name} is {found}, allowed {list(shape)}; publish the version again")
    return np.ascontiguousarray(tensors[name], np.float32)
