"""Log: the only writer of an experience log.

Rows are appended to memory and made durable by `commit`, in as few transactions as the classes allow: one, or one per
change of class. The steps of a stream are committed in their order, so a crash between two transactions loses its tail
only, never a row before one that is there. A segment over `segment_bytes` is sealed where its episodes end; at 1.5
times the size it is sealed anyway, because with many streams there may be no such moment. What a commit promises is
chosen in the configuration (`user_rl/log/commits.py`).
"""

import time
from collections.abc import Callable, Collection, Mapping
from contextlib import ExitStack
from functools import partial
from itertools import count
from pathlib import Path

import numpy as np

from user_rl.clock import Clock, SystemClock
from user_rl.errors import SchemaMismatch, StorageBusy, StorageError, StorageFull
from user_rl.log import batch, reading
from user_rl.log.arriving import check_new, check_steps, class_runs, new_stream
from user_rl.log.batch import Batch, Stream, klass_of_oldest
from user_rl.log.chunk import Chunk, Gap, Stored
from user_rl.log.codec import codecs_of
from user_rl.log.coded import Coded
from user_rl.log.commits import Pace
from user_rl.log.durable import SegmentFull
from user_rl.log.episodes import Episode
from user_rl.log.eviction import Eviction
from user_rl.log.lock import WriterLock
from user_rl.log.pins import Pin, pin, pins, unpin
from user_rl.log.segment import Segment
from user_rl.log.shelf import DEFAULT, LogConfig, Shelf
from user_rl.log.tally import Count, Tally
from user_rl.rows import Klass, Schema
from user_rl.specs import Array

TRANSACTION_BYTES = 64 * 2**20  # LMDB keeps a transaction's pages in memory until its commit


