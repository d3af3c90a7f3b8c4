"""Replay: the learner's view of the experience log, as batches drawn by a sampler and read through a cache.

The log is the buffer: what is in memory is an index of headers and the rows that fit into the cache. A demonstration
counts when its episode has ended in success; a row whose successor is not here is not drawn; a terminated step has no
bootstrap, a truncated one bootstraps from the episode's last observation.

Draw n depends on (seed, n, horizon of n) alone, whatever the cache holds: a resumed run draws what it would have drawn.
"""

import logging
from collections import deque
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from cloud.batch import Batch
from cloud.episodes import EpisodeSum
from cloud.staleness import FreshState
from cloud.store.ahead import BUFFERS, Ahead
from cloud.store.assemble import Assembler, Making, Wanted
from cloud.store.cache import Cache
from cloud.store.index import Index
from cloud.store.intake import Intake
from cloud.store.records import ChunkLost, Records
from cloud.store.replay_config import ReplayConfig as ReplayConfig
from cloud.store.replay_config import cache_rows, check_config, late_names
from cloud.store.replay_config import machine_memory_bytes as machine_memory_bytes
from cloud.store.sampler import Learning, Pool, Sampler
from cloud.store.samplers import as_configured, make_sampler
from cloud.store.samplers.on_policy import check_queues, queue_in, with_queue, without_queue
from cloud.store.shapes import make_shape
from cloud.store.sight import Sight
from cloud.store.source import Source
from cloud.store.view import View
from user_rl.clock import Clock, SystemClock
from user_rl.rows import Schema
from user_rl.specs import Array, Box

log = logging.getLogger(__name__)

NORMALISER_ROWS = 100_000
AHEAD = 4
SMALL_BATCH_BYTES = 2**21  # below it a thread costs more than it hides


