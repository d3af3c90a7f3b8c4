"""Eviction: retention at work on a writer's segments, one with each call, and the room that a full disk needs."""

import logging
from collections.abc import Callable, Mapping
from contextlib import suppress

from user_rl.errors import StorageBusy, StorageCorrupt, StorageFull
from user_rl.log.dropped import keep_footer, prepare
from user_rl.log.durable import translated
from user_rl.log.pins import holding, pinned
from user_rl.log.retention import Held, OnFull, RetentionConfig, outdated
from user_rl.log.segment import Segment
from user_rl.log.shelf import Shelf
from user_rl.log.tally import Tally, count_of
from user_rl.rows import Klass

log = logging.getLogger(__name__)


class Eviction:
    """Drops segments of a writer's shelf, one with each call, so that a commit never waits for long."""

    def __init__(self, shelf: Shelf, config: RetentionConfig, wall: Callable[[], float]) -> None:
        self._shelf, self._config, self._wall = shelf, config, wall
        if config.drops:
            Tally(shelf.path).prepare()
            with translated(shelf.path, 4096):
                prepare(shelf.path)

    def apply(self) -> int:
        """Drops the oldest segment that the config keeps no longer; returns the bytes freed, 0: nothing to drop."""
        if not self._config.drops:
            return 0
        return self._drop_first(outdated([_held(s) for s in self._online()], self._config, self._wall()))

    def make_room(self) -> int:
        """Drops the oldest segment that may go at all, where the config says so; returns the bytes freed."""
        if self._config.on_full is not OnFull.DROP_OLDEST:
            return 0
        return self._drop_first([segment.path.name for segment in self._online() if segment.footer])

    def trim(self, acknowledged: Mapping[str, int], max_bytes: int | None) -> int:
        """Drops segments whose every row is acknowledged, oldest first, while over `max_bytes`; returns the bytes."""
        freed, size = 0, self._shelf.size_bytes()
        if max_bytes is None or size <= max_bytes:
            return 0
        kept = pinned(self._shelf.path)
        for segment in self._shelf.segments[:-1]:
            if size - freed <= max_bytes:
                break
            if segment.footer and segment.path.name not in kept and self._is_acknowledged(segment, acknowledged):
                with suppress(StorageFull):  # no room to write its cursors down elsewhere: try the next
                    freed += self._shelf.drop(segment)
        return freed

    def _is_acknowledged(self, segment: Segment, acknowledged: Mapping[str, int]) -> bool:
        ends = ((self._shelf.names.by_number[number][0], span.last) for number, span in segment.spans().items())
        return all(acknowledged.get(name, -1) >= last for name, last in ends)

    def _online(self) -> list[Segment]:
        return [segment for segment in self._shelf.segments if segment.klass == Klass.ONLINE]

    def _drop_first(self, names: list[str]) -> int:
        """Drops the first that nobody pins and that can be dropped: a full disk may deny one its cursors' place."""
        if not names:
            return 0
        try:
            with holding(self._shelf.path):
                kept = pinned(self._shelf.path)
                for segment in [s for s in self._shelf.segments[:-1] if s.path.name in names]:
                    if segment.path.name not in kept and (freed := self._drop(segment)):
                        return freed
        except StorageBusy:
            log.debug("somebody pins just now: nothing is dropped this time")
        except StorageCorrupt as error:
            log.error("nothing is dropped: %s", error)
        return 0

    def _drop(self, segment: Segment) -> int:
        try:
            Tally(self._shelf.path).add(segment.path.name, count_of(segment.footer, segment.klass))
            keep_footer(segment.path)
            freed = self._shelf.drop(segment)
        except StorageFull:
            return 0
        log.info("%s: dropped by retention, %d bytes", segment.path, freed)
        return freed


def _held(segment: Segment) -> Held:
    rows = sum(span.rows for span in segment.spans().values())
    sealed_s = segment.footer.sealed_s if segment.footer else 0.0
    return Held(segment.path.name, rows, segment.used_bytes(), segment.footer is not None, sealed_s)
