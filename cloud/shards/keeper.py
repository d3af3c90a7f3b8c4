"""The driver's part: which cell is at home at which shard now, and the moves when a shard dies, comes back or joins."""

import logging
from collections.abc import Callable, Mapping
from pathlib import Path

from cloud.shards.assign import Load, assign
from cloud.shards.table import ShardTable
from user_rl.errors import StorageBusy, StorageError
from user_rl.fleet import Doors
from user_rl.log import Reader
from user_rl.log.lock import WriterLock

log = logging.getLogger(__name__)

Fenced = tuple[dict[str, int], int]  # the last durable step of each of a cell's streams, and the log's newest commit
MOVES = 8  # in one tick, for the driver has other things to do


class Keeper:
    """Keeps the table as the cells and the shards that live want it. One thread."""

    def __init__(self, table: ShardTable, fence: Callable[[int, str], Fenced | None]) -> None:
        """`fence(shard, cell)` asks how far a shard has come with a cell that the table says is leaving it; None: it
        cannot be known yet."""
        self._table, self._fence = table, fence
        self.moved = 0
        self.trouble = ""

    def tick(self, cells: Mapping[str, Load], living: Mapping[int, str]) -> None:
        """Moves what is not where it belongs; what cannot move now is tried again. `living`: shards and their sites."""
        self.trouble = ""
        homes = {cell: self._table.now.home(cell) for cell in cells}
        wanted = assign(cells, living, {cell: home.shard for cell, home in homes.items()})
        due = [c for c, shard in sorted(wanted.items()) if homes[c].leaving or homes[c].shard != shard]
        for cell in due[:MOVES]:
            if not self._move(cell, wanted[cell]):
                self.trouble = f"{cell} waits for shard {homes[cell].shard}, which does not say how far it has come"
                return

    def doors(self, shards: Mapping[int, Doors]) -> dict[str, Doors]:
        """Where each cell that is not at home at shard 0 finds its gateway."""
        homes = self._table.now.homes.items()
        return {cell: shards[home.shard] for cell, home in homes if home.shard and home.shard in shards}

    def _move(self, cell: str, shard: int) -> bool:
        old = self._table.now.home(cell).shard
        self._table.leave(cell)
        fenced = self._fence(old, cell)
        if fenced is None:
            return False
        self._table.arrive(cell, shard, *fenced)
        self.moved += 1
        log.info("%s goes from shard %d to shard %d", cell, old, shard)
        return True


def fence_dead(path: Path, cell: str, run: str) -> Fenced | None:
    """What the log of a shard that does not run has of a cell; None: its disk is not here, or somebody writes there.

    Whoever wrote there before writes no more: the log's epoch has moved on. A gateway that comes back reads the table.
    """
    if not (path / "log.json").is_file():
        return None
    try:
        lock = WriterLock(path)
    except StorageBusy as error:
        log.info("%s", error)
        return None
    try:
        with Reader(path) as reader:
            streams = [s for s in reader.streams() if s.startswith(f"{cell}/") and s.endswith(f"/{run}")]
            return {s: reader.synced(s) for s in streams}, reader.seq()
    except StorageError as error:
        log.warning("%s", error)
        return None
    finally:
        lock.close()
