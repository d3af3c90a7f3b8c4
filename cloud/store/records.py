"""Records: the log's rows by their numbers in the index, copied or decoded from the map into given places.

Rows are read in the order of their keys. A raw row is one copy from the map, which is the page cache: no other cache
could be faster than that, only colder disks and coded frames gain by one (`cloud.store.cache`).
"""

import os
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor, wait
from contextlib import contextmanager
from itertools import pairwise

import numpy as np

from cloud.store.coldness import Coldness
from cloud.store.index import Index
from cloud.store.source import Hold, Source
from user_rl.errors import StorageCorrupt, StorageError
from user_rl.log.chunk import ChunkRef
from user_rl.log.segment import SegmentGone
from user_rl.rows import Schema
from user_rl.specs import Array

Where = tuple[int, int]  # a file descriptor, the place of a chunk's first record in that file
RAW = 0
LARGE_ROW = 4096  # bytes: a page
FEW = 32  # rows below which a second thread costs more than it saves


class ChunkLost(StorageError):
    """A chunk that the index knows cannot be read any more; `chunk` is its number there.

    `gone`: with its whole segment, by retention or into quarantine; else it is damaged.
    """

    def __init__(self, chunk: int, reason: str, *, gone: bool) -> None:
        super().__init__(reason)
        self.chunk, self.gone = chunk, gone


class Records:
    """Reads rows for one assembler; `threads` of its own share the work of a large read."""

    def __init__(self, source: Source, index: Index, schema: Schema, *, threads: int = 2) -> None:
        self.schema, self._source, self._index, self._threads = schema, source, index, threads
        self._refs: list[ChunkRef] = []  # by the index's number of the chunk
        self._pool = ThreadPoolExecutor(max(1, threads - 1), thread_name_prefix="records")
        self._holds: list[Hold] = []
        self._own = threading.local()  # each thread's hold, entered again for each read

    def add(self, refs: list[ChunkRef]) -> None:
        """Takes note of the chunks that the index has just taken in."""
        self._refs += refs

    def fetch(self, rows: Array, out: Array, places: Array) -> None:
        """Writes row `rows[i]` [n] (ascending) to `out[places[i]]`, a record array."""
        if not len(rows):
            return
        edges = np.linspace(0, len(rows), 1 + (self._threads if len(rows) >= FEW else 1)).astype(int).tolist()
        parts = [(rows[a:b], out, places[a:b]) for a, b in pairwise(edges)]
        others = [self._pool.submit(self._fetch, *part) for part in parts[1:]]
        try:
            self._fetch(*parts[0])
        finally:
            wait(others)  # they write to `out`
        for other in others:
            other.result()

    def plain(self, rows: Array, name: str) -> Array:
        """Field `name`, which no codec touches, of `rows` [n] (ascending): [n, ...], a copy."""
        dtype = self.schema.dtype[name]
        out: Array = np.empty((len(rows), *dtype.shape), dtype.base)
        with self._hold() as hold:
            for chunk, offsets, part in self._by_chunk(rows):
                with _named(chunk):
                    out[part] = hold.plain(self._refs[chunk])[name][offsets]
        return out

    def beside(self, chunk: int) -> tuple[str, list[int]]:
        """The segment of a chunk, and the numbers of all chunks that lie in it."""
        segment = self._refs[chunk].segment
        return segment, [i for i, ref in enumerate(self._refs) if ref.segment == segment]

    def close(self) -> None:
        """Ends the threads, and lets go of the log's segments."""
        self._pool.shutdown()
        for hold in self._holds:
            hold.close()

    def _fetch(self, rows: Array, out: Array, places: Array) -> None:
        start_s = time.perf_counter()
        with self._hold() as hold:
            coldness: Coldness = self._own.coldness
            cold = coldness.is_cold and out.itemsize >= LARGE_ROW
            around = self._announce(hold, rows) if cold else {}
            for chunk, offsets, part in self._by_chunk(rows):
                with _named(chunk):
                    _read(hold, self._refs[chunk], offsets, out, places[part], around.get(chunk))
        coldness.took(len(rows) * out.itemsize, time.perf_counter() - start_s)

    def _announce(self, hold: Hold, rows: Array) -> dict[int, Where]:
        """Where the chunks of cold rows lie in their files. All rows are asked for before the first is waited for: the
        disk has many reads to work on, and brings no more than the rows."""
        found: dict[int, Where] = {}
        row_bytes = self.schema.row_bytes
        for chunk, offsets, _ in self._by_chunk(rows):
            with _named(chunk):
                where = hold.where(self._refs[chunk])
            if where is not None:
                found[chunk] = fd, start = where
                listed = offsets.tolist()
                for a, b in _adjacent(listed):
                    at = start + listed[a] * row_bytes
                    os.posix_fadvise(fd, at, (b - a) * row_bytes, os.POSIX_FADV_WILLNEED)
        return found

    def _hold(self) -> Hold:
        if not hasattr(self._own, "hold"):
            self._own.hold, self._own.coldness = self._source.hold(), Coldness()
            self._holds.append(self._own.hold)
        hold: Hold = self._own.hold
        return hold

    def _by_chunk(self, rows: Array) -> Iterator[tuple[int, Array, slice]]:
        """(number of the chunk, records in it, which of `rows` these are) for ascending row numbers."""
        chunks, offsets = self._index.chunk.array[rows], self._index.offset.array[rows]
        cuts = np.flatnonzero(np.diff(chunks)) + 1
        for start, end in pairwise([0, *cuts.tolist(), len(rows)]):
            if end > start:
                yield int(chunks[start]), offsets[start:end], slice(start, end)


