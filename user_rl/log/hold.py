"""Hold: rows looked at where they lie in the log's memory map, and copied once, to where they are needed.

A hold is entered for each batch. Its transactions on sealed segments, to which nobody writes, stay open from batch to
batch, the least used of them closed beyond `max_open`; those on active ones end with the batch, so that their writer is
never kept from reusing pages. A chunk is held against its digest the first time that its reader's process touches it.

Each thread has holds of its own; those of one Reader may be entered and fetch at the same time: a lock is taken only
where a transaction begins or ends, and copying, hashing and decoding let other threads run.
"""

import threading
from collections import OrderedDict
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import lmdb
import numpy as np

from user_rl.errors import StorageCorrupt
from user_rl.log.chunk import RAW, STEP_KEY, TRAILER, ChunkRef, check_value
from user_rl.log.coded import Coded, Rows, bytes_of
from user_rl.log.segment import Segment, SegmentGone
from user_rl.rows import Schema
from user_rl.specs import Array

if TYPE_CHECKING:
    from user_rl.log.segment import Txn

MAX_OPEN = 256  # segments: each has a map, and one or two file descriptors


@dataclass(frozen=True)
class Source:
    """What the holds of one Reader share."""

    segment: Callable[[str], Segment | None]  # by the folder's name; None: it is gone
    schema: Callable[[str], Schema]  # of a stream
    lock: threading.RLock = field(default_factory=threading.RLock)
    sound: set[int] = field(default_factory=set)  # the chunks that were held against their digests


@dataclass(slots=True)
class _Held:
    """A segment with a transaction in it."""

    segment: Segment
    txn: "Txn"
    chunks: "lmdb._Database"
    ends: ExitStack
    sealed: bool
    known: dict[int, memoryview] = field(default_factory=dict)  # values by seq: `get` touches every page of a value

    def get(self, ref: ChunkRef) -> memoryview | None:
        try:
            return self.txn.get(STEP_KEY.pack(ref.number, ref.first), None, self.chunks)
        except lmdb.Error as error:
            raise StorageCorrupt(f"{_place(ref)}: {error}; restore this segment") from error


