"""Every sampler keeps the contract; and the contract notices each fault planted here."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import pytest

from cloud.store.kits import CAPACITY_ROWS, LOOK_AHEAD, Complete, Weigh, check_sampler, example_chunks
from cloud.store.sampler import Drawn, Learning, Moment, Sampler, State, plain
from cloud.store.samplers import make_sampler
from tests.cloud.store.rows import History
from tests.cloud.store.samplers.slow import Slow
from tests.cloud.store.samplers.trees import ONCE, PRIORITISED, TREES
from user_rl.config import Tree
from user_rl.specs import Array

STRATIFIED = {"prioritised", "prioritised-task"}


class EveryThird(Complete):
    """See cloud.store.sampler.LateColumns: all but every third row have every column."""

    def mask(self, column: str, rows: Array) -> Array:
        return np.asarray(rows % 3 != 0)


def weigh(tree: Tree) -> Weigh:
    """The probabilities in the kit's own history, slowly."""
    rows = History([(place.stream, head) for place, head in example_chunks(seed=1)]).rows()
    ready = frozenset(i for i in range(len(rows)) if i % 3)

    def weights(at: Moment) -> Mapping[int, float]:
        return Slow(rows, at.end, CAPACITY_ROWS, version=at.version, ready=ready).weights(tree)

    return weights


@pytest.mark.slow
@pytest.mark.parametrize("name", TREES)
def test_a_sampler_keeps_the_contract(name: str) -> None:
    weights = None if name in ONCE else weigh(TREES[name])
    check_sampler(lambda: make_sampler(TREES[name], LOOK_AHEAD), weigh=weights, late=EveryThird())


Draw = Callable[["Faulty", Moment, np.random.Generator, int], Drawn]


@dataclass
class Faulty:
    """A uniform sampler with one fault."""

    fault: Draw
    able: bool | None = None
    inner: Sampler = field(default_factory=lambda: make_sampler({"name": "uniform"}, LOOK_AHEAD))
    draws: int = 0

    def can_draw(self, at: Moment) -> bool:
        return self.inner.can_draw(at) if self.able is None else self.able

    def draw(self, at: Moment, rng: np.random.Generator, count: int) -> Drawn:
        self.draws += 1
        return self.fault(self, at, rng, count)


def by(choose: Callable[[Moment, np.random.Generator, int], Array]) -> Draw:
    """A draw that raises NothingToDraw as it should, and else goes wrong."""

    def draw(sampler: Faulty, at: Moment, rng: np.random.Generator, count: int) -> Drawn:
        sampler.inner.draw(at, np.random.default_rng(0), 1)
        return plain(choose(at, rng, count))

    return draw


def listed(at: Moment, end: int) -> Array:
    return replace(at, end=end, views={}).online.listed


def later(sampler: Faulty, at: Moment, rng: np.random.Generator, count: int) -> Drawn:
    rng.random(sampler.draws)
    return sampler.inner.draw(at, rng, count)


def uniform(at: Moment, rng: np.random.Generator, count: int) -> Array:
    return at.online.draw(rng, count)


def with_known_later(at: Moment, rng: np.random.Generator, count: int) -> Array:
    """Leaves out rows by what came after the horizon: a lookahead that no row number shows."""
    pool = at.online.listed
    closed = at.index.closed_by.array[at.index.episode.array[pool]] < len(at.index)
    return np.asarray(pool[closed][rng.integers(np.count_nonzero(closed), size=count)])


def by_chunk(at: Moment, rng: np.random.Generator, count: int) -> Array:
    """By the index's own numbers of episodes, which depend on how it was filled."""
    pool = at.online.listed
    order = np.argsort(at.index.episode.array[pool], kind="stable")
    return np.asarray(pool[order][rng.integers(len(pool), size=count)])


def by_global(at: Moment, rng: np.random.Generator, count: int) -> Array:
    np.random.seed(at.number)
    return np.asarray(at.online.listed[np.random.randint(len(at.online.listed), size=count)])


def skewed(at: Moment, rng: np.random.Generator, count: int) -> Array:
    pool = at.online.listed
    return np.asarray(pool[(rng.random(count) ** 1.15 * len(pool)).astype(np.int64)])


def from_all(at: Moment, rng: np.random.Generator, count: int) -> Array:
    return at.demonstrations.draw(rng, count) if at.number == 0 else at.online.draw(rng, count)


def uncapped(at: Moment, rng: np.random.Generator, count: int) -> Array:
    return replace(at, capacity_rows=None, views={}).online.draw(rng, count)


