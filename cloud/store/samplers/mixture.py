"""Mixture: an exact number of samples from each of several samplers, in their order."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from cloud.store.sampler import Drawn, Learning, Moment, State
from cloud.store.samplers.around import Around
from user_rl.config import Tree
from user_rl.errors import NothingToDraw
from user_rl.specs import Array

CLOSE = 1e-9  # of the shares to a sum of 1


@dataclass(frozen=True, kw_only=True)
class PartConfig:
    """One part of a mixture."""

    share: float  # of the batch
    sampler: Tree

    def __post_init__(self) -> None:
        if not 0 <= self.share <= 1:
            raise ValueError(f"share = {self.share}, allowed 0 to 1; it is a fraction of the batch")


@dataclass(frozen=True, kw_only=True)
class MixtureConfig:
    """The parts, as they stand in the batch. A part that has nothing leaves its share to the others."""

    parts: tuple[PartConfig, ...]

    def __post_init__(self) -> None:
        total = sum(part.share for part in self.parts)
        if abs(total - 1) > CLOSE:
            raise ValueError(f"parts = shares of {total:.6g} in sum, allowed 1; change one share")


class Mixture:
    """See cloud.store.sampler.Sampler and Learning."""

    def __init__(self, config: MixtureConfig, around: Around) -> None:
        self._shares = [part.share for part in config.parts]
        self.parts = [around.make(p.sampler, f"parts[{i}].sampler.") for i, p in enumerate(config.parts)]
        self._learning = {i: part for i, part in enumerate(self.parts) if isinstance(part, Learning)}
        self._cuts: dict[int, list[int]] = {}  # by draw: where the parts begin, until its priorities come

    def can_draw(self, at: Moment) -> bool:
        return self._sizes(at, at.count) is not None

    def draw(self, at: Moment, rng: np.random.Generator, count: int) -> Drawn:
        sizes = self._sizes(at, count)
        if sizes is None:
            raise NothingToDraw(
                f"none of {len(self.parts)} parts of the mixture has a row that may be drawn; wait for rows"
            )
        drawn = [part.draw(at, rng, size) for part, size in zip(self.parts, sizes, strict=True) if size]
        if self.heeds:
            self._cuts[at.number] = [0, *np.cumsum(sizes).tolist()]
        return Drawn(np.concatenate([d.rows for d in drawn]), np.concatenate([d.weights for d in drawn]))

    @property
    def heeds(self) -> bool:
        return any(part.heeds for part in self._learning.values())

    def update(self, number: int, rows: Array, priorities: Array) -> None:
        cuts = self._cuts.pop(number, [0] * (len(self.parts) + 1))
        for i, part in self._learning.items():
            piece = slice(cuts[i], cuts[i + 1])
            if cuts[i + 1] > cuts[i]:
                part.update(number, rows[piece], priorities[piece])

    def take_back(self, number: int) -> None:
        self._cuts = {n: cuts for n, cuts in self._cuts.items() if n < number}
        for part in self._learning.values():
            part.take_back(number)

    def state_dict(self, number: int) -> State:
        states = {i: part.state_dict(number) for i, part in self._learning.items()}
        return {f"{i}.{name}": value for i, state in states.items() for name, value in state.items()}

    def load_state_dict(self, state: Mapping[str, Array]) -> None:
        self._cuts.clear()
        for i, part in self._learning.items():
            prefix = f"{i}."
            part.load_state_dict({n.removeprefix(prefix): v for n, v in state.items() if n.startswith(prefix)})

    def _sizes(self, at: Moment, count: int) -> list[int] | None:
        """How many each part draws; a part that has not so many leaves its share to the others. None: all have none."""
        able = [True] * len(self.parts)
        while any(able):
            each = iter(counts(tuple(s for s, here in zip(self._shares, able, strict=True) if here), count))
            sizes = [next(each) if here else 0 for here in able]
            short = [i for i, n in enumerate(sizes) if n and not self._can_draw(i, at, n)]
            if not short:
                return sizes
            able = [here and i not in short for i, here in enumerate(able)]
        return None

    def _can_draw(self, i: int, at: Moment, size: int) -> bool:
        """Only a part that keeps a state may have some rows and not enough: the others draw a row as often as asked."""
        return self.parts[i].can_draw(at.asking(size) if i in self._learning else at)


@lru_cache(maxsize=64)
def counts(shares: tuple[float, ...], size: int) -> tuple[int, ...]:
    """`size` in whole numbers by shares, which need not sum to 1: the largest remainders are rounded up, first first.

    Shares of nothing but 0 count alike.
    """
    weights = np.asarray(shares) if sum(shares) > 0 else np.ones(len(shares))
    exact = weights / weights.sum() * size
    whole = np.floor(exact).astype(np.int64)
    left = np.argsort(np.round(whole - exact, 9), kind="stable")[: size - int(whole.sum())]
    whole[left] += 1
    return tuple(int(n) for n in whole)