class Log:
    """The writer of the log in one folder; it reads there too. One thread owns it.

    Open it after forking. Raises StorageBusy naming the process that has it.
    """

    def __init__(
        self, path: Path, config: LogConfig = DEFAULT, *,
        clock: Clock | None = None, wall: Callable[[], float] = time.time,
    ) -> None:  # fmt: skip
        """`wall`: the wall clock, for the age of what is sealed."""
        self.path, self.config = path, config
        self._pace = Pace(config.group_ms, clock or SystemClock())
        self._moved: set[str] = set()  # streams whose cursor moved since it was last returned
        self._lock = WriterLock(path)
        self.log_id, self.epoch = self._lock.identity.log_id, self._lock.identity.epoch
        self._tickets = count()
        with ExitStack() as undo:
            undo.callback(self._lock.close)
            self._shelf = Shelf(self._lock, config, wall)
            undo.callback(self._shelf.close)
            self._eviction = Eviction(self._shelf, config.retention, wall)
            self._names = self._shelf.names
            self._shelf.sync()  # a former life may have been one without syncs
            self._streams = self._found_streams()
            self._open = {klass: set(self._shelf.cut_episodes(klass)) for klass in Klass}
            undo.pop_all()

    def open_stream(self, name: str, schema: Schema) -> int:
        """Registers a stream, or finds it again; returns its last durable step (-1: none).

        Raises SchemaMismatch, and ConfigError for a codec that its fields cannot have.
        """
        stream = self._streams.get(name)
        if stream is None:
            check_new(name, schema)
            number = max(self._names.by_number, default=0) + 1
            codecs = codecs_of(schema, self.config.codecs)
            self._names.add(name, number, schema)
            stream = self._streams[name] = new_stream(name, number, schema, -1)
            stream.codecs = codecs
            for other in self._streams.values():  # one that comes often takes the place of one that ended
                other.queue.give_back()
        elif stream.schema.encoded != schema.encoded:
            raise SchemaMismatch(
                f"stream {name} has schema {stream.schema.digest[:8]}, offered was {schema.digest[:8]}; "
                "rows of another schema need a stream of their own"
            )
        elif not stream.codecs and self.config.codecs:
            stream.codecs = codecs_of(schema, self.config.codecs)
        return stream.synced

    def append(self, stream: str, records: Array) -> None:
        """Takes rows into memory (copied), to be committed later; their steps must follow the last ones.

        With `commit: each` they are durable on return, and StorageFull means that they wait for the next commit.
        """
        state = self._stream(stream)
        if records.dtype != state.schema.dtype:
            raise SchemaMismatch(
                f"stream {stream}: rows of {records.dtype.itemsize} bytes are not of its schema "
                f"{state.schema.digest[:8]} ({state.schema.row_bytes} bytes); other rows need a stream of their own"
            )
        if not len(records):
            return
        check_steps(state, records["step"])
        runs, start, ticket = class_runs(records["klass"]), 0, next(self._tickets)
        data = np.ascontiguousarray(records).view(np.uint8)
        for klass, end in runs:
            part = data[start * records.itemsize : end * records.itemsize]
            state.queue.add_rows(ticket, klass, state.appended + 1, part)
            state.appended += end - start
            start = end
        self._after_append()

    def append_coded(self, stream: str, stored: bytes | memoryview, count: int) -> None:
        """As `append`, of coded rows (user_rl/log/coded.py): they are stored as they are, whatever codecs it has.

        They are not copied: `stored` must stay as it is. Rows of a peer are checked before (`user_rl/log/peer.py`).
        """
        self.append_parts(stream, Coded(memoryview(stored), count, self._stream(stream).schema.dtype))

    def append_parts(self, stream: str, part: Coded) -> None:
        """As `append_coded`, of one chunk's parts."""
        state = self._stream(stream)
        if not len(part.plain):
            return
        check_steps(state, part.plain["step"])
        start, ticket = 0, next(self._tickets)
        for klass, end in class_runs(part.plain["klass"]):
            state.queue.add_coded(ticket, klass, state.appended + 1, part.between(start, end))
            state.appended += end - start
            start = end
        self._after_append()

    def append_gap(self, stream: str, first: int, last: int) -> None:
        """Takes note, to be committed, that nobody has the rows `first`..`last` any more."""
        state = self._stream(stream)
        if first != state.appended + 1 or last < first:
            raise StorageError(
                f"stream {stream}: gap {first}..{last}, expected one that starts at step {state.appended + 1}; "
                "ask for the cursor and go on there"
            )
        state.queue.add_gap(next(self._tickets), first, last)
        state.appended = last
        self._after_append()

    def commit(self) -> dict[str, int]:
        """Makes all that was appended durable; returns the cursor of each stream that moved since it was last returned.

        Only what is durable may be acknowledged, and only that is returned: with `group_ms` nothing, before it is time;
        with `nosync` what `sync` has made so. StorageFull leaves what was not written pending (`synced` says how far it
        came): free space, commit again.
        """
        if self.wait_s() == 0:
            self._commit_all()
        return self._take_moved()

    def sync(self) -> dict[str, int]:
        """As `commit`, at once and durable whatever the configuration."""
        self._commit_all()
        if self.config.commit == "nosync":
            self._shelf.sync()
            for stream in self._streams.values():
                if stream.committed > stream.synced:
                    stream.synced = stream.committed
                    self._moved.add(stream.name)
        return self._take_moved()

    def wait_s(self) -> float:
        """Seconds until `commit` makes durable what was appended; 0: it would now."""
        wait_s = self._pace.wait_s()
        return wait_s if wait_s and self._pending_bytes() < TRANSACTION_BYTES else 0.0

    @property
    def pending(self) -> bool:
        """Whether any row or gap was appended that is not durable."""
        return any(stream.appended > stream.synced for stream in self._streams.values())

    @property
    def seq(self) -> int:
        """The newest commit; 0: none."""
        return self._shelf.next_seq - 1

    def synced(self, stream: str) -> int:
        """The last durable step of a stream, gaps included; -1: none."""
        return self._stream(stream).synced

    def appended(self, stream: str) -> int:
        """The last step of a stream that was appended, durable or not; -1: none."""
        return self._stream(stream).appended

    def first_kept(self, stream: str) -> int:
        """The step from which on everything up to `synced` is here; synced + 1: nothing is."""
        self._stream(stream)
        return reading.first_kept(self._shelf.segments, self._names, stream)

    def streams(self) -> dict[str, Schema]:
        """All streams that were opened or have rows."""
        return {name: stream.schema for name, stream in self._streams.items()}

    def read(self, stream: str, first: int, max_bytes: int) -> list[Chunk]:
        """Committed rows from step `first` on, in order: at most `max_bytes`, yet at least one row if there is any.

        The first chunk is cut at `first`, and to `max_bytes`. Over a gap or trimmed rows, `Chunk.first` jumps.
        """
        self._stream(stream)
        reading.close_idle(self._shelf.segments)
        return reading.read(self._shelf.segments, self._names, stream, first, max_bytes)

    def stored(self, stream: str, first: int, max_bytes: int) -> list[Stored]:
        """As `read`, as the rows are stored: `max_bytes` are stored bytes, and coded rows stay so."""
        self._stream(stream)
        reading.close_idle(self._shelf.segments)
        return reading.stored(self._shelf.segments, self._names, stream, first, max_bytes)

    def episodes(self) -> list[Episode]:
        """The episode table, by stream and first step."""
        return reading.episodes(self._shelf.segments, self._names)

    def gaps(self) -> list[Gap]:
        """Every committed gap, by stream and step."""
        return reading.gaps(self._shelf.segments, self._names)

    def size_bytes(self) -> int:
        """What the segments hold on disk."""
        return self._shelf.size_bytes()

    def trim(self, acknowledged: Mapping[str, int], *, bound_bytes: int | None = None) -> int:
        """Drops sealed segments whose every row is acknowledged, oldest first, while over max_bytes; pinned ones stay.

        For the log that sends its rows to another, whose pins its own process makes. Returns the bytes freed.
        `bound_bytes`: while over these, instead.
        """
        return self._eviction.trim(acknowledged, self.config.max_bytes if bound_bytes is None else bound_bytes)

    def retain(self) -> int:
        """Drops the oldest segment that `config.retention` keeps no longer; returns the bytes freed, 0: none."""
        return self._eviction.apply()

    def pin(self, holder: str, segments: Collection[str], *, seqs: Collection[int] = ()) -> None:
        """See user_rl.log.pins.pin, which any process may call."""
        pin(self.path, holder, segments, seqs=seqs)

    def unpin(self, holder: str) -> None:
        """See user_rl.log.pins.unpin."""
        unpin(self.path, holder)

    def pins(self) -> dict[str, Pin]:
        """Every holder and the segments that it needs."""
        return pins(self.path)

    def gone(self) -> Count:
        """What retention dropped and quarantine took since the log began."""
        return Tally(self.path).count()

    def sealed(self) -> list[str]:
        """The segments that are no longer written, oldest first."""
        return [segment.path.name for segment in self._shelf.segments if segment.footer]

    def quarantine(self, name: str, problems: list[str]) -> None:
        """Sets a damaged sealed segment aside; the rest serves."""
        self._shelf.set_aside(name, problems)

    def close(self) -> None:
        """Gives the log back; what was not committed is lost."""
        self._shelf.close()
        self._lock.close()

    def __enter__(self) -> "Log":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _after_append(self) -> None:
        if self.config.commit == "each":
            self._commit_all()

    def _commit_all(self) -> None:
        waiting = [stream for stream in self._streams.values() if stream.queue.items]
        if not waiting:
            return
        self._making_room(partial(self._check_bound, waiting))
        while waiting := [stream for stream in waiting if stream.queue.items]:
            self._making_room(partial(self._commit_some, waiting))
        self._pace.synced()

    def _take_moved(self) -> dict[str, int]:
        moved = [stream for stream in self._streams.values() if stream.name in self._moved]
        self._moved.clear()
        return {stream.name: stream.synced for stream in moved}

    def _pending_bytes(self) -> int:
        return sum(stream.queue.pending_bytes() for stream in self._streams.values())

    def _found_streams(self) -> dict[str, Stream]:
        ends = reading.cursors(self._shelf.segments, self._names)
        self._names.bases.update(ends)
        schemas, numbers = self._names.schemas, self._names.numbers
        return {name: new_stream(name, numbers[name], schemas[name], end) for name, end in ends.items()}

    def _stream(self, name: str) -> Stream:
        stream = self._streams.get(name)
        if stream is None:
            raise StorageError(
                f"{self.path}: no stream {name}, it has {sorted(self._streams)[:3]}; open_stream it first"
            )
        return stream

    def _making_room(self, step: Callable[[], None]) -> None:
        """Does `step`; where the disk is full, again for each segment that the configuration lets go."""
        while True:
            try:
                return step()
            except SegmentFull:
                raise
            except StorageFull:
                if not self._eviction.make_room():
                    raise

    def _check_bound(self, waiting: list[Stream]) -> None:
        bound = self.config.max_bytes
        if bound is not None and (size := self.size_bytes()) > bound:
            need = sum(stream.queue.pending_bytes() for stream in waiting)
            raise StorageFull(
                f"{self.path}: {size} bytes, allowed max_bytes = {bound}, {need} more wait; "
                "trim acknowledged rows or raise max_bytes, then commit again"
            )

    def _commit_some(self, waiting: list[Stream]) -> None:
        """One transaction: what comes first of one class, as far as its segment has room."""
        klass = klass_of_oldest(waiting)
        segment = self._shelf.writable(klass, episodes_open=bool(self._open[klass]))
        room, soft = min(self._shelf.hard_left(segment), TRANSACTION_BYTES), self._shelf.soft_left(segment)
        work = Batch(klass, room=room, soft=soft, open=set(self._open[klass]) if not segment.is_empty() else set())
        for stream in sorted(waiting, key=lambda stream: stream.queue.items[0].ticket):
            work.take(stream)
        if not self._write(segment, work):
            return
        self._open[klass] = work.open
        for part in work.parts:
            part.stream.committed = self._names.bases[part.stream.name] = part.through
            if self.config.commit != "nosync":
                part.stream.synced = part.through
                self._moved.add(part.stream.name)
            part.stream.queue.drop_through(part.through)
            if part.runs:
                for other in set(Klass) - {klass}:
                    self._open[other].discard(part.stream.name)

    def _write(self, segment: Segment, work: Batch) -> bool:
        """Writes, or raises with nothing written; what turns out to be durable in spite of an error counts as done.

        False: nothing was written, for the segment was full and is sealed now.
        """
        try:
            self._shelf.next_seq = batch.write(segment, self._lock.check, work, self._shelf.next_seq)
        except StorageBusy:
            raise
        except SegmentFull:
            if segment.is_empty():
                raise
            self._shelf.retire(segment)
            return False
        except StorageError:
            segment.close()  # LMDB may have given this environment up; it opens again at the next use
            ends = [(segment.span(part.stream.number), part.through) for part in work.parts]
            if not all(span and span.last >= through for span, through in ends):
                raise
            self._shelf.next_seq = segment.last_seq() + 1
        return True