class Replay:
    """Follows `source` and draws batches. One owner; `sample` must be called with growing numbers to be quick."""

    def __init__(
        self, source: Source, config: ReplayConfig, schema: Schema, *, seed: int, demonstration_share: float = 0.0,
        max_versions: int | None = None, run: Path | None = None, memory_bytes: int | None = None,
        clock: Clock | None = None,
    ) -> None:  # fmt: skip
        """`run`: the run's folder; its draws are written down there, and its late columns lie there.

        Raises ConfigError for a sampler, or anything else, that cannot be.
        """
        check_config(config)
        self._source, self._config, self._schema, self._seed = source, config, schema, seed
        self.index = Index()
        self._records = Records(source, self.index, schema, threads=config.threads)
        self.intake = Intake(
            source, self.index, self._records, schema, window=config.episode_window, pictures=config.pictures
        )
        self.cache = Cache(self._records, cache_rows(config, schema, memory_bytes or machine_memory_bytes()))
        self._sight = Sight(
            source, self.index, self._records, capacity_rows=config.capacity_rows, names=late_names(config),
            reward_required=config.reward_required, run=run, clock=clock or SystemClock(),
        )  # fmt: skip
        tree = config.sampler or as_configured(
            demonstration_share, interventions=config.interventions_are_demonstrations, max_versions=max_versions
        )
        self._sampler: Sampler = make_sampler(tree, (AHEAD if config.ahead is None else config.ahead) + 1)
        learned = self._sampler.state_dict(0) if isinstance(self._sampler, Learning) else {}
        check_queues(learned)
        self._learning = self._sampler if isinstance(self._sampler, Learning) and learned else None
        self._heeds = self._learning is not None and self._learning.heeds
        self._shape = make_shape(config.shape)
        self._making = self._maker()
        self._ahead: Ahead[Wanted, Batch] = Ahead(self._draw, self._making.make, 0)
        self._size = self._version = self._drawn = 0
        self._waiting: dict[int, Array] = {}  # rows of the draws whose priorities are still to come

    @property
    def seq(self) -> int:
        """The last commit of the log that was taken in."""
        return self.intake.seq

    @property
    def columns(self) -> dict[str, int]:
        """The late columns that count, each with the last commit of it that is seen."""
        return self._sight.seen.columns

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
        self.advance()
        return self.online_rows - before

    def advance(self) -> bool:
        """As `refresh`; whether there are more commits than that."""
        more = self.intake.advance()
        self._sight.look()
        return more

    def catch_up(self) -> None:
        """Takes in all that the log holds when it is called."""
        while self.intake.advance():
            pass
        self._sight.look(now=True)

    def can_sample(self, version: int = 0, size: int = 1) -> bool:
        """Whether the sampler would find `size` samples for weights number `version`."""
        return self._sampler.can_draw(self._sight.newest(self.seq, self._drawn, version).asking(size))

    def sample(self, number: int, size: int, version: int = 0) -> Batch:
        """Draw `number`, for weights number `version`: `size` samples, whose arrays hold until the next call.

        What the log has lost is taken out, and the batch drawn again. Raises NothingToDraw.
        """
        if size != self._size:
            self._ahead.forget()
            if self._learning is not None:
                self._learning.take_back(number)
            self._size = size
            self._ahead.depth = self._depth()
        self._version = version
        while True:
            try:
                return self._ahead.take(number)
            except ChunkLost as lost:
                self._lose(number, lost)

    def learned(self, number: int, priorities: Array) -> None:
        """The priorities [B] that batch `number` has brought, for a sampler that uses them."""
        rows = self._waiting.pop(number, None)
        if rows is not None and self._learning is not None and self._heeds:
            self._learning.update(number, rows, priorities)

    def state_dict(self, number: int) -> dict[str, Array]:
        """What the sampler has learned, just before draw `number`; its queue is told by `fresh`."""
        return without_queue({} if self._learning is None else self._learning.state_dict(number))

    def fresh(self, number: int) -> FreshState | None:
        """What the sampler's queue of on-policy data was just before draw `number`, None where it has none."""
        return None if self._learning is None else queue_in(self._learning.state_dict(number))

    def load_state_dict(self, state: Mapping[str, Array], fresh: FreshState | None = None) -> None:
        """Goes on from there."""
        if self._learning is not None:
            self._learning.load_state_dict(with_queue(state, self._learning.state_dict(self._drawn), fresh))

    def observations(self) -> dict[str, Array]:
        """The observed vectors of the rows that may be drawn, to fit a normaliser; the newest where there are many."""
        at = self._sight.newest(self.seq, 0, 0)
        rows = [at.window(pool).rows[-NORMALISER_ROWS:] for pool in (Pool.DEMONSTRATIONS, Pool.ONLINE)]
        boxes = [name for name, spec in self._schema.observation.items() if isinstance(spec, Box)]
        while True:
            there = [part[~self.index.is_lost(part)] for part in rows]
            try:
                return {name: np.concatenate([self._records.plain(part, name) for part in there]) for name in boxes}
            except ChunkLost as lost:
                self._lose(0, lost)

    def close(self) -> None:
        """Ends the threads; the source is its owner's."""
        self._ahead.close()
        self._records.close()
        self.intake.close()
        self._sight.close()

    def _depth(self) -> int:
        if self._config.ahead is not None:
            return self._config.ahead
        return AHEAD if 2 * self._size * self._schema.row_bytes > SMALL_BATCH_BYTES else 0

    def _draw(self, number: int) -> Wanted:
        """What batch `number` holds: a function of the seed, the number, its horizon and what was learned by then."""
        at = self._sight.of_draw(self.seq, number, self._version).asking(self._size)
        if not self._sampler.can_draw(at):  # the log has lost since what that draw saw
            at = self._sight.of_draw(self.seq, number, self._version, anew=True).asking(self._size)
        rng = np.random.Generator(np.random.Philox(key=(number << 64) | self._seed))
        drawn = self._sampler.draw(at, rng, self._size)
        if self._heeds:
            self._waiting[number] = drawn.rows
        self._drawn = number
        late = self._sight.rewards(at)
        shaped = self._shape(View(self.index, drawn.rows, at.end), drawn.rows, None if late is None else late.rewards)
        weight = drawn.weights if self._heeds else None
        online = at.window(Pool.ONLINE).rows
        return Wanted(shaped, weight, len(self.index), int(online[0]) if len(online) else 0)

    def _lose(self, number: int, lost: ChunkLost) -> None:
        """Goes on without what cannot be read; the draws from `number` on are made again."""
        self._ahead.forget()
        for rows in self._sight.lose(lost):
            self._making.evict(rows)
        self._waiting = {n: rows for n, rows in self._waiting.items() if n < number}
        if self._learning is not None:
            self._learning.take_back(number)

    def _maker(self) -> Making:
        if not self._config.device_rows:
            return Assembler(self.cache, self._records, self.index, BUFFERS)
        from cloud.store.device import DeviceAssembler, pick  # torch is needed for it alone

        return DeviceAssembler(
            self.cache, self._records, self.index, BUFFERS, slots=self._config.device_rows, device=pick()
        )
