"""Index: what a sampler must know of every row in the log, in memory; about 80 bytes a row, no observation.

Rows have numbers: their place in the order of commits, from 0 at the first row that the log still had when the index
was made. `next` points to the row that followed in the same episode, so it knows ends, gaps, crashes and streams by
itself. Nothing here depends on how the rows were cut into chunks or on when they were taken in: a row, once here,
changes only by getting its `next`, and its episode by getting its end; both say at which row that happened. So what a
`View` at some horizon shows is the same for ever, before and after a restart, but for what the log has lost since.
"""

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from cloud.store.growing import Growing
from user_rl.rows import HEADER, Kind, Klass
from user_rl.specs import Array

NOWHERE = -1
OPEN = np.iinfo(np.int64).max  # the closing row of an episode that has none
HEAD = np.dtype([(f.name, f.dtype, f.shape) for f in HEADER])  # the first bytes of every record


@dataclass(frozen=True, slots=True)
class Place:
    """Where consecutive rows lie: `count` records from record `first` on in the chunk with commit number `seq`."""

    stream: str
    seq: int
    count: int


@dataclass
class _Tail:
    """The last row of a stream."""

    row: int
    step: int
    episode: int  # the stream's own number
    number: int  # the index's


class Index:
    """Every row's header columns, and the episodes; appended to in commit order. One owner, no lock."""

    def __init__(self) -> None:
        self.stream, self.step = Growing(np.int32), Growing(np.int64)
        self.chunk, self.offset = Growing(np.int32), Growing(np.int32)  # number in `seqs`, record in the chunk
        self.episode, self.next = Growing(np.int64), Growing(np.int64)
        self.version, self.reward = Growing(np.int64), Growing(np.float32)
        self.is_step, self.done, self.intervened = Growing(np.bool_), Growing(np.bool_), Growing(np.bool_)
        self.truncated, self.peak = Growing(np.bool_), Growing(np.int64)  # peak: the highest version up to a row
        self.unfilmed = Growing(np.bool_)  # its pictures are wanted and were not recorded
        self.klass, self.task = Growing(np.uint8), Growing(np.int16)
        self.of_klass = {klass: Growing(np.int64) for klass in Klass}  # row numbers, ascending
        self.of_stream: list[Growing] = []  # as of_klass, by the stream's number, the task's number
        self.of_task: list[Growing] = []
        self.under_hand, self.shown = Growing(np.int64), Growing(np.int64)  # online under a hand; or a demonstration's
        self.began = {klass: Growing(np.int64) for klass in Klass}  # the first row of each episode, ascending
        self.opened_by = Growing(np.int64)  # by episode: its first row
        self.closed_by, self.succeeded = Growing(np.int64), Growing(np.bool_)  # by episode: its LAST row, its success
        self.own = Growing(np.int64)  # by episode: its number in its stream
        self.lost: set[int] = set()  # chunks that cannot be read any more, see `lose`
        self.seqs, self.ends = Growing(np.int64), Growing(np.int64)  # by chunk: commit number, rows up to its end
        self.streams: list[str] = []
        self.tasks: list[bytes] = []
        self._stream_numbers: dict[str, int] = {}
        self._task_numbers: dict[bytes, int] = {}
        self._tails: dict[int, _Tail] = {}

    def __len__(self) -> int:
        return len(self.step)

    def append(self, places: Iterable[Place], head: Array, unfilmed: Array | None = None) -> None:
        """Takes in the headers [n] (dtype HEAD) of the rows at `places`, in commit order.

        Rows that are `unfilmed`, bool [n] (None: none is), are neither drawn nor followed to.
        """
        missing = np.zeros(len(head), np.bool_) if unfilmed is None else unfilmed
        self.unfilmed.extend(missing)
        start = len(self)
        self._append_places(list(places), start)
        step, kind = head["step"].astype(np.int64), head["kind"]
        self.step.extend(step)
        self.version.extend(head["version"].astype(np.int64))
        self.reward.extend(head["next.reward"])
        self.is_step.extend((kind == Kind.STEP) & ~missing)
        self.done.extend(head["next.done"] != 0)
        self.intervened.extend((head["is_intervention"] != 0) & (kind == Kind.STEP))
        self.klass.extend(head["klass"])
        self.task.extend(self._numbered_tasks(head["task"]))
        self.truncated.extend(head["next.truncated"] != 0)
        before = int(self.peak.array[-1]) if start else 0
        self.peak.extend(np.maximum.accumulate(np.maximum(head["version"].astype(np.int64), before)))
        self._link(start, head)
        self._list(start)

    def lose(self, chunk: int) -> Array:
        """The rows of a chunk, by its number, that cannot be read any more: they are neither drawn nor followed to."""
        start = int(self.ends.array[chunk - 1]) if chunk else 0
        rows = np.arange(start, int(self.ends.array[chunk]))
        listed = self.of_stream[int(self.stream.array[start])].array
        place = int(np.searchsorted(listed, start))
        if place and self.next.array[listed[place - 1]] == start:
            self.next.array[listed[place - 1]] = NOWHERE
        self.next.array[rows], self.is_step.array[rows] = NOWHERE, False
        self.lost.add(chunk)
        return rows

    def is_lost(self, rows: Array) -> Array:
        """Whether each of `rows` [n] lies in a lost chunk, bool [n]."""
        return np.isin(self.chunk.array[rows], np.array(sorted(self.lost), np.int32))

    def at(self, seq: int) -> int:
        """How many rows there were when commit `seq` was the newest."""
        chunks = int(np.searchsorted(self.seqs.array, seq, side="right"))
        return int(self.ends.array[chunks - 1]) if chunks else 0

    def _list(self, start: int) -> None:
        """Enters the rows from `start` on into the lists of rows of a kind."""
        numbers = np.arange(start, len(self))
        klass = self.klass.array[start:]
        begins = self.opened_by.array[self.episode.array[start:]] == numbers
        for each in Klass:
            self.of_klass[each].extend(numbers[klass == each])
            self.began[each].extend(numbers[begins & (klass == each)])
        hand = self.intervened.array[start:] & (klass == Klass.ONLINE)
        self.under_hand.extend(numbers[hand])
        self.shown.extend(numbers[hand | (klass == Klass.DEMONSTRATION)])
        for lists, column in ((self.of_stream, self.stream.array[start:]), (self.of_task, self.task.array[start:])):
            for number in np.unique(column).tolist():
                lists[number].extend(numbers[column == number])

    def _append_places(self, places: list[Place], start: int) -> None:
        counts = np.array([place.count for place in places], np.int64)
        numbers = np.arange(len(self.seqs), len(self.seqs) + len(places), dtype=np.int32)
        ends = start + np.cumsum(counts)
        streams = np.array([self._stream_number(place.stream) for place in places], np.int32)
        self.seqs.extend(np.array([place.seq for place in places], np.int64))
        self.ends.extend(ends)
        self.chunk.extend(np.repeat(numbers, counts))
        self.stream.extend(np.repeat(streams, counts))
        rows = np.arange(start, start + int(counts.sum()))
        self.offset.extend((rows - np.repeat(ends - counts, counts)).astype(np.int32))

    def _link(self, start: int, head: Array) -> None:
        """Sets `next` and `episode` of the new rows, and of the last rows before them; closes episodes."""
        end = len(self.step)
        self.next.extend(np.full(end - start, NOWHERE, np.int64))
        self.episode.extend(np.zeros(end - start, np.int64))
        stream = self.stream.array[start:end]
        order = np.argsort(stream, kind="stable")
        cuts = np.flatnonzero(np.diff(stream[order])) + 1
        for rows in np.split(order, cuts):
            if len(rows):
                self._link_stream(int(stream[rows[0]]), start + rows, head[rows])

    def _link_stream(self, stream: int, rows: Array, head: Array) -> None:
        tail = self._tails.get(stream)
        step, own = head["step"].astype(np.int64), head["episode"].astype(np.int64)
        if tail is not None:
            rows = np.concatenate([[tail.row], rows])
            step, own = np.concatenate([[tail.step], step]), np.concatenate([[tail.episode], own])
        same = own[1:] == own[:-1]
        follows = same & (step[1:] == step[:-1] + 1) & self.is_step.array[rows[:-1]] & ~self.unfilmed.array[rows[1:]]
        self.next.array[rows[:-1][follows]] = rows[1:][follows]
        first = len(self.closed_by) if tail is None else tail.number
        numbers = self._numbered_episodes(first, np.cumsum(~same), fresh=tail is None)
        self.episode.array[rows[1:]] = numbers
        if tail is None:
            self.episode.array[rows[0]] = first
            self.opened_by.array[first], self.own.array[first] = rows[0], own[0]
        self.opened_by.array[numbers[~same]], self.own.array[numbers[~same]] = rows[1:][~same], own[1:][~same]
        self._close(rows if tail is None else rows[1:], head)
        last = int(rows[-1])
        self._tails[stream] = _Tail(last, int(step[-1]), int(own[-1]), int(self.episode.array[last]))

    def _numbered_episodes(self, first: int, changes: Array, *, fresh: bool) -> Array:
        """The index's numbers of episodes that begin `changes` [n] after `first`; makes room for the new ones."""
        known = len(self.closed_by)
        new = (int(changes[-1]) if len(changes) else 0) + fresh
        self.opened_by.extend(np.full(new, NOWHERE, np.int64))
        self.closed_by.extend(np.full(new, OPEN, np.int64))
        self.own.extend(np.zeros(new, np.int64))
        self.succeeded.extend(np.zeros(new, np.bool_))
        return np.where(changes == 0, first, known + changes - (0 if fresh else 1))

    def _close(self, rows: Array, head: Array) -> None:
        episodes = self.episode.array[rows]
        good = (head["next.success"] != 0) & (head["kind"] == Kind.STEP)
        self.succeeded.array[episodes[good]] = True
        last = head["kind"] == Kind.LAST
        self.closed_by.array[episodes[last]] = rows[last]

    def _stream_number(self, name: str) -> int:
        if name not in self._stream_numbers:
            self._stream_numbers[name] = len(self.streams)
            self.streams.append(name)
            self.of_stream.append(Growing(np.int64))
        return self._stream_numbers[name]

    def _numbered_tasks(self, names: Array) -> Array:
        found, inverse = np.unique(names, return_inverse=True)
        numbers = []
        for name in found.tolist():
            if name not in self._task_numbers:
                self._task_numbers[name] = len(self.tasks)
                self.tasks.append(name)
                self.of_task.append(Growing(np.int64))
            numbers.append(self._task_numbers[name])
        return np.array(numbers, np.int16)[inverse]
