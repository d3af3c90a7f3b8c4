"""Demonstrations: episodes that a person showed, and online steps under a person's hand.

Source of the second: HIL-SERL's rule, Luo et al. 2024, arXiv:2410.21845.
"""

from dataclasses import dataclass

import numpy as np

from cloud.store.sampler import Drawn, LateColumns, Moment, Pool, plain
from cloud.store.samplers.around import Around
from cloud.store.view import View
from user_rl.rows import Klass
from user_rl.specs import Array


@dataclass(frozen=True, kw_only=True)
class DemonstrationsConfig:
    """What counts as shown."""

    successful: bool = True  # only episodes that ended in success; interventions count however theirs ends
    interventions: bool = True


@dataclass(frozen=True)
class _Succeeded:
    """Demonstrations of closed episodes that ended in success; online rows pass."""

    lasting = True

    def narrow(self, seen: View) -> View:
        return seen

    def accept(self, seen: View, rows: Array, late: LateColumns | None) -> Array:
        return np.asarray((seen.index.klass.array[rows] == Klass.ONLINE) | seen.has_succeeded(rows))


class Demonstrations:
    """See cloud.store.sampler.Sampler."""

    def __init__(self, config: DemonstrationsConfig, around: Around) -> None:
        self.config = config

    def can_draw(self, at: Moment) -> bool:
        return self._view(at).can_draw

    def draw(self, at: Moment, rng: np.random.Generator, count: int) -> Drawn:
        return plain(self._view(at).draw(rng, count))

    def _view(self, at: Moment) -> View:
        seen = at.within(_Succeeded()) if self.config.successful else at
        return seen.of(Pool.SHOWN if self.config.interventions else Pool.DEMONSTRATIONS)
