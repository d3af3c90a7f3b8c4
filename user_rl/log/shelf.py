"""Shelf: the writer's segments: which there are, which is written to, when one is sealed, replaced or dropped."""

from collections.abc import Iterator
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
from user_rl.log.segment import MAP_SLACK, Segment, create_segment, segments_in
from user_rl.rows import Kind, Klass


@dataclass(frozen=True, kw_only=True)
class LogConfig:
    """How large segments and the log may grow."""

    segment_bytes: int = 256 * 2**20
    max_bytes: int | None = None  # of the whole log: above it trim() works, and commit() refuses
    codecs: dict[str, str] = field(default_factory=dict)  # field or pattern: codec; see user_rl/log/codec.py
    commit: str = "group"  # what a returned commit() means: each, group, nosync; see user_rl/log/commits.py
    group_ms: float = 0.0  # group: between two syncs; 0: every commit() syncs

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

    def __init__(self, lock: WriterLock, config: LogConfig) -> None:
        self.path, self.config, self.names = lock.path, config, Names()
        self._lock = lock
        self._active: dict[Klass, Segment] = {}
        with translated(self.path, 0):
            sweep(self.path)
            self.segments = segments_in(self.path, writable=True, sync=config.commit != "nosync")
        with ExitStack() as undo:
            undo.callback(self.close)
            for segment in self.segments:
                if segment.footer is None:
                    self._adopt(segment)
            reading.learn(self.segments, self.names, {})
            self.next_seq = max((segment.last_seq() for segment in self.segments), default=0) + 1
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
        segment.seal()
        del self._active[segment.klass]

    def cut_episodes(self, klass: Klass) -> Iterator[str]:
        """The streams whose last row in the active segment is not the last of its episode."""
        segment = self._active.get(klass)
        for number, span in segment.spans().items() if segment else ():
            name = self.names.by_number[number][0]
            for chunk in reading.read([segment], self.names, name, span.last, 1) if segment else ():
                if self.names.schemas[name].view(chunk.data)["kind"][0] != Kind.LAST:
                    yield name

    def size_bytes(self) -> int:
        """What the segments hold on disk."""
        return sum(segment.used_bytes() for segment in self.segments)

    def drop(self, victim: Segment) -> int:
        """Deletes a sealed segment, not the newest, once the others know its cursors; returns the bytes freed."""
        self._lock.check()
        if self._forgets(victim):
            newest = self.segments[-1]
            keeper = self._new(newest.klass) if newest.footer else newest
            keeper.remember(self._lock.check, self.next_seq - 1, self.names.entries())
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

    def close(self) -> None:
        """Closes every segment."""
        for segment in self.segments:
            segment.close()

    def _adopt(self, segment: Segment) -> None:
        """Takes an unsealed segment over; a class keeps the newest as its active one."""
        segment.free_dead_readers()
        if segment.klass in self._active:
            self._active[segment.klass].seal()
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

    def _forgets(self, victim: Segment) -> bool:
        """Whether a cursor would be lost with the victim: the others' spans and the stream tables of the newest and
        the active segments are what a restart looks at. Whoever knows the cursors knows the sequence number too."""
        rest, known = [segment for segment in self.segments if segment is not victim], dict[int, int]()
        for segment in rest:
            ends = [(number, span.last) for number, span in segment.spans().items()]
            if segment.footer is None or segment is rest[-1]:
                ends += [(entry.number, entry.base) for entry in segment.streams().values()]
            for number, last in ends:
                known[number] = max(last, known.get(number, -1))
        return any(known.get(number, -1) < span.last for number, span in victim.spans().items())
