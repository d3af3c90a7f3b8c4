"""On policy: each closed online episode once, what is too old soonest first, and nothing that is too old.

Steps that the policy did not take (a person's, or those without a version) are left out. A batch takes as many episodes
as it needs, the last of them in part; its rest waits. Until there are enough for a batch there is nothing to draw. In
what order the rows of a batch stand is the generator's; which they are follows from the horizons so far.
Source of the queue: see cloud.staleness.
"""

import threading
from bisect import bisect_left
from collections.abc import Mapping
from dataclasses import dataclass

import msgspec
import numpy as np

from cloud.staleness import Fresh, FreshQueue, FreshState
from cloud.store.index import Index
from cloud.store.sampler import Drawn, Moment, Pool, State, plain
from cloud.store.samplers.around import Around
from user_rl.errors import ConfigError, NothingToDraw, SpecError
from user_rl.rows import Klass
from user_rl.specs import Array

QUEUE = "queue"  # its state, as JSON in bytes


@dataclass(frozen=True, kw_only=True)
class OnPolicyConfig:
    """How old, and how many may wait."""

    max_versions: int  # between the oldest of an episode's rows and that for which the batch is drawn
    limit: int = 1024  # episodes that wait; one more is refused

    def __post_init__(self) -> None:
        if self.max_versions < 0:
            raise ValueError(f"max_versions = {self.max_versions}, allowed 0 or more; 0 is what the newest weights did")
        if self.limit < 1:
            raise ValueError(f"limit = {self.limit}, allowed 1 or more; it is how many episodes may wait")


class OnPolicy:
    """See cloud.store.sampler.Sampler and Learning."""

    heeds = False

    def __init__(self, config: OnPolicyConfig, around: Around) -> None:
        self.config, self._look_ahead = config, around.look_ahead
        self._lock = threading.Lock()
        self._state, self._last = FreshState(), -1
        self._before: list[tuple[int, FreshState]] = []  # of the last draws: the state just before each
        self._able: tuple[object, bool] | None = None  # the last answer of `can_draw`, and to what

    def can_draw(self, at: Moment) -> bool:
        key = (at.index, at.end, at.version, at.count, at.gates, at.stamp)
        with self._lock:
            if self._able is None or self._able[0] != key:
                self._able = (key, self._taken(at, at.count) is not None)
            return self._able[1]

    def draw(self, at: Moment, rng: np.random.Generator, count: int) -> Drawn:
        with self._lock:
            if at.number <= self._last:
                raise SpecError(f"draw {at.number} after draw {self._last}, allowed growing numbers; load a state")
            taken = self._taken(at, count)
            if taken is None:
                raise NothingToDraw(f"fewer than {count} fresh steps wait; wait for episodes, or ask for less")
            rows, after = taken
            self._before.append((at.number, self._state))
            while len(self._before) > self._look_ahead + 1:
                self._before.pop(0)
            self._state, self._last, self._able = after, at.number, None
            return plain(rng.permutation(rows))

    def update(self, number: int, rows: Array, priorities: Array) -> None:
        """Nothing is learned: what was handed out does not come again."""

    def take_back(self, number: int) -> None:
        with self._lock:
            if number <= self._last:
                before = [each for each in self._before if each[0] < number]
                self._begin(self._state_before(number), number)
                self._before = before

    def state_dict(self, number: int) -> State:
        with self._lock:
            return {QUEUE: np.frombuffer(msgspec.json.encode(self._state_before(number)), np.uint8).copy()}

    def load_state_dict(self, state: Mapping[str, Array]) -> None:
        if state.keys() != {QUEUE}:
            raise SpecError(f"a queue's state of {sorted(state)}, allowed {QUEUE}; resume as configured then")
        try:
            found = msgspec.json.decode(state[QUEUE].tobytes(), type=FreshState)
        except msgspec.MsgspecError as error:
            raise SpecError(f"a queue's state cannot be read: {error}; resume from another checkpoint") from error
        with self._lock:
            self._begin(found, 0)

    def _begin(self, state: FreshState, number: int) -> None:
        self._state, self._last, self._before, self._able = state, number - 1, [], None

    def _state_before(self, number: int) -> FreshState:
        if number > self._last:
            return self._state
        kept = [state for n, state in self._before if n >= number]
        if not kept or number < self._before[0][0]:
            first = self._before[0][0] if self._before else self._last + 1
            raise SpecError(f"the queue's state before draw {number}: allowed from {first} on; save after the update")
        return kept[0]

    def _taken(self, at: Moment, count: int) -> tuple[Array, FreshState] | None:
        """Which rows a draw takes, and the state after it; None when there are too few."""
        queue = FreshQueue(self.config.max_versions, self.config.limit, self._state)
        self._arrive(queue, at)
        parts, missing = [], count
        while missing and (entry := queue.take(at.version)) is not None:
            rows = _usable(entry, at)
            if not len(rows):
                queue.gone(entry)
                continue
            if len(rows) > missing:
                rest = int(at.index.step.array[rows[missing]])
                queue.put_back(msgspec.structs.replace(entry, first=rest))
            parts.append(rows[:missing])
            missing -= len(parts[-1])
        return None if missing else (np.concatenate(parts), queue.state)

    def _arrive(self, queue: FreshQueue, at: Moment) -> None:
        """Puts the episodes that have closed since, in the order of their last rows."""
        index, start = at.index, _seen_rows(at.index, self._state)
        rows = np.arange(start, max(start, at.end))
        episodes = index.episode.array[rows]
        ends = (index.closed_by.array[episodes] == rows) & (index.klass.array[rows] == Klass.ONLINE)
        for last in rows[ends].tolist():
            steps = _episode(index, last)
            if len(steps):
                version = int(index.version.array[steps].min())
                stream = index.streams[int(index.stream.array[last])]
                first, end = index.step.array[steps[[0, -1]]].tolist()
                queue.put(version, stream, first, end, now=at.version)
        if len(rows):
            chunk = int(index.chunk.array[at.end - 1])
            queue.looked(int(index.seqs.array[chunk]), int(index.offset.array[at.end - 1]))


