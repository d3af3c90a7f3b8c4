"""Prioritised: transitions in proportion to how much the learner was surprised by them.

Source: Schaul et al. 2016, arXiv:1511.05952, algorithm 1, proportional. Differs from the paper: importance is scaled by
the batch's largest weight, not the buffer's; beta grows with the number of the draw.
Priorities that draw n brought act at draw n + K exactly, so what is drawn ahead depends on no thread.
"""

import threading
from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np

from cloud.store.index import NOWHERE, Index
from cloud.store.priority import tickets
from cloud.store.row_ids import find_rows, pack_rows
from cloud.store.sampler import Drawn, Moment, Pool, State, listed
from cloud.store.samplers.around import Around
from cloud.store.window import Changes, Window
from user_rl.errors import ConfigError, NothingToDraw, SpecError
from user_rl.specs import Array


@dataclass(frozen=True, kw_only=True)
class PrioritisedConfig:
    """How far priorities are trusted, and how far that is corrected."""

    of: Pool = Pool.ONLINE  # or demonstrations, interventions
    alpha: float = 0.6  # 0: uniform
    beta: float = 0.4  # at draw 0; 1 corrects wholly
    beta_draws: int = 100_000  # until beta is 1
    epsilon: float = 1e-3  # added to every priority, so that none is 0

    def __post_init__(self) -> None:
        if self.of is Pool.SHOWN:
            raise ValueError("of = 'shown', allowed online, demonstrations, interventions; mix two of these")
        for name, value, low in (("alpha", self.alpha, 0.0), ("beta", self.beta, 0.0), ("epsilon", self.epsilon, 1e-9)):
            if not low <= value <= 1:
                raise ValueError(f"{name} = {value}, allowed {low:g} to 1; change it")
        if self.beta_draws < 1:
            raise ValueError(f"beta_draws = {self.beta_draws}, allowed 1 or more; change it")


@dataclass
class _Step:
    """What one draw changed, so that it can be taken back."""

    number: int
    highest: int  # before it, as is
    first: int  # of the window
    changes: Changes = field(default_factory=list)
    applied: dict[int, tuple[Array, Array]] = field(default_factory=dict)  # by draw: positions, tickets


