"""Ready: only rows that have a value in a late column, such as `reward@classifier-3`."""

from dataclasses import dataclass, field

from cloud.store.sampler import LateColumns
from cloud.store.samplers.around import Around, uniform
from cloud.store.samplers.within import Within
from cloud.store.view import View
from user_rl.config import Tree
from user_rl.errors import ConfigError
from user_rl.specs import Array


@dataclass(frozen=True, kw_only=True)
class ReadyConfig:
    """Which column, and what draws from the rows that have it."""

    column: str  # name@writer-version
    sampler: Tree = field(default_factory=uniform)


@dataclass(frozen=True)
class HasColumn:
    """See cloud.store.sampler.Gate."""

    column: str
    lasting = True

    def narrow(self, seen: View) -> View:
        return seen

    def accept(self, seen: View, rows: Array, late: LateColumns | None) -> Array:
        if late is None:
            raise ConfigError(f"replay.sampler asks for column {self.column}, and this run has none; take it out")
        return late.mask(self.column, rows)


def ready(config: ReadyConfig, around: Around) -> Within:
    """See the module."""
    return Within(around.make(config.sampler, "sampler."), lambda at: HasColumn(config.column))
