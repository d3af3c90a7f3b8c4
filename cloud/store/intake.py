"""Intake: what the log has committed since, taken into the index, and counted on the way.

Only headers are looked at: the first bytes of every record, in the map. A thousand chunks are taken in at a time, so
that a log of a million rows is open in about a second.
"""

import logging
from collections import deque
from collections.abc import Iterator

import numpy as np

from cloud.episodes import EpisodeSum, EpisodeTally, online_steps
from cloud.store.index import HEAD, Index, Place
from cloud.store.records import Records
from cloud.store.source import Source
from user_rl.errors import StorageCorrupt
from user_rl.log.chunk import ChunkRef
from user_rl.log.segment import SegmentGone
from user_rl.log.unfilmed import is_unfilmed
from user_rl.rows import Kind, Klass, Schema, cell_of
from user_rl.specs import Array

log = logging.getLogger(__name__)

CHUNKS = 1024  # at a time


class Intake:
    """Follows `source` into `index`. One owner. Streams of another schema are left out, with a warning for each."""

    def __init__(
        self, source: Source, index: Index, records: Records, schema: Schema, *, window: int, pictures: bool = True
    ) -> None:  # fmt: skip
        """`pictures`: whether they are learned from; then rows without them are not."""
        self._pictures, self.unfilmed_rows = pictures and bool(schema.pictures), 0
        self._source, self._index, self._records, self._schema = source, index, records, schema
        self.seq = 0  # the last commit that was taken in
        self.online_rows = self.intervened_rows = 0  # online steps of the whole log
        self.episodes = self.demonstration_count = 0  # closed: online; demonstrations that ended in success
        self.recent: deque[EpisodeSum] = deque(maxlen=window)  # online, without intervention
        self.recent_by_cell: dict[str, deque[EpisodeSum]] = {}
        self._window = window
        self._tally = EpisodeTally()
        self._ours: dict[str, bool] = {}
        self._hold = source.hold()

    def advance(self, max_chunks: int = CHUNKS) -> bool:
        """Takes in up to `max_chunks` new chunks; whether there are more.

        What was committed meanwhile does not count: who waits for the end must not chase the robots.
        """
        refs = list(self._source.refs(self.seq, max_chunks))
        if not refs:
            return False
        ours = [ref for ref in refs if self._is_ours(ref.stream)]
        if ours:
            ours, head, unfilmed = self._heads(ours)
            self._index.append([Place(ref.stream, ref.seq, ref.count) for ref in ours], head, unfilmed)
            self._tell_unfilmed(int(np.count_nonzero(unfilmed)))
            self._records.add(ours)
            self._count(ours, head)
        self.seq = refs[-1].seq
        return len(refs) == max_chunks

    def close(self) -> None:
        """Lets go of the log's segments."""
        self._hold.close()

    def _heads(self, refs: list[ChunkRef]) -> tuple[list[ChunkRef], Array, Array]:
        """The headers of the chunks' rows, one after the other, and which lack the pictures that are learned from.

        A damaged chunk is left out, with an error line.

        One whose segment is gone is left out too."""
        head: Array = np.empty(sum(ref.count for ref in refs), HEAD)
        raw, good, at = head.view(np.uint8).reshape(len(head), HEAD.itemsize), [], 0
        unfilmed: Array = np.zeros(len(head), np.bool_)
        with self._hold as hold:
            for ref in refs:
                try:
                    records = hold.plain(ref, check=False)  # its rows are checked when they are read
                except StorageCorrupt as error:
                    log.error("%s; its rows are not learned from", error)
                    continue
                except SegmentGone:  # retention was faster
                    continue
                rows = records.view(np.uint8).reshape(ref.count, records.dtype.itemsize)
                raw[at : at + ref.count] = rows[:, : HEAD.itemsize]
                if self._pictures:
                    unfilmed[at : at + ref.count] = is_unfilmed(records, self._schema)
                at += ref.count
                good.append(ref)
        return good, head[:at], unfilmed[:at]

    def _tell_unfilmed(self, rows: int) -> None:
        if rows and not self.unfilmed_rows:
            log.warning("rows without pictures come, for an edge had no room for them: they are not learned from")
        self.unfilmed_rows += rows

    def _count(self, refs: list[ChunkRef], head: Array) -> None:
        self.online_rows += online_steps(head)
        online = (head["klass"] == Klass.ONLINE) & (head["kind"] == Kind.STEP)
        self.intervened_rows += int(np.count_nonzero(online & (head["is_intervention"] != 0)))
        for stream, rows in _by_stream(refs, head):
            for episode in self._tally.add(stream, rows):
                self._close(cell_of(stream), episode)

    def _close(self, cell: str, episode: EpisodeSum) -> None:
        if episode.klass == Klass.DEMONSTRATION:
            self.demonstration_count += episode.success
            return
        self.episodes += 1
        if not episode.interventions:
            self.recent.append(episode)
            self.recent_by_cell.setdefault(cell, deque(maxlen=self._window)).append(episode)

    def _is_ours(self, stream: str) -> bool:
        if stream not in self._ours:
            found = self._source.streams()[stream]
            self._ours[stream] = found.digest == self._schema.digest
            if not self._ours[stream]:
                log.warning("stream %s has schema %s, the run %s: left out", stream, found.digest, self._schema.digest)
        return self._ours[stream]


def _by_stream(refs: list[ChunkRef], head: Array) -> Iterator[tuple[str, Array]]:
    """The rows of each stream, in order."""
    names = sorted({ref.stream for ref in refs})
    if len(names) == 1:
        yield names[0], head
        return
    numbers = {name: i for i, name in enumerate(names)}
    stream = np.repeat([numbers[ref.stream] for ref in refs], [ref.count for ref in refs])
    for name, number in numbers.items():
        yield name, head[stream == number]
