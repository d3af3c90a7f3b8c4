"""Fakes of the columns, as products: a log that has every id within bounds, for whoever tests a writer of columns."""

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np

from user_rl.columns.spec import Per
from user_rl.specs import Array


@dataclass
class Bounds:
    """See Ranges. Every stream that is named has the ids `kept`..`last`, and once had those from 0."""

    last: dict[str, int]
    kept: dict[str, int] = field(default_factory=dict)

    def held(self, stream: str, ids: Array, per: Per) -> tuple[Array, Array]:
        was = (ids >= 0) & (ids <= self.last.get(stream, -1))
        return was & (ids >= self.kept.get(stream, 0)), was

    def lowest(self, per: Per) -> Mapping[str, int]:
        return {stream: self.kept.get(stream, 0) for stream in self.last}


def all_written(verdicts: Array) -> bool:
    """Whether nothing was refused and nothing was there before."""
    return not np.any(verdicts)
