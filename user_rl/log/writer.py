"""Log: the only writer of an experience log.

Rows are appended to memory and made durable by `commit`, in as few transactions as the classes allow: one, or one per
change of class. The steps of a stream are committed in their order, so a crash between two transactions loses its tail
only, never a row before one that is there. A segment over `segment_bytes` is sealed where its episodes end; at 1.5 times
the size it is sealed anyway, because with many streams there may be no such moment.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import count
from pathlib import Path

import numpy as np

from user_rl.errors import ConfigError, SchemaMismatch, SpecError, StorageBusy, StorageError, StorageFull
from user_rl.log import reading
from user_rl.log.batch import Batch, Stream, klass_of_oldest, write
from user_rl.log.chunk import Chunk, Gap, StreamEntry, segment_name
from user_rl.log.durable import drop_folder, sweep, translated
from user_rl.log.episodes import Episode
from user_rl.log.lock import WriterLock
from user_rl.log.pending import Queue
from user_rl.log.segment import MAP_SLACK, Segment, create_segment, segments_in
from user_rl.rows import Kind, Klass, Schema
from user_rl.specs import Array

MAX_ROW_BYTES = 32 * 2**20
MAX_NAME_BYTES = 256


@dataclass(frozen=True, kw_only=True)
class LogConfig:
    """How large segments and the log may grow."""

    segment_bytes: int = 256 * 2**20
    max_bytes: int | None = None  # of the whole log: trim() works above it, commit() refuses above it

    def __post_init__(self) -> None:
        if self.segment_bytes < 1 or (self.max_bytes is not None and self.max_bytes < 4 * self.segment_bytes):
            raise ConfigError(
                f"log: segment_bytes = {self.segment_bytes}, max_bytes = {self.max_bytes}; allowed are segment_bytes "
                "from 1 and max_bytes from 4 segments (or none), for only sealed segments can be trimmed"
            )


class Log:
    """The writer of the log in one folder; it reads there too. One thread owns it.

    Open it after forking. Raises StorageBusy naming the process that has it.
    """

    def __init__(self, path: Path, config: LogConfig = LogConfig()) -> None:  # noqa: B008  (frozen)
        self.path, self.config = path, config
        self._lock = WriterLock(path)
        self.log_id, self.epoch = self._lock.identity.log_id, self._lock.identity.epoch
        self._segments: list[Segment] = []
        self._active: dict[Klass, Segment] = {}
        self._open: dict[Klass, set[str]] = {klass: set() for klass in Klass}
        self._names = reading.Names()
        self._streams: dict[str, Stream] = {}
        self._tickets = count()
        try:
            self._load()
        except BaseException:
            self.close()
            raise

    def open_stream(self, name: str, schema: Schema) -> int:
        """Registers a stream, or finds it again; returns its last committed step (-1: none)."""
        stream = self._streams.get(name)
        if stream is None:
            _check_new(name, schema)
            number = max(self._names.by_number, default=0) + 1
            self._names.add(name, number, schema)
            stream = self._streams[name] = Stream(name, number, schema, -1, -1, Queue(schema.row_bytes))
        elif stream.schema.encoded != schema.encoded:
            raise SchemaMismatch(
                f"stream {name} has schema {stream.schema.digest[:8]}, offered was {schema.digest[:8]}; "
                "rows of another schema need a stream of their own"
            )
        return stream.synced

    def append(self, stream: str, records: Array) -> None:
        """Takes rows into memory (copied), to be committed later; their steps must follow the last ones."""
        state = self._stream(stream)
        if records.dtype != state.schema.dtype:
            raise SchemaMismatch(
                f"stream {stream}: rows of {records.dtype.itemsize} bytes, allowed {state.schema.dtype}"
            )
        if not len(records):
            return
        self._check_steps(state, records["step"])
        start, data, ticket = 0, memoryview(records.tobytes()), next(self._tickets)
        for klass, end in list(_class_runs(records["klass"])):
            part = data[start * records.itemsize : end * records.itemsize]
            state.queue.add_rows(ticket, klass, state.appended + 1, end - start, part)
            state.appended += end - start
            start = end

    def append_gap(self, stream: str, first: int, last: int) -> None:
        """Takes note, to be committed, that nobody has the rows `first`..`last` any more."""
        state = self._stream(stream)
        if first != state.appended + 1 or last < first:
            raise StorageError(
                f"stream {stream}: a gap {first}..{last}, expected one that starts at step {state.appended + 1}; "
                "ask for the cursor and say it again"
            )
        state.queue.add_gap(next(self._tickets), first, last)
        state.appended = last

    def commit(self) -> dict[str, int]:
        """Makes all that was appended durable; returns the cursor of each stream that moved.

        StorageFull leaves what was not written pending (`synced` says how far it came): free space, commit again.
        """
        waiting = [stream for stream in self._streams.values() if stream.queue.items]
        before = {stream.name: stream.synced for stream in waiting}
        if waiting:
            self._check_bound(waiting)
        while waiting := [stream for stream in waiting if stream.queue.items]:
            self._commit_round(waiting)
        return {name: self._streams[name].synced for name in before}

    def synced(self, stream: str) -> int:
        """The last durable step of a stream, gaps included; -1: none."""
        return self._stream(stream).synced

    def appended(self, stream: str) -> int:
        """The last step of a stream that was appended, durable or not; -1: none."""
        return self._stream(stream).appended

    def first_kept(self, stream: str) -> int:
        """The step from which on everything up to `synced` is here; synced + 1: nothing is."""
        self._stream(stream)
        return reading.first_kept(self._segments, self._names, stream)

    def streams(self) -> dict[str, Schema]:
        """All streams that were opened or have rows."""
        return {name: stream.schema for name, stream in self._streams.items()}

    def read(self, stream: str, first: int, max_bytes: int) -> list[Chunk]:
        """Committed rows from step `first` on, in order: at most `max_bytes`, yet at least one row if there is any.

        The first chunk is cut at `first`. Over a gap or trimmed rows, `Chunk.first` jumps.
        """
        self._stream(stream)
        reading.close_idle(self._segments)
        return reading.read(self._segments, self._names, stream, first, max_bytes)

    def episodes(self) -> list[Episode]:
        """The episode table, by stream and first step."""
        return reading.episodes(self._segments, self._names)

    def gaps(self) -> list[Gap]:
        """Every committed gap, by stream and step."""
        return reading.gaps(self._segments, self._names)

    def size_bytes(self) -> int:
        """What the segments hold on disk."""
        return sum(segment.used_bytes() for segment in self._segments)

    def trim(self, acknowledged: Mapping[str, int]) -> int:
        """Drops the oldest sealed segments whose every row is acknowledged, while over max_bytes; returns bytes freed."""
        freed, size = 0, self.size_bytes()
        for segment in self._segments[:-1]:
            if self.config.max_bytes is None or size - freed <= self.config.max_bytes:
                break
            if segment.footer and self._is_acknowledged(segment, acknowledged):
                self._remember_without(segment)
                freed += self._drop(segment)
        return freed

    def close(self) -> None:
        """Gives the log back; what was not committed is lost."""
        for segment in self._segments:
            segment.close()
        self._segments, self._active = [], {}
        self._lock.close()

    def __enter__(self) -> "Log":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _load(self) -> None:
        sweep(self.path)
        self._segments = segments_in(self.path, writable=True)
        for segment in self._segments:
            if segment.footer is None:
                segment.take_over(self.epoch)
                if segment.klass in self._active:
                    self._active[segment.klass].seal()
                self._active[segment.klass] = segment
        reading.learn(self._segments, self._names, {})
        self._next_seq = max((segment.last_seq() for segment in self._segments), default=0) + 1
        for name, synced in reading.cursors(self._segments, self._names).items():
            schema, number = self._names.schemas[name], self._names.numbers[name]
            self._streams[name] = Stream(name, number, schema, synced, synced, Queue(schema.row_bytes))
        for klass, segment in self._active.items():
            self._open[klass] = set(self._cut_episodes(segment))

    def _cut_episodes(self, segment: Segment) -> Iterator[str]:
        """The streams whose last row in the segment is not the last of an episode."""
        for number, span in segment.spans().items():
            name = self._names.by_number[number][0]
            for chunk in reading.read([segment], self._names, name, span.last, 1):
                if self._names.schemas[name].view(chunk.data)["kind"][0] != Kind.LAST:
                    yield name

    def _stream(self, name: str) -> Stream:
        stream = self._streams.get(name)
        if stream is None:
            raise StorageError(
                f"{self.path}: no stream {name}, it has {len(self._streams)} others; open_stream it first"
            )
        return stream

    def _check_steps(self, state: Stream, steps: Array) -> None:
        expected = state.appended + 1
        if int(steps[0]) != expected:
            got = int(steps[0])
        elif len(steps) > 1 and not (steps[1:] - steps[:-1] == 1).all():
            at = int(np.argmax(steps[1:] - steps[:-1] != 1)) + 1
            expected, got = expected + at, int(steps[at])
        else:
            return
        raise StorageError(
            f"stream {state.name}: expected step {expected}, got {got}; ask for the cursor and go on there"
        )

    def _check_bound(self, waiting: list[Stream]) -> None:
        bound = self.config.max_bytes
        if bound is not None and (size := self.size_bytes()) > bound:
            need = sum(stream.queue.pending_bytes() for stream in waiting)
            raise StorageFull(
                f"{self.path}: {size} bytes, allowed max_bytes = {bound}, {need} more wait; "
                "trim acknowledged rows or raise max_bytes, then commit again"
            )

    def _commit_round(self, waiting: list[Stream]) -> None:
        """One transaction: what comes first of one class."""
        klass = klass_of_oldest(waiting)
        segment = self._writable(klass)
        used, limit = segment.used_bytes(), self.config.segment_bytes
        batch = Batch(klass, room=limit * 3 // 2 - used, soft=limit - used, open=set(self._open[klass]))
        for stream in sorted(waiting, key=lambda stream: stream.queue.items[0].ticket):
            batch.take(stream)
        self._write(segment, batch)
        for part in batch.parts:
            part.stream.synced = self._names.bases[part.stream.name] = part.through
            part.stream.queue.drop_through(part.through)
            for other in Klass:
                if other != klass and part.runs:
                    self._open[other].discard(part.stream.name)
        self._open[klass] = batch.open

    def _write(self, segment: Segment, batch: Batch) -> None:
        """Writes, or raises with nothing written; a commit that failed only after it was durable counts as done."""
        try:
            self._next_seq = write(segment, self.epoch, batch, self._next_seq)
        except StorageBusy:
            raise
        except StorageError:
            segment.close()
            ends = [(segment.span(part.stream.number), part.through) for part in batch.parts]
            if not all(span and span.last >= through for span, through in ends):
                raise
            self._next_seq = segment.last_seq() + 1

    def _writable(self, klass: Klass) -> Segment:
        """The segment to write into: sealed and replaced if it is large and its episodes have ended."""
        segment, limit = self._active.get(klass), self.config.segment_bytes
        if segment:
            used = segment.used_bytes()
            if segment.is_empty() or used < limit or (used < limit * 3 // 2 and self._open[klass]):
                return segment
            segment.seal()
            del self._active[klass]
        return self._new_segment(klass)

    def _new_segment(self, klass: Klass) -> Segment:
        self._lock.check()
        path = self.path / segment_name(klass, self._next_seq)
        map_bytes = 2 * self.config.segment_bytes + MAP_SLACK
        segment = create_segment(path, map_bytes, self.epoch, self._next_seq - 1, self._entries())
        self._segments.append(segment)
        self._active[klass] = segment
        self._open[klass] = set()
        return segment

    def _entries(self) -> dict[str, StreamEntry]:
        known = (stream for stream in self._streams.values() if stream.synced >= 0)
        return {s.name: StreamEntry(s.number, s.synced, s.schema.encoded) for s in known}

    def _is_acknowledged(self, segment: Segment, acknowledged: Mapping[str, int]) -> bool:
        names = ((self._names.by_number[number][0], span) for number, span in segment.spans().items())
        return all(acknowledged.get(name, -1) >= span.last for name, span in names)

    def _remember_without(self, victim: Segment) -> None:
        """Sees to it that the cursors and the sequence survive the victim: the newest segment must know them."""
        rest, known = [segment for segment in self._segments if segment is not victim], dict[int, int]()
        for segment in rest:
            ends = {number: span.last for number, span in segment.spans().items()}
            if segment.footer is None or segment is rest[-1]:
                bases = {entry.number: entry.base for entry in segment.streams().values()}
                ends = {n: max(ends.get(n, -1), bases.get(n, -1)) for n in ends.keys() | bases.keys()}
            known.update({number: max(last, known.get(number, -1)) for number, last in ends.items()})
        forgotten = any(known.get(number, -1) < span.last for number, span in victim.spans().items())
        if forgotten or max(segment.last_seq() for segment in rest) < victim.last_seq():
            newest = self._segments[-1]
            keeper = self._new_segment(newest.klass) if newest.footer else newest
            keeper.remember(self.epoch, self._next_seq - 1, self._entries())

    def _drop(self, segment: Segment) -> int:
        freed = segment.used_bytes()
        segment.close()
        with translated(self.path, 0):
            drop_folder(segment.path)
        self._segments = [other for other in self._segments if other is not segment]
        return freed


def _check_new(name: str, schema: Schema) -> None:
    size = len(name.encode())
    if not 0 < size <= MAX_NAME_BYTES:
        raise StorageError(f"stream name {name[:80]!r} has {size} bytes, allowed 1 to {MAX_NAME_BYTES}; shorten it")
    if schema.row_bytes > MAX_ROW_BYTES:
        raise StorageError(
            f"stream {name}: rows of {schema.row_bytes} bytes, allowed {MAX_ROW_BYTES}; use smaller or fewer images"
        )


def _class_runs(klass: Array) -> Iterator[tuple[Klass, int]]:
    """(class, end) of each run of rows of one class."""
    ends = [*(np.flatnonzero(klass[1:] != klass[:-1]) + 1).tolist(), len(klass)] if len(klass) > 1 else [1]
    for end in ends:
        try:
            yield Klass(int(klass[end - 1])), end
        except ValueError as error:
            raise SpecError(
                f"klass = {int(klass[end - 1])}, allowed {[k.value for k in Klass]}; mend the row"
            ) from error
