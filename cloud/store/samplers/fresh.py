"""Fresh: only rows whose weights are at most so many versions old when the batch is consumed: a staleness gate.

A row that no version acted in (a person's demonstration, version 0) has no age and is not fresh.
"""

from dataclasses import dataclass, field, replace

import numpy as np

from cloud.store.sampler import LateColumns
from cloud.store.samplers.around import Around, uniform
from cloud.store.samplers.within import Within
from cloud.store.view import View
from user_rl.config import Tree
from user_rl.specs import Array

BLOCK = 4096  # rows looked at together for the first fresh one


@dataclass(frozen=True, kw_only=True)
class FreshConfig:
    """The gate's width, and what draws from the rows that pass."""

    max_versions: int  # between the row's and that expected at consumption
    sampler: Tree = field(default_factory=uniform)

    def __post_init__(self) -> None:
        if self.max_versions < 0:
            raise ValueError(f"max_versions = {self.max_versions}, allowed 0 or more; 0 is on-policy data alone")


@dataclass(frozen=True)
class NotOlder:
    """See cloud.store.sampler.Gate."""

    version: int  # the oldest that passes
    lasting = False

    def narrow(self, seen: View) -> View:
        """From the first fresh row on: before the first peak that is high enough there is none."""
        peak = seen.index.peak.array
        start = int(np.searchsorted(seen.rows, int(np.searchsorted(peak, self.version))))
        while start < len(seen.rows):
            fresh = seen.index.version.array[seen.rows[start : start + BLOCK]] >= self.version
            if fresh.any():
                return replace(seen, rows=seen.rows[start + int(fresh.argmax()) :])
            start += BLOCK
        return replace(seen, rows=seen.rows[:0])

    def accept(self, seen: View, rows: Array, late: LateColumns | None) -> Array:
        return np.asarray(seen.index.version.array[rows] >= self.version)


def fresh(config: FreshConfig, around: Around) -> Within:
    """See the module."""
    inner = around.make(config.sampler, "sampler.")
    return Within(inner, lambda at: NotOlder(max(1, at.version - config.max_versions)))
