"""Quota: how many demonstrations a run still wants of a cell, as successful ones come in."""

from collections import Counter
from collections.abc import Mapping

from cloud.episodes import EpisodeSum
from user_rl.rows import Klass, cell_of


class Quota:
    """`wanted` of the whole run, `each` at most of one cell (None: whoever comes first)."""

    def __init__(self, wanted: int) -> None:
        self.wanted = wanted
        self.each: int | None = None
        self._shown: Counter[str] = Counter()  # by cell
        self._total = 0
        self.elsewhere: Mapping[str, int] = {}  # the same, at the run's other shards

    @property
    def shown(self) -> int:
        """Successful demonstrations so far."""
        return self._total

    @property
    def shown_by_cell(self) -> dict[str, int]:
        """The same by cell."""
        return dict(self._shown)

    def add(self, stream: str, episode: EpisodeSum) -> None:
        """Counts an episode that has closed."""
        if episode.success and episode.klass == Klass.DEMONSTRATION:
            self._shown[cell_of(stream)] += 1
            self._total += 1

    def still_wanted(self, stream: str) -> int:
        """How many the stream's cell is to record."""
        wanted = self.wanted - self._total - sum(self.elsewhere.values())
        if self.each is not None:
            cell = cell_of(stream)
            wanted = min(wanted, self.each - self._shown[cell] - self.elsewhere.get(cell, 0))
        return max(0, wanted)
