"""Shelf: the writer's segments: which there are, which is written to, when one is sealed, replaced or dropped."""

import logging
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field

from user_rl.errors import ConfigError
from user_rl.log import reading
from user_rl.log.chunk import segment_name
from user_rl.log.codec import check_codecs
from user_rl.log.commits import check_commit
from user_rl.log.durable import drop_folder, sweep, translated
from user_rl.log.lock import WriterLock
from user_rl.log.names import Names
from user_rl.log.quarantine import Reason, damaged, highest_seq, readable_footer, set_aside
from user_rl.log.retention import RetentionConfig
from user_rl.log.segment import MAP_SLACK, Segment, SegmentDamaged, create_segment, segments_in
from user_rl.log.tally import Tally, count_of
from user_rl.rows import Kind, Klass

log = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class LogConfig:
    """How large segments and the log may grow, and what is given up."""

    segment_bytes: int = 256 * 2**20
    max_bytes: int | None = None  # of the whole log: above it trim() works, and commit() refuses
    codecs: dict[str, str] = field(default_factory=dict)  # field or pattern: codec; see user_rl/log/codec.py
    commit: str = "group"  # what a returned commit() means: each, group, nosync; see user_rl/log/commits.py
    group_ms: float = 0.0  # group: between two syncs; 0: every commit() syncs
    retention: RetentionConfig = field(default_factory=RetentionConfig)

    def __post_init__(self) -> None:
        check_codecs(self.codecs)
        check_commit(self.commit, self.group_ms)
        if self.segment_bytes < 1 or (self.max_bytes is not None and self.max_bytes < 4 * self.segment_bytes):
            raise ConfigError(
                f"log: segment_bytes = {self.segment_bytes}, max_bytes = {self.max_bytes}; allowed are segment_bytes "
                "from 1 and max_bytes from 4 segments (or none), for only sealed segments can be trimmed"
            )


DEFAULT = LogConfig()