FAULTS: dict[str, tuple[Draw, bool | None, str]] = {
    "one too few": (by(lambda a, r, n: uniform(a, r, n)[1:]), None, "rows were drawn, not 1"),
    "int32": (by(lambda a, r, n: uniform(a, r, n).astype(np.int32)), None, "row numbers are int32, not int64"),
    "the future": (by(lambda a, r, n: r.choice(listed(a, len(a.index)), n)), None, "came after the horizon 300"),
    "last rows": (by(lambda a, r, n: r.choice(a.online.rows, n)), None, "has no successor within the horizon"),
    "evicted rows": (by(uncapped), None, "was passed by the capacity"),
    "hidden state": (later, None, "a draw depends on the draws before it"),
    "always the same": (by(lambda a, r, n: a.online.listed[:n]), None, "another seed gave the same rows"),
    "its own dice": (by(lambda a, r, n: uniform(a, np.random.default_rng(), n)), None, "gave other rows"),
    "knows the end": (by(with_known_later), None, "depends on rows that came after its horizon"),
    "by chunk": (by(by_chunk), None, "the draw depends on how the rows were cut into chunks"),
    "global dice": (by(by_global), None, "another seed gave the same rows"),
    "skewed": (by(skewed), None, "rows are not drawn by their weights"),
    "other class": (by(from_all), None, "were drawn, which the sampler's weights leave out"),
    "empty draw": (lambda s, a, r, n: plain(np.zeros(n, np.int64)), None, "were drawn from an empty log"),
    "can nothing": (by(uniform), False, "can_draw is false at horizon 300"),
    "can all": (by(uniform), True, "can_draw of an empty log"),
    "float64 weights": (lambda s, a, r, n: Drawn(uniform(a, r, n), np.ones(n)), None, "weights are float64"),
    "weights of 0": (lambda s, a, r, n: Drawn(uniform(a, r, n), np.zeros(n, "f4")), None, "weights of 0.0 to 0.0"),
}  # fmt: skip


@pytest.mark.slow
@pytest.mark.parametrize("name", FAULTS)
def test_a_faulty_sampler_is_noticed(name: str) -> None:
    draw, able, message = FAULTS[name]
    with pytest.raises(AssertionError, match=message):
        check_sampler(lambda: Faulty(draw, able), weigh=weigh(TREES["uniform"]))


@dataclass
class Forgetful:
    """A prioritised sampler whose state, or whose sense of time, has one fault."""

    fault: str
    look_ahead: int = LOOK_AHEAD
    heeds: bool = True
    saved: State | None = None

    def __post_init__(self) -> None:
        made = make_sampler(PRIORITISED, self.look_ahead)
        assert isinstance(made, Learning)
        self.inner: Any = made
        self._rows: dict[int, Array] = {}

    def can_draw(self, at: Moment) -> bool:
        return bool(self.inner.can_draw(at))

    def draw(self, at: Moment, rng: np.random.Generator, count: int) -> Drawn:
        if self.fault == "does not wait" and at.number >= LOOK_AHEAD:
            for number in [n for n in self._rows if n <= at.number - LOOK_AHEAD]:
                self.inner.update(number, self._rows[number], np.zeros(count))
        drawn: Drawn = self.inner.draw(at, rng, count)
        if self.saved is not None:
            self.saved["tickets"][:] += 1
        self._rows[at.number] = drawn.rows
        return drawn

    def update(self, number: int, rows: Array, priorities: Array) -> None:
        self._rows.pop(number, None)
        self.inner.update(number, rows, np.ones(len(rows)) if self.fault == "learns nothing" else priorities)

    def take_back(self, number: int) -> None:
        self.inner.take_back(number - (self.fault == "takes back too much"))

    def state_dict(self, number: int) -> State:
        state: State = self.inner.state_dict(number)
        if self.fault == "one view":
            self.saved = state
        if self.fault == "no queue":
            kept = state["draw"] < 0
            return {n: v[kept] if n in ("draw", "tickets", "stream", "step") else v for n, v in state.items()}
        return state

    def load_state_dict(self, state: Mapping[str, Array]) -> None:
        if self.fault == "loads anything" and "number" not in state:
            return
        self.inner.load_state_dict(state)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("fault", "look_ahead", "message"),
    [
        ("one view", LOOK_AHEAD, "the saved state changed with later draws; copy it"),
        ("no queue", LOOK_AHEAD, "a resumed sampler took another path"),
        ("loads anything", LOOK_AHEAD, "a foreign state was loaded; raise SpecError"),
        ("acts early", 1, "acted before draw 2|the state before a draw"),
        ("acts late", 3, "priorities of draw 0 did not act at draw 2"),
        ("takes back too much", LOOK_AHEAD, "the state after draws were taken back is not the one before them"),
        ("learns nothing", LOOK_AHEAD, "priorities of draw 0 did not act at draw 2"),
        ("does not wait", LOOK_AHEAD, "draw 2 was made without the priorities of draw 0; raise SpecError"),
    ],
)
def test_a_faulty_learning_sampler_is_noticed(fault: str, look_ahead: int, message: str) -> None:
    with pytest.raises(AssertionError, match=message):
        check_sampler(lambda: Forgetful(fault, look_ahead))
