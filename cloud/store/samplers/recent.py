"""Recent: every transition of the newest rows, or of the episodes that began last, alike."""

from dataclasses import dataclass, replace

import numpy as np

from cloud.store.sampler import Drawn, Moment, Pool, plain
from cloud.store.samplers.around import Around
from cloud.store.view import View
from user_rl.rows import Klass
from user_rl.specs import Array


@dataclass(frozen=True, kw_only=True)
class RecentConfig:
    """How long the window is; of a window in both, the rows that lie in both."""

    of: Pool = Pool.ONLINE  # or demonstrations
    rows: int | None = None
    episodes: int | None = None  # counted by their beginning, those in progress too

    def __post_init__(self) -> None:
        if self.of not in (Pool.ONLINE, Pool.DEMONSTRATIONS):
            raise ValueError(f"of = {self.of.value!r}, allowed online or demonstrations; these pools have no episodes")
        for name, value in (("rows", self.rows), ("episodes", self.episodes)):
            if value is not None and value < 1:
                raise ValueError(f"{name} = {value}, allowed 1 or more; a window of nothing draws nothing")
        if self.rows is None and self.episodes is None:
            raise ValueError("rows = None, allowed 1 or more; set rows or episodes, else take the sampler uniform")


class Recent:
    """See cloud.store.sampler.Sampler."""

    def __init__(self, config: RecentConfig, around: Around) -> None:
        self.config = config

    def can_draw(self, at: Moment) -> bool:
        return self._view(at).can_draw

    def draw(self, at: Moment, rng: np.random.Generator, count: int) -> Drawn:
        return plain(self._view(at).draw(rng, count))

    def _view(self, at: Moment) -> View:
        key = (self.config, at.gates)
        if key not in at.views:
            at.views[key] = self._newest(at)
        return at.views[key]

    def _newest(self, at: Moment) -> View:
        """The window, taken before any gate, so that a gate never widens it."""
        window, seen, c = at.window(self.config.of).rows, at.of(self.config.of), self.config
        first = int(window[-c.rows]) if c.rows is not None and c.rows < len(window) else 0
        if c.episodes is None:
            return _from(seen, first)
        began = at.index.began[Klass.ONLINE if c.of is Pool.ONLINE else Klass.DEMONSTRATION].array
        began = began[: np.searchsorted(began, at.end)]
        oldest = int(began[-c.episodes]) if c.episodes < len(began) else 0
        before = seen.only

        def only(seen: View, rows: Array) -> Array:
            good: Array = seen.index.opened_by.array[seen.index.episode.array[rows]] >= oldest
            return good if before is None else good & before(seen, rows)

        return replace(_from(seen, max(first, oldest)), only=only)


def _from(seen: View, first: int) -> View:
    return replace(seen, rows=seen.rows[np.searchsorted(seen.rows, first) :])