class Hold:
    """Access to chunks while it is entered. What `plain` gave is valid until it is left, and never after."""

    def __init__(self, source: Source, max_open: int = MAX_OPEN) -> None:
        self._source, self._max_open = source, max_open
        self._held: OrderedDict[str, _Held] = OrderedDict()
        self._entered = False

    def __enter__(self) -> "Hold":
        self._entered = True
        return self

    def __exit__(self, *_: object) -> None:
        """Ends what must not outlive a batch: active segments, deleted ones, and the least used beyond `max_open`."""
        self._entered = False
        over = len(self._held) - self._max_open
        for at, (name, held) in enumerate(list(self._held.items())):
            if at < over or not held.sealed or self._source.segment(name) is not held.segment:
                self._end(name)

    def close(self) -> None:
        """Ends every transaction; the hold may be entered again."""
        for name in list(self._held):
            self._end(name)

    def plain(self, ref: ChunkRef, *, check: bool = True) -> Array:
        """The chunk's records [count] in the map, read-only; those of a coded chunk without the coded fields.

        Without `check` its digest is left for later. Raises SegmentGone when its segment was trimmed, StorageCorrupt
        naming the chunk.
        """
        value, schema = self._value(ref, check=check), self._source.schema(ref.stream)
        if ref.form == RAW:
            return np.frombuffer(value, schema.dtype, ref.count)
        return self._coded(ref, value, schema).plain

    def where(self, ref: ChunkRef) -> tuple[int, int] | None:
        """The file descriptor and the place in it of a raw chunk's first record, for `pread` while this is entered;
        None where the chunk does not lie on pages of its own, or its map cannot be found. Raises as `plain` does."""
        if ref.form != RAW:
            return None
        places = self._of(ref).segment.places
        if (found := places.of(ref.seq)) is None:
            places.note(ref.seq, self._value(ref))
            found = places.of(ref.seq)
        return found

    def fetch(self, ref: ChunkRef, rows: Rows, out: Array) -> None:
        """Writes the chunk's records at the offsets `rows` (integers [N], or a slice) into `out`, N adjacent records of
        the stream's schema. Raises as `plain` does, and IndexError for an offset that the chunk has not."""
        value, schema = self._value(ref), self._source.schema(ref.stream)
        if not isinstance(rows, slice):
            _check_offsets(ref, rows)
        if ref.form != RAW:
            try:
                self._coded(ref, value, schema).fetch(rows, out)
            except StorageCorrupt as error:
                raise StorageCorrupt(f"{_place(ref)}: {error}") from error
            return
        source = np.frombuffer(value, np.uint8, len(value) - TRAILER.size).reshape(ref.count, schema.row_bytes)
        if isinstance(rows, slice):
            bytes_of(out)[:] = source[rows]
        else:
            np.take(source, rows, axis=0, out=bytes_of(out), mode="clip")  # other modes copy twice

    def _coded(self, ref: ChunkRef, value: memoryview, schema: Schema) -> Coded:
        return Coded(value[: -TRAILER.size], ref.count, schema.dtype)

    def _value(self, ref: ChunkRef, *, check: bool = True) -> memoryview:
        held = self._of(ref)
        if (known := held.known.get(ref.seq)) is not None:
            if check and ref.seq not in self._source.sound:
                self._check(ref, known)
            return known
        value = held.get(ref)
        if value is None and not held.sealed:  # committed since this batch began
            self._renew(held)
            value = held.get(ref)
        if value is None:
            raise StorageCorrupt(f"{_place(ref)}: this chunk is missing; restore this segment")
        if check and ref.seq not in self._source.sound:
            self._check(ref, value)
        held.known[ref.seq] = value
        return value

    def _of(self, ref: ChunkRef) -> _Held:
        assert self._entered, "a hold is entered before rows are looked at"
        held = self._held.get(ref.segment)
        if held is None:
            return self._begin(ref)
        self._held.move_to_end(ref.segment)
        return held

    def _check(self, ref: ChunkRef, value: memoryview) -> None:
        row_bytes = self._source.schema(ref.stream).row_bytes
        try:
            count, form, _ = check_value(ref.stream, ref.first, row_bytes, value)
        except StorageCorrupt as error:
            raise StorageCorrupt(f"{ref.segment}: {error}") from error
        if (count, form) != (ref.count, ref.form):
            raise StorageCorrupt(
                f"{_place(ref)}: {count} rows (form {form}), listed were {ref.count} (form {ref.form}); "
                "restore this segment"
            )
        self._source.sound.add(ref.seq)

    def _begin(self, ref: ChunkRef) -> _Held:
        with self._source.lock, ExitStack() as stack:
            segment = self._source.segment(ref.segment)
            if segment is None:
                raise SegmentGone(f"{_place(ref)}: its segment was trimmed; list the chunks again")
            sealed = segment.footer is not None
            txn = stack.enter_context(segment.begin())
            held = self._held[ref.segment] = _Held(segment, txn, segment.table("chunks"), stack.pop_all(), sealed)
            return held

    def _renew(self, held: _Held) -> None:
        """Looks at the newest commit; what was given before stays valid."""
        with self._source.lock:
            held.txn = held.ends.enter_context(held.segment.begin())

    def _end(self, name: str) -> None:
        with self._source.lock:
            held = self._held.pop(name)
            held.ends.close()
            if held.sealed:
                held.segment.close()  # once nobody else reads in it


def _check_offsets(ref: ChunkRef, rows: Array) -> None:
    listed = rows.tolist()  # a few, mostly: faster than numpy's own minimum
    if listed and not 0 <= min(listed) <= max(listed) < ref.count:
        raise IndexError(f"{_place(ref)}: rows {min(listed)} to {max(listed)}, allowed 0 to {ref.count - 1}")


def _place(ref: ChunkRef) -> str:
    return f"{ref.segment}: stream {ref.stream}, chunk at step {ref.first}"
