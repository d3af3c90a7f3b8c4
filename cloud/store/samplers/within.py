"""Within: a sampler that sees only the rows which pass a gate. The conditions on rows are made of it."""

from collections.abc import Callable, Mapping

import numpy as np

from cloud.store.sampler import Drawn, Gate, Learning, Moment, Sampler, State
from user_rl.specs import Array


class Within:
    """See cloud.store.sampler.Sampler and Learning."""

    def __init__(self, inner: Sampler, gate: Callable[[Moment], Gate]) -> None:
        self.inner, self._gate = inner, gate

    def can_draw(self, at: Moment) -> bool:
        return self.inner.can_draw(at.within(self._gate(at)))

    def draw(self, at: Moment, rng: np.random.Generator, count: int) -> Drawn:
        return self.inner.draw(at.within(self._gate(at)), rng, count)

    @property
    def heeds(self) -> bool:
        return isinstance(self.inner, Learning) and self.inner.heeds

    def update(self, number: int, rows: Array, priorities: Array) -> None:
        if isinstance(self.inner, Learning):
            self.inner.update(number, rows, priorities)

    def take_back(self, number: int) -> None:
        if isinstance(self.inner, Learning):
            self.inner.take_back(number)

    def state_dict(self, number: int) -> State:
        return self.inner.state_dict(number) if isinstance(self.inner, Learning) else {}

    def load_state_dict(self, state: Mapping[str, Array]) -> None:
        if isinstance(self.inner, Learning):
            self.inner.load_state_dict(state)
