"""Replay: the learner's view of the experience log, as transitions that can be drawn at random.

It tails the log into two slabs: a ring of online rows, and demonstrations, which are never evicted. A demonstration
counts when its episode has ended in success; a step under a person's hand counts as both (HIL-SERL's rule, Luo et al.
2024, arXiv:2410.21845, by config). A row whose successor is not here is not drawn; a terminated step has no bootstrap,
a truncated one bootstraps from the episode's last observation.

Draw n depends on (seed, n, what of the log was taken in) alone, so a resumed run draws what it would have drawn.
"""

import logging
import os
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np

from cloud.batch import Batch
from cloud.episodes import EpisodeSum, EpisodeTally, online_steps, parts_by_episode
from cloud.slab import Slab, row_bytes
from user_rl.errors import ConfigError
from user_rl.log import Chunk
from user_rl.rows import Kind, Klass, Schema
from user_rl.specs import Array, Box

log = logging.getLogger(__name__)

FIRST_DEMONSTRATION_ROWS = 4096  # the demonstrations' slab begins with so many and doubles
NORMALISER_ROWS = 100_000


@dataclass(frozen=True, kw_only=True)
class ReplayConfig:
    """How much is kept, and what counts as a demonstration."""

    capacity_rows: int = 200_000  # online rows that can be drawn; the log itself keeps all
    interventions_are_demonstrations: bool = True
    memory_share: float = 0.8  # of the machine's memory, at most
    episode_window: int = 50  # episodes behind a success rate


class LogReader(Protocol):
    """What the replay asks of user_rl.log.Reader."""

    def streams(self) -> dict[str, Schema]: ...

    def tail(self, after_seq: int, max_bytes: int) -> Sequence[tuple[int, Chunk]]: ...

    def close(self) -> None: ...


