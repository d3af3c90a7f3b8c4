"""A checkpoint's claim on the log: the snapshot that its manifest names, pinned so that retention drops none of it.

The segments of the checkpoint before stay pinned until the next save, for it is the one that counts until the new
manifest is there. Where the snapshot cannot be pinned the checkpoint is saved without one, and a line says so.
"""

import logging
from pathlib import Path

from user_rl.errors import StorageError
from user_rl.log import Reader
from user_rl.log.pins import pin
from user_rl.log.segment import SegmentGone
from user_rl.log.snapshot import Snapshot, Wanted, check, snapshot
from user_rl.log.tally import Tally

log = logging.getLogger(__name__)
HOLDER = "checkpoint"  # the name of its file in the log's folder `pins`
TRIES = 8  # to choose anew when retention was faster


class LogClaim:
    """What one run's checkpoints hold of its log. `source` that is no Reader of a log on disk holds nothing."""

    def __init__(self, path: Path, source: object, wanted: Wanted) -> None:
        self._path, self._reader, self._wanted = path, source if isinstance(source, Reader) else None, wanted
        self._taken: list[Snapshot] = []  # that may still become the manifest's

    def gone_steps(self) -> int:
        """Online steps that the log had and has no more: the run has done them all the same."""
        return Tally(self._path).count().steps

    def take(self, seq: int, before: Snapshot | None) -> Snapshot | None:
        """The log at commit `seq`, its segments pinned beside those of `before`, the manifest's, and of what was taken
        since and may be on its way there; None: it could not be."""
        if self._reader is None:
            return None
        self._taken = [s for s in self._taken if before is None or s.seq > before.seq]
        held = [*([before] if before else []), *self._taken]
        try:
            for _ in range(TRIES):
                found, here = snapshot(self._reader, seq, self._wanted), set(self._reader.segments())
                kept = here.intersection(name for one in held for name in one.segments)
                try:
                    pin(self._path, HOLDER, {*found.segments, *kept}, seqs={found.seq, *(one.seq for one in held)})
                    self._taken.append(found)
                    return found
                except SegmentGone:
                    continue
            raise StorageError(f"{self._path}: retention dropped what was to be pinned {TRIES} times in a row")
        except StorageError as error:
            log.warning("a checkpoint without a hold on the log: %s", error)
            return None

    def check(self, found: Snapshot | None) -> None:
        """Says in one line what the log lacks of a checkpoint's snapshot."""
        if found is not None and self._reader is not None and (missing := check(found, self._reader)):
            log.warning("%s; the run goes on with what is there", missing)