class Prioritised:
    """See cloud.store.sampler.Sampler and Learning."""

    heeds = True

    def __init__(self, config: PrioritisedConfig, around: Around) -> None:
        self.config, self._look_ahead = config, around.look_ahead
        self._lock = threading.Lock()
        self._index: Index | None = None
        self._begin(None, 0)

    def can_draw(self, at: Moment) -> bool:
        return at.of(self.config.of).can_draw

    def draw(self, at: Moment, rng: np.random.Generator, count: int) -> Drawn:
        if not all(gate.lasting for gate in at.gates):
            raise ConfigError("replay.sampler: fresh around prioritised, allowed around others; a row may turn stale")
        with self._lock:
            step = self._step(at.number)
            self._apply(step)
            self._move(at, step)
            if not self._window.tree.total:
                raise NothingToDraw("no prioritised row may be drawn; wait for rows, or ask for less")
            positions, tickets = self._window.find(self._window.tree.strata(rng, count))
            rows = listed(at.index, self.config.of)[positions]
            self._last, self._awaited[at.number] = at.number, (rows, positions)
            return Drawn(rows, self._weights(tickets, at.number))

    def update(self, number: int, rows: Array, priorities: Array) -> None:
        with self._lock:
            if number not in self._awaited:
                raise SpecError(
                    f"priorities of draw {number}, allowed those of {sorted(self._awaited)}; give each once"
                )
            drawn, positions = self._awaited[number]
            values = np.asarray(priorities, np.float64)
            if not np.array_equal(drawn, rows) or values.shape != drawn.shape:
                raise SpecError(
                    f"priorities of draw {number} are for other rows, allowed those drawn; keep their order"
                )
            if not (np.isfinite(values) & (values >= 0)).all():
                raise SpecError(
                    f"priorities of draw {number} = {values.min():.4g} to {values.max():.4g}, allowed 0 or more"
                )
            del self._awaited[number]
            self._given[number] = (positions, tickets((values + self.config.epsilon) ** self.config.alpha))

    def take_back(self, number: int) -> None:
        with self._lock:
            if number > self._last:
                return
            if number <= self._forgotten:
                raise SpecError(f"draw {number} cannot be taken back, allowed from {self._forgotten + 1} on")
            before = {n: drawn for n, drawn in self._awaited.items() if n < number}
            self._begin(self._state(number), number)
            self._awaited.update(before)

    def state_dict(self, number: int) -> State:
        with self._lock:
            late = [n for n in self._awaited if n < number]
            if number <= self._forgotten or late:
                why = f"draw {late[0]} has no priorities yet" if late else f"allowed from {self._forgotten + 1} on"
                raise SpecError(f"the sampler's state before draw {number}: {why}; save after the update")
            if self._loaded is not None:
                return {**self._loaded, "number": np.array(number)}
            return self._state(number)

    def load_state_dict(self, state: Mapping[str, Array]) -> None:
        wanted = {"number", "highest", "draw", "tickets", "streams", "stream", "step"}
        if state.keys() != wanted:
            raise SpecError(
                f"a sampler's state of {sorted(state)}, allowed {sorted(wanted)}; resume as configured then"
            )
        with self._lock:
            self._begin({name: np.array(value) for name, value in state.items()}, int(state["number"]))

    def _begin(self, loaded: State | None, number: int) -> None:
        self._window, self._loaded = Window(), loaded
        self._last = self._forgotten = number - 1  # the last draw; the last one that cannot be taken back
        self._steps: list[_Step] = []
        self._awaited: dict[int, tuple[Array, Array]] = {}  # by draw: rows, positions; without priorities yet
        self._given: dict[int, tuple[Array, Array]] = {}  # by draw: positions, tickets; not applied yet

    def _step(self, number: int) -> _Step:
        """The record of draw `number`, which must be the next one."""
        if number <= self._last:
            raise SpecError(f"draw {number} after draw {self._last}, allowed growing numbers; load a state to go back")
        missing = [n for n in self._awaited if n <= number - self._look_ahead]
        if missing:
            raise SpecError(f"draw {number} needs the priorities of draw {missing[0]}; give them before it is made")
        if not self._steps or self._steps[-1].number != number:
            self._steps.append(_Step(number, self._window.highest, self._window.first))
        while len(self._steps) > self._look_ahead + 1:
            self._forgotten = self._steps.pop(0).number
        return self._steps[-1]

    def _apply(self, step: _Step) -> None:
        if self._loaded is not None:
            return
        for number in sorted(n for n in self._given if n <= step.number - self._look_ahead):
            step.applied[number] = self._given.pop(number)
            self._window.put(*step.applied[number])
        step.changes += self._window.changes()

    def _move(self, at: Moment, step: _Step) -> None:
        window = at.window(self.config.of)
        rows = listed(at.index, self.config.of)
        end = int(np.searchsorted(rows, at.end))
        if self._loaded is not None:
            self._restore(at.index, rows, end - len(window), end)
            step.highest, step.first = self._window.highest, self._window.first
            self._apply(step)
        self._index = at.index
        self._window.move(at.of(self.config.of), rows, end - len(window), end, at.stamp)
        step.changes += self._window.changes()

    def _restore(self, index: Index, rows: Array, first: int, end: int) -> None:
        assert self._loaded is not None
        state, self._loaded = self._loaded, None
        found = find_rows(index, state)
        positions = np.where(found >= 0, np.searchsorted(rows, found), NOWHERE)
        here = (found >= 0) & (state["draw"] < 0)
        self._window.restore(positions[here], state["tickets"][here], first, end)
        self._window.highest = int(state["highest"])
        for number in np.unique(state["draw"][state["draw"] >= 0]).tolist():
            mine = state["draw"] == number
            self._given[number] = (positions[mine], state["tickets"][mine])

    def _state(self, number: int) -> State:
        undone = [step for step in self._steps if step.number >= number]
        first = undone[0].first if undone else self._window.first
        positions, has = self._window.before([step.changes for step in undone], first)
        waiting = {n: v for step in undone for n, v in step.applied.items()} | self._given
        queue = sorted((n, *v) for n, v in waiting.items() if n < number)
        every = np.concatenate([positions, *(p for _, p, _ in queue)])
        rows = listed(self._index, self.config.of)[every] if self._index is not None else every
        draws = [np.full(len(positions), -1), *(np.full(len(p), n) for n, p, _ in queue)]
        return {
            "number": np.array(number), "highest": np.array(undone[0].highest if undone else self._window.highest),
            "draw": np.concatenate(draws), "tickets": np.concatenate([has, *(t for _, _, t in queue)]),
            **pack_rows(self._index, rows),
        }  # fmt: skip

    def _weights(self, tickets: Array, number: int) -> Array:
        """Of importance: (N P)^-beta, the batch's largest 1."""
        c, tree = self.config, self._window.tree
        beta = c.beta + (1 - c.beta) * min(1.0, number / c.beta_draws)
        weights = (tree.count * (tickets / tree.total)) ** -beta
        return np.asarray(weights / weights.max(), np.float32)