class Replay:
    """Tails `reader` into memory and draws batches. One owner, no lock."""

    def __init__(
        self, reader: LogReader, config: ReplayConfig, schema: Schema, *, seed: int, memory_bytes: int | None = None
    ) -> None:
        check_memory(config, schema, memory_bytes or machine_memory_bytes())
        self._reader, self._config, self._schema, self._seed = reader, config, schema, seed
        self.online = Slab(schema, config.capacity_rows)
        self.demonstrations = Slab(schema, min(FIRST_DEMONSTRATION_ROWS, config.capacity_rows), grows=True)
        self.seq = 0  # the last commit of the log that was taken in
        self.online_rows = 0  # online steps of the whole log
        self.demonstration_count = 0  # closed episodes that ended in success
        self.recent: deque[EpisodeSum] = deque(maxlen=config.episode_window)  # online, without intervention
        self.episodes = self.intervened_rows = 0  # online
        self._tally = EpisodeTally()
        self._shown: dict[str, list[Array]] = {}  # demonstrations in progress
        self._after_intervention: dict[str, tuple[int, int]] = {}  # stream → (episode, step) that may close one
        self._foreign: set[str] = set()
        self._out: dict[tuple[str, int], Array] = {}

    @property
    def rows(self) -> int:
        """Rows in memory."""
        return self.online.size + self.demonstrations.size

    def refresh(self, max_bytes: int = 2**25) -> int:
        """Takes in up to `max_bytes` of new commits and returns how many online steps they brought."""
        before = self.online_rows
        for seq, chunk in self._reader.tail(self.seq, max_bytes):
            if self._is_ours(chunk.stream):
                self._take(chunk.stream, self._schema.view(chunk.data))
            self.seq = seq
        return self.online_rows - before

    def catch_up(self) -> None:
        """Takes in all that the log holds now."""
        before = None
        while before != self.seq:
            before = self.seq
            self.refresh()

    def can_sample(self) -> bool:
        """Whether there is any transition."""
        return self.online.transitions + self.demonstrations.transitions > 0

    def sample(self, number: int, size: int, demonstration_share: float) -> Batch:
        """Draw `number`: `size` transitions, round(share * size) of them demonstrations, those first.

        A side that has none leaves its part to the other. The arrays are reused by the next call.
        """
        rng = np.random.Generator(np.random.Philox(key=(number << 64) | self._seed))
        shown = round(demonstration_share * size)
        if not self.online.transitions:
            shown = size
        if not self.demonstrations.transitions:
            shown = 0
        parts = [(self.demonstrations, slice(0, shown)), (self.online, slice(shown, size))]
        places = [
            (slab, part, slab.draw(rng, part.stop - part.start)) for slab, part in parts if part.stop > part.start
        ]
        return self._gather(places, size)

    def observations(self) -> dict[str, Array]:
        """The observed vectors of the rows in memory, to fit a normaliser; the newest where there are many."""
        count = NORMALISER_ROWS
        return {
            name: np.concatenate([self.demonstrations.recent(name, count), self.online.recent(name, count)])
            for name, spec in self._schema.observation.items()
            if isinstance(spec, Box)
        }

    def _gather(self, places: list[tuple[Slab, slice, Array]], size: int) -> Batch:
        for slab, part, here in places:
            after = slab.successors(here)
            for name, column in slab.columns.items():
                if name in self._schema.observation:
                    np.take(column, after, axis=0, out=self._buffer(f"after.{name}", column, size)[part], mode="clip")
                if name != "version":
                    np.take(column, here, axis=0, out=self._buffer(name, column, size)[part], mode="clip")
        return Batch(
            observation={name: self._out[name, size] for name in self._schema.observation},
            action=self._out["action", size],
            reward=self._out["next.reward", size],
            done=self._out["next.done", size].view(bool),
            next_observation={name: self._out[f"after.{name}", size] for name in self._schema.observation},
        )

    def _buffer(self, name: str, like: Array, size: int) -> Array:
        if (name, size) not in self._out:
            self._out[name, size] = np.empty((size, *like.shape[1:]), like.dtype)
        return self._out[name, size]

    def _is_ours(self, stream: str) -> bool:
        if stream in self._foreign:
            return False
        found = self._reader.streams()[stream] if stream not in self._shown else self._schema
        if found.digest != self._schema.digest:
            self._foreign.add(stream)
            log.warning("stream %s has schema %s, the run %s: left out", stream, found.digest, self._schema.digest)
            return False
        self._shown.setdefault(stream, [])
        return True

    def _take(self, stream: str, records: Array) -> None:
        self.online_rows += online_steps(records)
        for part in parts_by_episode(records):
            closed = self._tally.add(stream, part)
            if part["klass"][0] == Klass.DEMONSTRATION:
                self._take_demonstration(stream, part, closed)
            else:
                self._take_online(stream, part, closed)

    def _take_demonstration(self, stream: str, part: Array, closed: list[EpisodeSum]) -> None:
        shown = self._shown[stream]
        if shown and shown[-1]["episode"][-1] != part["episode"][0]:
            shown.clear()  # cut by a crash
        shown.append(part)
        if part["kind"][-1] == Kind.LAST:
            if closed and closed[0].success:
                self.demonstration_count += 1
                for piece in shown:
                    self.demonstrations.add(stream, piece)
            shown.clear()

    def _take_online(self, stream: str, part: Array, closed: list[EpisodeSum]) -> None:
        self.online.add(stream, part)
        intervened = (part["is_intervention"] != 0) & (part["kind"] == Kind.STEP)
        self.intervened_rows += int(np.count_nonzero(intervened))
        self.episodes += len(closed)
        self.recent.extend(e for e in closed if not e.interventions)
        if self._config.interventions_are_demonstrations:
            self._take_interventions(stream, part, intervened)

    def _take_interventions(self, stream: str, part: Array, intervened: Array) -> None:
        """Copies the steps under a person's hand, each with the row after it, to the demonstrations."""
        episode, first, last = int(part["episode"][0]), int(part["step"][0]), int(part["step"][-1])
        kept = intervened.copy()
        kept[1:] |= intervened[:-1]
        kept[0] |= self._after_intervention.pop(stream, None) == (episode, first)
        if kept.any():
            self.demonstrations.add(stream, part[kept], intervened[kept])
        if intervened[-1]:
            self._after_intervention[stream] = (episode, last + 1)


def check_memory(config: ReplayConfig, schema: Schema, memory_bytes: int) -> None:
    """Raises ConfigError when the slabs would not fit in memory; logs what they take."""
    each = row_bytes(schema)
    need, room = config.capacity_rows * each, int(config.memory_share * memory_bytes)
    if config.capacity_rows < 2 or need > room:
        raise ConfigError(
            f"replay.capacity_rows = {config.capacity_rows} takes {need / 1e9:.2f} GB at {each} bytes a row, allowed 2 "
            f"to {room // each} rows in {room / 1e9:.2f} GB of memory; set replay.capacity_rows"
        )
    log.info("replay: up to %d online rows of %d bytes, %.2f GB of memory", config.capacity_rows, each, need / 1e9)


def machine_memory_bytes() -> int:
    """The memory that this process may have: the machine's, or its control group's if that is less."""
    total = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    limit = Path("/sys/fs/cgroup/memory.max")
    text = limit.read_text().strip() if limit.exists() else "max"
    return total if text == "max" else min(total, int(text))
