"""Replay: the learner's view of the experience log, as batches drawn by a sampler and read through a cache.

The log is the buffer: what is in memory is an index of headers and the rows that fit into the cache. A demonstration
counts when its episode has ended in success; a row whose successor is not here is not drawn; a terminated step has no
bootstrap, a truncated one bootstraps from the episode's last observation.

Draw n depends on (seed, n, horizon of n) alone, whatever the cache holds: a resumed run draws what it would have drawn.
"""

import logging
import os
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from cloud.batch import Batch
from cloud.episodes import EpisodeSum
from cloud.store.ahead import BUFFERS, Ahead
from cloud.store.assemble import Assembler, Wanted
from cloud.store.cache import Cache
from cloud.store.horizons import Horizons
from cloud.store.index import Index
from cloud.store.intake import Intake
from cloud.store.records import Records
from cloud.store.sampler import Learning, Moment, Pool, Sampler
from cloud.store.samplers import as_configured, make_sampler
from cloud.store.shapes import make_shape
from cloud.store.source import Source
from cloud.store.view import View
from user_rl.config import Tree
from user_rl.errors import ConfigError
from user_rl.rows import Klass, Schema
from user_rl.specs import Array, Box

log = logging.getLogger(__name__)

NORMALISER_ROWS = 100_000
AHEAD = 4
SHOWN_ROWS = 10_000  # room for demonstrations
SMALL_BATCH_BYTES = 2**21  # below it a thread costs more than it hides


@dataclass(frozen=True, kw_only=True)
class ReplayConfig:
    """What may be drawn, what counts as a demonstration, and how much memory holds decoded rows."""

    capacity_rows: int = 200_000  # the newest online rows that can be drawn; the log itself keeps all
    interventions_are_demonstrations: bool = True
    sampler: Tree | None = None  # see cloud.store.samplers; None: the algorithm's share of demonstrations, then online
    shape: Tree = field(default_factory=lambda: {"name": "transition"})  # see cloud.store.shapes
    cache_rows: int | None = None  # decoded rows in memory; None: all that can be drawn, within memory_share
    memory_share: float = 0.5  # of the machine's memory, for the cache
    ahead: int | None = None  # batches drawn ahead; None: 4 where batches are large, else 0
    threads: int = 2  # that read and decode
    episode_window: int = 50  # episodes behind a success rate