def queue_in(state: State) -> FreshState | None:
    """The queue in a sampler's state, which may be that of a mixture; None where there is none."""
    names = _queues(state)
    return msgspec.json.decode(state[names[0]].tobytes(), type=FreshState) if names else None


def without_queue(state: State) -> State:
    """The rest of a sampler's state."""
    return {name: value for name, value in state.items() if not _is_queue(name)}


def with_queue(state: Mapping[str, Array], own: State, fresh: FreshState | None) -> State:
    """A state as `without_queue` left it, whole again. `own` is the sampler's; `fresh` None begins anew."""
    kept = msgspec.json.encode(FreshState() if fresh is None else fresh)
    return {**state, **{name: np.frombuffer(kept, np.uint8) for name in _queues(own)}}


def check_queues(state: State) -> None:
    """Raises ConfigError where a sampler has two queues: each would hand out what the other has."""
    if len(_queues(state)) > 1:
        raise ConfigError("replay.sampler: on_policy twice, allowed once; put a condition around one of them instead")


def _queues(state: State) -> list[str]:
    return [name for name in state if _is_queue(name)]


def _is_queue(name: str) -> bool:
    return name.rpartition(".")[2] == QUEUE


def _seen_rows(index: Index, state: FreshState) -> int:
    """How many of the index's rows were looked at."""
    before = index.at(state.seq - 1)
    return min(index.at(state.seq), before + state.record + 1)


def _episode(index: Index, last: int) -> Array:
    """The steps of the policy in the episode that row `last` closes."""
    listed = index.of_stream[int(index.stream.array[last])].array
    first = index.opened_by.array[index.episode.array[last]]
    return _acted(index, listed[np.searchsorted(listed, first) : np.searchsorted(listed, last)])


def _acted(index: Index, rows: Array) -> Array:
    """Those of `rows` in which the policy acted."""
    acted = index.is_step.array[rows] & ~index.intervened.array[rows] & (index.version.array[rows] > 0)
    return np.asarray(rows[acted])


def _usable(entry: Fresh, at: Moment) -> Array:
    """The rows of an entry that may be drawn now."""
    index = at.index
    if entry.stream not in index.streams:
        return np.zeros(0, np.int64)
    listed, step = index.of_stream[index.streams.index(entry.stream)].array, index.step.array
    first, end = (bisect_left(listed, wanted, key=step.__getitem__) for wanted in (entry.first, entry.last + 1))
    rows = _acted(index, listed[first:end])
    window, seen = at.window(Pool.ONLINE).rows, at.of(Pool.ONLINE)
    oldest = int(window[0]) if len(window) else at.end
    rows = rows[(rows >= oldest) & (rows < at.end)]
    return np.asarray(rows[seen.fits(rows)])