def bytes_of(records: Array) -> Array:
    """Records [n] as bytes [n, row_bytes], the same memory."""
    return records.view(np.uint8).reshape(len(records), records.dtype.itemsize)


@contextmanager
def _named(chunk: int) -> Iterator[None]:
    """Says which chunk it was that could not be read."""
    try:
        yield
    except (StorageCorrupt, SegmentGone) as error:
        raise ChunkLost(chunk, str(error), gone=isinstance(error, SegmentGone)) from error


def _read(
    hold: Hold, ref: ChunkRef, offsets: Array, out: Array, places: Array, around: Where | None
) -> None:  # fmt: skip
    if ref.form != RAW:
        _decode(hold, ref, offsets, out, places)
    elif around is not None:
        _pread(around, offsets.tolist(), bytes_of(out), places.tolist())
    else:
        _copy(bytes_of(hold.plain(ref)), offsets.tolist(), bytes_of(out), places.tolist())


def _copy(source: Array, offsets: list[int], out: Array, places: list[int]) -> None:
    for offset, place in zip(offsets, places, strict=True):
        out[place] = source[offset]


def _adjacent(offsets: list[int]) -> Iterator[tuple[int, int]]:
    """Ascending offsets as (from, to) of the places in the list whose rows follow each other."""
    cuts = [i for i in range(1, len(offsets)) if offsets[i] != offsets[i - 1] + 1]
    return pairwise([0, *cuts, len(offsets)])


def _pread(where: Where, offsets: list[int], out: Array, places: list[int]) -> None:
    """The same through the file; rows that follow each other there in one call."""
    (fd, start), row_bytes = where, out.shape[1]
    for a, b in _adjacent(offsets):
        at = start + offsets[a] * row_bytes
        if os.preadv(fd, [out[place] for place in places[a:b]], at) != (b - a) * row_bytes:
            raise StorageCorrupt(f"rows at byte {at} end early; verify this log")


def _decode(hold: Hold, ref: ChunkRef, offsets: Array, out: Array, places: Array) -> None:
    if len(places) == places[-1] - places[0] + 1 and (np.diff(places) == 1).all():
        hold.fetch(ref, offsets, out[places[0] : places[-1] + 1])
        return
    for offset, place in zip(offsets, places.tolist(), strict=True):
        hold.fetch(ref, np.array([offset]), out[place : place + 1])
