"""What the gateways of one run share, and what a gateway does when a cell leaves it. No I/O but the log's own."""

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from user_rl.errors import ConfigError, StorageError, StorageFull
from user_rl.log import Log

MAX_SHARDS = 64


@dataclass(frozen=True, kw_only=True)
class Elsewhere:
    """What the run's other shards have, for the permits and quotas that all of them share."""

    online_rows: int = 0
    cells: int = 0  # that can be reached there
    shown: Mapping[str, int] = field(default_factory=dict)  # successful demonstrations by cell


def always_ours(_stream: str) -> int | None:
    """Of a run with one gateway: every stream is its own, from the first step on."""
    return 0


def check_shards(count: int, dead_after_s: float) -> None:
    """Raises ConfigError for what `gateway.shards` and `gateway.dead_after_s` cannot be."""
    if not 1 <= count <= MAX_SHARDS:
        raise ConfigError(f"gateway.shards = {count}, allowed 1 to {MAX_SHARDS}; 1 serves most runs")
    if not dead_after_s > 0:
        raise ConfigError(f"gateway.dead_after_s = {dead_after_s}, allowed more than 0; 15 is for most")


def check_left(streams: Sequence[str], opens_at: Callable[[str], int | None]) -> None:
    """Raises StorageError where a stream that is to be fenced is still this shard's own."""
    still = [s for s in streams if opens_at(s) is not None]
    if still:
        raise StorageError(f"{still[0]} is still this shard's own; take it away in the table first")


def fenced(log: Log, streams: Sequence[str]) -> tuple[dict[str, int], int]:
    """The last durable step of each stream, and the log's newest commit; raises StorageFull while rows wait."""
    waiting = [s for s in streams if log.appended(s) > log.synced(s)]
    if waiting:
        raise StorageFull(f"rows of {waiting[0]} wait for a commit; free some space, then move it")
    return {s: log.synced(s) for s in streams}, log.seq


def sum_elsewhere(gateways: Mapping[int, Mapping[str, Any]], number: int) -> Elsewhere:
    """What all gateways but `number` have, of their statuses."""
    others = [status for other, status in gateways.items() if other != number]
    shown = Counter[str]()
    for status in others:
        shown.update(status["shown"])
    rows, cells = (sum(s["online_rows"] for s in others), sum(len(s["cells"]) for s in others))
    return Elsewhere(online_rows=rows, cells=cells, shown=shown)
