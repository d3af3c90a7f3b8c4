"""Outcome: only rows of closed episodes that succeeded, or that failed."""

from dataclasses import dataclass, field

from cloud.store.sampler import LateColumns
from cloud.store.samplers.around import Around, uniform
from cloud.store.samplers.within import Within
from cloud.store.view import View
from user_rl.config import Tree
from user_rl.specs import Array


@dataclass(frozen=True, kw_only=True)
class OutcomeConfig:
    """Which outcome, and what draws from the rows that have it."""

    success: bool = True
    sampler: Tree = field(default_factory=uniform)


@dataclass(frozen=True)
class Ended:
    """See cloud.store.sampler.Gate."""

    success: bool
    lasting = True

    def narrow(self, seen: View) -> View:
        return seen

    def accept(self, seen: View, rows: Array, late: LateColumns | None) -> Array:
        good = seen.has_succeeded(rows)
        return good if self.success else seen.has_ended(rows) & ~good


def outcome(config: OutcomeConfig, around: Around) -> Within:
    """See the module."""
    return Within(around.make(config.sampler, "sampler."), lambda at: Ended(config.success))
