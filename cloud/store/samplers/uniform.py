"""Uniform: every transition of a pool alike."""

from dataclasses import dataclass

import numpy as np

from cloud.store.sampler import Drawn, Moment, Pool, plain
from cloud.store.samplers.around import Around


@dataclass(frozen=True, kw_only=True)
class UniformConfig:
    """Which rows."""

    of: Pool = Pool.ONLINE


class Uniform:
    """See cloud.store.sampler.Sampler."""

    def __init__(self, config: UniformConfig, around: Around) -> None:
        self.config = config

    def can_draw(self, at: Moment) -> bool:
        return at.of(self.config.of).can_draw

    def draw(self, at: Moment, rng: np.random.Generator, count: int) -> Drawn:
        return plain(at.of(self.config.of).draw(rng, count))
