"""The replay's configuration, and how much of it fits into memory."""

import logging
import os
from dataclasses import dataclass, field
from pathlib import Path

from cloud.store.late import LateNames, columns_in
from user_rl.config import Tree
from user_rl.errors import ConfigError
from user_rl.rows import Schema

log = logging.getLogger(__name__)

SHOWN_ROWS = 10_000  # room for demonstrations


@dataclass(frozen=True, kw_only=True)
class ReplayConfig:
    """What may be drawn, what counts as a demonstration, and how much memory holds decoded rows."""

    capacity_rows: int = 200_000  # the newest online rows that can be drawn; the log keeps what log.retention says
    interventions_are_demonstrations: bool = True
    sampler: Tree | None = None  # see cloud.store.samplers; None: the algorithm's share of demonstrations, then online
    shape: Tree = field(default_factory=lambda: {"name": "transition"})  # see cloud.store.shapes
    reward: str | None = None  # a late column, such as reward@classifier-3, whose values replace the rows' own
    reward_required: bool = False  # only rows that have it are drawn
    success: str | None = None  # one by episode, such as success@anna, that replaces what the episode's rows say
    discard: str | None = "keep"  # episodes for which it is 0 are not drawn: user-rl label --discard, by anybody
    cache_rows: int | None = None  # decoded rows in memory; None: all that can be drawn, within memory_share
    memory_share: float = 0.5  # of the machine's memory, for the cache
    device_rows: int = 0  # decoded rows in a GPU's memory, or the machine's where there is none; 0: batches are numpy's
    ahead: int | None = None  # batches drawn ahead; None: 4 where batches are large, else 0
    threads: int = 2  # that read and decode
    episode_window: int = 50  # episodes behind a success rate
    pictures: bool = True  # rows whose pictures were not recorded are not drawn; a learner that sees none draws them


def check_config(config: ReplayConfig) -> None:
    """Raises ConfigError for what cannot be."""
    if config.capacity_rows < 2:
        raise ConfigError(f"replay.capacity_rows = {config.capacity_rows}, allowed 2 or more; set replay.capacity_rows")
    if config.device_rows < 0:
        raise ConfigError(f"replay.device_rows = {config.device_rows}, allowed 0 or more; set replay.device_rows")
    if config.reward_required and config.reward is None:
        raise ConfigError("replay.reward_required = true, allowed with replay.reward; name a column there")


def cache_rows(config: ReplayConfig, schema: Schema, memory_bytes: int) -> int:
    """How many decoded rows are kept in memory; says so in a line."""
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


def late_names(config: ReplayConfig) -> LateNames:
    """The late columns that the config names."""
    return LateNames(
        reward=config.reward, success=config.success, discard=config.discard, others=columns_in(config.sampler)
    )