class Shelf:
    """The segments of one log, oldest first; at most one of each class is active."""

    def __init__(self, lock: WriterLock, config: LogConfig, wall: Callable[[], float] = time.time) -> None:
        """`wall`: the wall clock, for the age of what is sealed."""
        self.path, self.config, self.names = lock.path, config, Names()
        self._lock, self._wall = lock, wall
        self._active: dict[Klass, Segment] = {}
        with translated(self.path, 0):
            sweep(self.path)
            bad = damaged(self.path)
            self.segments = segments_in(self.path, writable=True, sync=config.commit != "nosync", without=bad)
        with ExitStack() as undo:
            undo.callback(self.close)
            for segment in self.segments:
                if segment.footer is None:
                    self._adopt(segment)
            bad |= self._learn()
            known = [segment.last_seq() for segment in self.segments]
            self.next_seq = max([0, *known, *(highest_seq(self.path / name) for name in bad)]) + 1
            for name, problem in bad.items():
                self.set_aside(name, [problem])
            undo.pop_all()

    def soft_left(self, segment: Segment) -> int:
        """Bytes until the segment is to be sealed where its episodes end."""
        return self.config.segment_bytes - segment.used_bytes()

    def hard_left(self, segment: Segment) -> int:
        """Bytes until it is sealed anyway."""
        return self.config.segment_bytes * 3 // 2 - segment.used_bytes()

    def writable(self, klass: Klass, *, episodes_open: bool) -> Segment:
        """The segment to write into: a new one if the last is large and its episodes have ended."""
        segment = self._active.get(klass)
        if segment is None:
            return self._new(klass)
        left = self.hard_left(segment) if episodes_open else self.soft_left(segment)
        if left > 0 or segment.is_empty():
            return segment
        self.retire(segment)
        return self._new(klass)

    def retire(self, segment: Segment) -> None:
        """Seals an active segment at once."""
        self._lock.check()
        segment.seal(self._wall())
        del self._active[segment.klass]

    def cut_episodes(self, klass: Klass) -> Iterator[str]:
        """The streams whose last row in the active segment is not the last of its episode."""
        segment = self._active.get(klass)
        for number, span in segment.spans().items() if segment else ():
            name = self.names.by_number[number][0]
            for chunk in reading.stored([segment], self.names, name, span.last, 1) if segment else ():
                if chunk.head(self.names.schemas[name])["kind"][0] != Kind.LAST:
                    yield name

    def size_bytes(self) -> int:
        """What the segments hold on disk."""
        return sum(segment.used_bytes() for segment in self.segments)

    def drop(self, victim: Segment) -> int:
        """Deletes a sealed segment, not the newest, once the others know its cursors; returns the bytes freed."""
        self._lock.check()
        if self._forgets(victim):
            self._keeper().remember(self._lock.check, self.next_seq - 1, self.names.entries())
        freed = victim.used_bytes()
        victim.close()
        with translated(self.path, 0):
            drop_folder(victim.path)
        self.segments.remove(victim)
        return freed

    def sync(self) -> None:
        """Makes durable what was written without a sync."""
        for segment in self._active.values():
            segment.sync()

    def set_aside(self, name: str, problems: list[str]) -> None:
        """Puts a damaged sealed segment into quarantine; its streams' cursors are known elsewhere before it goes."""
        self._lock.check()
        segment = next((segment for segment in self.segments if segment.path.name == name), None)
        footer = readable_footer(self.path / name)
        names = {number: found for number, (found, _) in self.names.by_number.items()}
        spans = footer.spans if footer else {}
        for number in spans.keys() & names.keys():
            base = self.names.bases.get(names[number], -1)
            self.names.bases[names[number]] = max(base, spans[number].last)
        if segment is not None:
            segment.close()
            self.segments.remove(segment)
        if self._lacks({number: span.last for number, span in spans.items() if number in names}):
            self._keeper().remember(self._lock.check, self.next_seq - 1, self.names.entries())
        Tally(self.path).add(name, count_of(footer, Klass[name.rpartition("-")[0].upper()]))
        said = {names.get(number, f"number {number}"): (span.first, span.last) for number, span in spans.items()}
        rows = footer.rows if footer else None
        reason = Reason(segment=name, problems=problems, at_s=self._wall(), rows=rows, streams=said)
        log.error("%s: %s; it is in quarantine (%s rows), the rest serves: restore it from a backup",
                  self.path, problems[0], "?" if rows is None else rows)  # fmt: skip
        set_aside(self.path, reason)

    def close(self) -> None:
        """Closes every segment."""
        for segment in self.segments:
            segment.close()

    def _adopt(self, segment: Segment) -> None:
        """Takes an unsealed segment over; a class keeps the newest as its active one."""
        segment.free_dead_readers()
        if segment.klass in self._active:
            self._active[segment.klass].seal(self._wall())
        self._active[segment.klass] = segment

    def _new(self, klass: Klass) -> Segment:
        self._lock.check()
        path = self.path / segment_name(klass, self.next_seq)
        map_bytes = 2 * self.config.segment_bytes + MAP_SLACK
        segment = create_segment(path, map_bytes, self.next_seq - 1, self.names.entries())
        segment.syncs = self.config.commit != "nosync"
        self.segments.append(segment)
        self._active[klass] = segment
        return segment

    def _learn(self) -> dict[str, str]:
        """Takes in the streams; returns the segments that turned out to be damaged, and why."""
        bad = dict[str, str]()
        while True:
            try:
                reading.learn(self.segments, self.names, {})
                return bad
            except SegmentDamaged as error:
                bad[error.path.name] = str(error)
                self.segments = [segment for segment in self.segments if segment.path != error.path]

    def _keeper(self) -> Segment:
        """Where cursors are written down: the newest segment, or a new one if that is sealed."""
        newest = self.segments[-1] if self.segments else None
        return self._new(newest.klass if newest else Klass.ONLINE) if newest is None or newest.footer else newest

    def _forgets(self, victim: Segment) -> bool:
        """Whether a cursor would be lost with the victim. Whoever knows the cursors knows the sequence number too."""
        return self._lacks({number: span.last for number, span in victim.spans().items()}, without=victim)

    def _lacks(self, ends: dict[int, int], *, without: Segment | None = None) -> bool:
        """Whether a restart would not find one of these cursors: it looks at the segments' spans and at the stream
        tables of the newest and the active ones."""
        rest, known = [segment for segment in self.segments if segment is not without], dict[int, int]()
        for segment in rest:
            found = [(number, span.last) for number, span in segment.spans().items()]
            if segment.footer is None or segment is rest[-1]:
                found += [(entry.number, entry.base) for entry in segment.streams().values()]
            for number, last in found:
                known[number] = max(last, known.get(number, -1))
        return any(known.get(number, -1) < last for number, last in ends.items())