class Replay:
    """Follows `source` and draws batches. One owner; `sample` must be called with growing numbers to be quick."""

    def __init__(
        self, source: Source, config: ReplayConfig, schema: Schema, *, seed: int, demonstration_share: float = 0.0,
        max_versions: int | None = None, horizons: Path | None = None, memory_bytes: int | None = None,
    ) -> None:  # fmt: skip
        """`horizons`: the file of the run's draws. Raises ConfigError for a sampler or a capacity that cannot be."""
        self._source, self._config, self._schema, self._seed = source, config, schema, seed
        self.index = Index()
        self._records = Records(source, self.index, schema, threads=config.threads)
        self.intake = Intake(source, self.index, self._records, schema, window=config.episode_window)
        self.cache = Cache(self._records, cache_rows(config, schema, memory_bytes or machine_memory_bytes()))
        self._horizons = Horizons(horizons)
        tree = config.sampler or as_configured(
            demonstration_share, interventions=config.interventions_are_demonstrations, max_versions=max_versions
        )
        self._sampler: Sampler = make_sampler(tree, (AHEAD if config.ahead is None else config.ahead) + 1)
        learns = isinstance(self._sampler, Learning) and bool(self._sampler.state_dict(0))
        self._learning = self._sampler if isinstance(self._sampler, Learning) and learns else None
        self._shape = make_shape(config.shape)
        assembler = Assembler(self.cache, self._records, schema, BUFFERS)
        self._ahead: Ahead[Wanted, Batch] = Ahead(self._draw, assembler.make, 0)
        self._size = self._version = self._drawn = 0
        self._passed = 0  # online rows, counted from the first, that are too old to be drawn
        self._last: Moment | None = None
        self._waiting: dict[int, Array] = {}  # rows of the draws whose priorities are still to come

    @property
    def seq(self) -> int:
        """The last commit of the log that was taken in."""
        return self.intake.seq

    @property
    def rows(self) -> int:
        """Rows that the index knows."""
        return len(self.index)

    @property
    def online_rows(self) -> int:
        """Online steps of the whole log."""
        return self.intake.online_rows

    @property
    def demonstration_count(self) -> int:
        """Closed demonstrations that ended in success."""
        return self.intake.demonstration_count

    @property
    def recent(self) -> deque[EpisodeSum]:
        """The last online episodes without intervention."""
        return self.intake.recent

    def refresh(self) -> int:
        """Takes in new commits, a thousand chunks at most, and returns how many online steps they brought."""
        before = self.online_rows
        self.intake.advance()
        return self.online_rows - before

    def catch_up(self) -> None:
        """Takes in all that the log holds now."""
        while self.intake.advance():
            pass

    def can_sample(self, version: int = 0) -> bool:
        """Whether the sampler would find anything for weights number `version`."""
        return self._sampler.can_draw(self._moment(self.seq, self._drawn, version))

    def sample(self, number: int, size: int, version: int = 0) -> Batch:
        """Draw `number`, for weights number `version`: `size` samples, whose arrays hold until the next call.

        Raises NothingToDraw.
        """
        if size != self._size:
            self._ahead.forget()
            self._size = size
            self._ahead.depth = self._depth()
        self._version = version
        return self._ahead.take(number)

    def learned(self, number: int, priorities: Array) -> None:
        """The priorities [B] that batch `number` has brought, for a sampler that uses them."""
        rows = self._waiting.pop(number, None)
        if rows is not None and self._learning is not None:
            self._learning.update(number, rows, priorities)

    def state_dict(self, number: int) -> dict[str, Array]:
        """What the sampler has learned, just before draw `number`."""
        return {} if self._learning is None else self._learning.state_dict(number)

    def load_state_dict(self, state: Mapping[str, Array]) -> None:
        """Goes on from there."""
        if self._learning is not None:
            self._learning.load_state_dict(state)

    def observations(self) -> dict[str, Array]:
        """The observed vectors of the rows that may be drawn, to fit a normaliser; the newest where there are many."""
        at = self._moment(self.seq, 0, 0)
        rows = [at.window(pool).rows[-NORMALISER_ROWS:] for pool in (Pool.DEMONSTRATIONS, Pool.ONLINE)]
        boxes = [name for name, spec in self._schema.observation.items() if isinstance(spec, Box)]
        return {name: np.concatenate([self._records.plain(part, name) for part in rows]) for name in boxes}

    def close(self) -> None:
        """Ends the threads; the source is its owner's."""
        self._ahead.close()
        self._records.close()
        self.intake.close()
        self._horizons.close()

    def _depth(self) -> int:
        if self._config.ahead is not None:
            return self._config.ahead
        return AHEAD if 2 * self._size * self._schema.row_bytes > SMALL_BATCH_BYTES else 0

    def _draw(self, number: int) -> Wanted:
        """What batch `number` holds: a function of the seed, the number, its horizon and what was learned by then."""
        at = self._moment(self._horizons.of(number, self.seq), number, self._version)
        rng = np.random.Generator(np.random.Philox(key=(number << 64) | self._seed))
        drawn = self._sampler.draw(at, rng, self._size)
        if self._learning is not None:
            self._waiting[number] = drawn.rows
        self._drawn = number
        shaped = self._shape(View(self.index, drawn.rows, at.end), drawn.rows, None)
        weight = None if self._learning is None else drawn.weights
        return Wanted(shaped, weight, len(self.index), self._gone(at.end))

    def _moment(self, seq: int, number: int, version: int) -> Moment:
        end = self.index.at(seq)
        if self._last is None or self._last.end != end:
            self._last = Moment(index=self.index, end=end, number=number, capacity_rows=self._config.capacity_rows)
        return self._last.after(number, version)

    def _gone(self, end: int) -> Array:
        """Online rows that were passed by the capacity since the last draw, but for those under a person's hand."""
        online = self.index.of_klass[Klass.ONLINE].array
        first = max(self._passed, int(np.searchsorted(online, end)) - self._config.capacity_rows)
        rows, self._passed = online[self._passed : first], first
        return rows[~self.index.intervened.array[rows]]


def cache_rows(config: ReplayConfig, schema: Schema, memory_bytes: int) -> int:
    """How many decoded rows are kept in memory. Raises ConfigError for a capacity that draws nothing."""
    if config.capacity_rows < 2:
        raise ConfigError(f"replay.capacity_rows = {config.capacity_rows}, allowed 2 or more; set replay.capacity_rows")
    room = int(config.memory_share * memory_bytes) // schema.row_bytes
    rows = min(config.capacity_rows + SHOWN_ROWS if config.cache_rows is None else config.cache_rows, room)
    size = rows * schema.row_bytes / 1e9
    log.info("replay: %d online rows of %d bytes, %d of them in memory (%.2f GB)",
             config.capacity_rows, schema.row_bytes, rows, size)  # fmt: skip
    return rows


def machine_memory_bytes() -> int:
    """The memory that this process may have: the machine's, or its control group's if that is less."""
    total = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    limit = Path("/sys/fs/cgroup/memory.max")
    text = limit.read_text().strip() if limit.exists() else "max"
    return total if text == "max" else min(total, int(text))
