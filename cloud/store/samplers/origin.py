"""Origin: only rows of some robots, or of some tasks, by name."""

from dataclasses import dataclass, field, replace
from fnmatch import fnmatchcase
from functools import lru_cache

import numpy as np

from cloud.store.growing import Growing
from cloud.store.sampler import LateColumns
from cloud.store.samplers.around import Around, uniform
from cloud.store.samplers.within import Within
from cloud.store.view import View
from user_rl.config import Tree
from user_rl.specs import Array

FEW = 16  # rows of at most one in so many are listed; others are found by guessing


@dataclass(frozen=True, kw_only=True)
class RobotConfig:
    """Which robots, and what draws from their rows."""

    cell: str  # a cell's name, or a pattern such as panda-*
    sampler: Tree = field(default_factory=uniform)


@dataclass(frozen=True, kw_only=True)
class TaskConfig:
    """Which tasks, and what draws from their rows."""

    task: str  # a task's name, or a pattern
    sampler: Tree = field(default_factory=uniform)


@dataclass(frozen=True)
class OfRobot:
    """See cloud.store.sampler.Gate."""

    cell: str
    lasting = True

    def narrow(self, seen: View) -> View:
        return _narrowed(seen, [seen.index.of_stream[i] for i in self._numbers(seen)])

    def accept(self, seen: View, rows: Array, late: LateColumns | None) -> Array:
        return _is_one_of(seen.index.stream.array[rows], self._numbers(seen), len(seen.index.streams))

    def _numbers(self, seen: View) -> list[int]:
        return _matching(tuple(seen.index.streams), self.cell + "/*")


@dataclass(frozen=True)
class OfTask:
    """See cloud.store.sampler.Gate."""

    task: str
    lasting = True

    def narrow(self, seen: View) -> View:
        return _narrowed(seen, [seen.index.of_task[i] for i in self._numbers(seen)])

    def accept(self, seen: View, rows: Array, late: LateColumns | None) -> Array:
        return _is_one_of(seen.index.task.array[rows], self._numbers(seen), len(seen.index.tasks))

    def _numbers(self, seen: View) -> list[int]:
        return _matching(tuple(seen.index.tasks), self.task)


def robot(config: RobotConfig, around: Around) -> Within:
    """See the module."""
    return Within(around.make(config.sampler, "sampler."), lambda at: OfRobot(config.cell))


def task(config: TaskConfig, around: Around) -> Within:
    """See the module."""
    return Within(around.make(config.sampler, "sampler."), lambda at: OfTask(config.task))


@lru_cache(maxsize=64)
def _matching(names: tuple[str | bytes, ...], pattern: str) -> list[int]:
    """The numbers of the names that the pattern matches; the list is shared."""
    texts = [name.decode() if isinstance(name, bytes) else name for name in names]
    return [i for i, text in enumerate(texts) if fnmatchcase(text, pattern)]


def _is_one_of(numbers: Array, wanted: list[int], count: int) -> Array:
    table: Array = np.zeros(count, np.bool_)
    table[wanted] = True
    return table[numbers]


def _narrowed(seen: View, lists: list[Growing]) -> View:
    """`seen`, or where the lists hold but a few of its rows, those."""
    if not len(seen.rows):
        return seen
    bounds = (int(seen.rows[0]), seen.end)
    cuts = [each.array[slice(*np.searchsorted(each.array, bounds))] for each in lists]
    if sum(map(len, cuts)) * FEW > len(seen.rows):
        return seen
    if len(cuts) == 1:
        return replace(seen, rows=cuts[0])
    return replace(seen, rows=np.sort(np.concatenate([*cuts, np.empty(0, np.int64)]), kind="stable"))
