"""Reader: another process's view of a log while its writer goes on. It never writes and never blocks the writer.

Every call sees the newest commit: it looks for new segments, frees the slots of dead readers, and opens its
transactions afresh. Calls of several threads wait for each other, `scan` belongs to one; `hold` is for threads that
read at the same time. LMDB opens an environment once per process, so the process that has the Log reads through it.
"""

import logging
import os
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import TypeVar

from user_rl.errors import StorageError
from user_rl.log import reading
from user_rl.log.chunk import Chunk, ChunkRef, Gap, Span, Stored
from user_rl.log.dropped import dropped_spans
from user_rl.log.episodes import Episode
from user_rl.log.hold import MAX_OPEN, Hold, Source
from user_rl.log.lock import read_identity
from user_rl.log.names import Names
from user_rl.log.quarantine import problem_of
from user_rl.log.segment import Segment, SegmentDamaged, SegmentGone, is_segment_name
from user_rl.log.snapshot import Snapshot, Wanted, taken
from user_rl.rows import Klass, Schema

log = logging.getLogger(__name__)
T = TypeVar("T")
RETRIES = 8  # a call that loses its segment to trim() this often in a row gives up


class Reader:
    """Reads the log that another process writes. Raises StorageError if there is none yet."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.log_id = read_identity(path).log_id
        self._segments: list[Segment] = []
        self._names = Names()
        self._seen: dict[str, int] = {}
        self._damaged: set[str] = set()  # segments that cannot be opened
        self._by_name: dict[str, Segment] = {}
        self._source = Source(segment=self._by_name.get, schema=lambda stream: self._names.schemas[stream])
        with ExitStack() as undo:
            undo.callback(self.close)
            self._fresh(lambda: None)
            undo.pop_all()

    def tail(self, after_seq: int, max_bytes: int) -> list[tuple[int, Chunk]]:
        """(seq, chunk) in commit order after `after_seq`: at most `max_bytes`, yet at least one if there is any.

        Start with 0. Rows that became gaps or were trimmed have no chunk: look at `Chunk.first`.
        """
        until_seq = self.seq()
        if until_seq <= after_seq:
            return []
        # What was committed before `until_seq` is visible to the second look, whichever segment it went to.
        return self._fresh(lambda: reading.tail(self._segments, self._names, after_seq, until_seq, max_bytes))

    def refs(self, after_seq: int, max_chunks: int) -> list[ChunkRef]:
        """As `tail`, where at most `max_chunks` chunks lie, without a look at their rows."""
        until_seq = self.seq()
        if until_seq <= after_seq:
            return []
        return self._fresh(lambda: reading.refs(self._segments, self._names, after_seq, until_seq, max_chunks))

    def hold(self, max_open: int = MAX_OPEN) -> Hold:
        """Access to the rows of chunks where they lie: one for each thread, entered for each batch."""
        return Hold(self._source, max_open)

    def read(self, stream: str, first: int, max_bytes: int) -> list[Chunk]:
        """As `Log.read`."""
        return self._fresh(lambda: reading.read(self._segments, self._names, stream, first, max_bytes))

    def streams(self) -> dict[str, Schema]:
        """The streams that have committed rows or gaps."""
        return self._fresh(lambda: dict(self._names.schemas))

    def seq(self) -> int:
        """The newest commit; 0: none."""
        return self._fresh(lambda: max((segment.last_seq() for segment in self._segments), default=0))

    def synced(self, stream: str) -> int:
        """The last committed step; -1: none."""
        return self._fresh(lambda: reading.synced(self._segments, self._names, stream))

    def first_kept(self, stream: str) -> int:
        """As `Log.first_kept`."""
        return self._fresh(lambda: reading.first_kept(self._segments, self._names, stream))

    def gaps(self) -> list[Gap]:
        """Every committed gap, by stream and step."""
        return self._fresh(lambda: reading.gaps(self._segments, self._names))

    def episodes(self) -> list[Episode]:
        """The episode table, by stream and first step."""
        return self._fresh(lambda: reading.episodes(self._segments, self._names))

    def scan(self, stream: str, without: frozenset[str] = frozenset()) -> Iterator[Chunk]:
        """Every chunk of a stream as it is stored, segment by segment: rows that stand twice come twice.

        Coded fields named in `without` are left zero instead of being decoded.
        """
        return self._fresh(lambda: reading.scan(self._segments, self._names, self._names.number(stream), without))

    def scan_stored(self, stream: str) -> Iterator[Stored]:
        """As `scan`, as the chunks are stored."""
        return self._fresh(lambda: reading.scan_stored(self._segments, self._names, self._names.number(stream)))

    def lossy(self, stream: str) -> frozenset[str]:
        """The fields of a stream that are stored, in any chunk, by a codec that does not give back the same bytes."""
        return self._fresh(lambda: reading.lossy(self._segments, self._names, self._names.number(stream)))

    def segments(self) -> list[str]:
        """The segments that can be read, oldest first."""
        return self._fresh(lambda: [segment.path.name for segment in self._segments])

    def first_online(self) -> int:
        """The first commit of the oldest segment of online rows; 0: there is none."""
        return first_online(self.segments())

    def spans(self) -> dict[str, dict[str, Span]]:
        """What each segment has of each stream."""
        return self._fresh(
            lambda: {
                segment.path.name: {self._names.by_number[number][0]: span for number, span in segment.spans().items()}
                for segment in self._segments
            }
        )

    def dropped(self, stream: str) -> list[Span]:
        """What retention dropped of a stream, one span for each segment."""
        return self._fresh(lambda: dropped_spans(self.path).get(self._names.number(stream), []))

    def snapshot(self, seq: int | None, wanted: Wanted) -> Snapshot:
        """See user_rl.log.snapshot."""
        if seq is None:
            seq = self.seq()
        return self._fresh(lambda: taken(self._segments, self._names, self.log_id, seq, wanted))

    def close(self) -> None:
        """Closes every segment, once no hold looks into it."""
        with self._source.lock:
            for segment in self._segments:
                segment.close()
            self._segments = []
            self._by_name.clear()

    def __enter__(self) -> "Reader":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _fresh(self, call: Callable[[], T]) -> T:
        """Looks what is new, then calls; again if the writer trimmed a segment in between."""
        for _ in range(RETRIES):
            try:
                with self._source.lock:
                    self._refresh()
                    return call()
            except SegmentGone:
                continue
            except SegmentDamaged as error:
                self._leave_out(error.path.name, str(error))
        raise StorageError(f"{self.path}: segments were trimmed {RETRIES} times while they were read; read again later")

    def _is_sound(self, name: str) -> bool:
        """Whether a segment can be looked at; its writer sets aside what cannot, this reader goes on without it."""
        folder = self.path / name
        if name not in self._damaged and (folder / "footer.json").exists() and (problem := problem_of(folder)):
            self._leave_out(name, problem)
        return name not in self._damaged

    def _leave_out(self, name: str, problem: str) -> None:
        self._damaged.add(name)
        self._segments = [segment for segment in self._segments if segment.path.name != name]
        log.warning("%s; its rows are left out: user-rl buffer verify %s says more", problem, self.path)

    def _refresh(self) -> None:
        names = {entry for entry in os.listdir(self.path) if is_segment_name(entry)}
        known = {segment.path.name: segment for segment in self._segments}
        if names != known.keys():
            for name in known.keys() - names:
                known.pop(name).close()
            known.update({name: Segment(self.path / name) for name in names - known.keys() if self._is_sound(name)})
            self._segments = sorted(known.values(), key=lambda segment: segment.first_seq)
            self._by_name.clear()
            self._by_name.update(known)
        for segment in self._segments:
            segment.look_for_footer()
            if segment.footer is None:
                segment.free_dead_readers()
        reading.learn(self._segments, self._names, self._seen)
        reading.close_idle(self._segments)


def first_online(segments: Iterable[str]) -> int:
    """The first commit of the oldest segment of online rows; 0: there is none."""
    prefix = Klass.ONLINE.name.lower() + "-"
    return min((int(name.removeprefix(prefix)) for name in segments if name.startswith(prefix)), default=0)
