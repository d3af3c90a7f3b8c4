"""Choice of place: which of edge, site and cloud acts. Pure: measurements in, a name and a reason out.

A place *keeps the deadline* while its p95 is within it. It is *entered* only with `slack` of the deadline to spare. The
first of the preferred order that may be entered is; the one that acts stays while it keeps its deadline, unless one
before it in the order has been fit to be entered for `settle_s` without a break. One that fails is left at once, and is
not entered again before it has been fit for `settle_s`. So no place fails twice within `settle_s`.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from edge.inference.config import InferenceConfig


@dataclass(frozen=True, kw_only=True)
class Candidate:
    """One place as it was measured."""

    name: str  # edge, cloud, or a server's own
    kind: str  # edge, site, cloud
    p95_s: float | None  # from observation to action; None: it does not answer
    deadline_s: float

    def words(self) -> str:
        """For a person."""
        took = "no answer" if self.p95_s is None else f"p95 {self.p95_s * 1e3:.0f} ms"
        return f"{self.name} {took}, allowed {self.deadline_s * 1e3:.0f}"


@dataclass(frozen=True)
class Choice:
    """Who acts, and why; an empty name: nobody keeps the deadline."""

    name: str
    reason: str


NOBODY = Choice("", "no place has been measured yet")


class Chooser:
    """Holds the choice. Call `choose` whenever something was measured."""

    def __init__(self, config: InferenceConfig) -> None:
        self._config = config
        self._fit_since_s: dict[str, float] = {}
        self._failed: set[str] = set()  # left because they failed, and not fit for long enough since
        self.choice = NOBODY

    def choose(self, candidates: Sequence[Candidate], now_s: float) -> Choice:
        """The choice after these measurements; the same object while the place stays."""
        for name in set(self._fit_since_s) - {c.name for c in candidates}:
            del self._fit_since_s[name]
        for candidate in candidates:
            self._look(candidate, now_s)
        current = next((c for c in candidates if c.name == self.choice.name), None)
        if current is not None and _keeps(current, 0.0):
            better = [c for c in self._fit(candidates, now_s, settled=True) if self._rank(c) < self._rank(current)]
            if better:
                self.choice = Choice(better[0].name, f"{better[0].words()}; it goes before {current.name}")
            return self.choice
        if self.choice.name:
            self._failed.add(self.choice.name)
        fit = self._fit(candidates, now_s, settled=False)
        failed = "" if current is None else f"; {current.words()}"
        if fit:
            self.choice = Choice(fit[0].name, fit[0].words() + failed)
        elif self.choice.name or self.choice is NOBODY:
            self.choice = Choice("", "nobody keeps the deadline: " + "; ".join(c.words() for c in candidates))
        return self.choice

    def _look(self, candidate: Candidate, now_s: float) -> None:
        if not _keeps(candidate, self._config.slack):
            self._fit_since_s.pop(candidate.name, None)
            return
        since_s = self._fit_since_s.setdefault(candidate.name, now_s)
        if now_s - since_s >= self._config.settle_s:
            self._failed.discard(candidate.name)

    def _fit(self, candidates: Sequence[Candidate], now_s: float, *, settled: bool) -> list[Candidate]:
        """Those that may be entered, the preferred first."""

        def fit(name: str) -> bool:
            since_s = self._fit_since_s.get(name)
            long = since_s is not None and now_s - since_s >= self._config.settle_s
            return since_s is not None and name not in self._failed and (long or not settled)

        found = [c for c in candidates if c.kind in self._config.prefer and fit(c.name)]
        return sorted(found, key=lambda c: (self._rank(c), c.p95_s, c.name))

    def _rank(self, candidate: Candidate) -> int:
        return self._config.prefer.index(candidate.kind)


def _keeps(candidate: Candidate, slack: float) -> bool:
    return candidate.p95_s is not None and candidate.p95_s <= candidate.deadline_s * (1 - slack)
