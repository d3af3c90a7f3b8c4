"""Records: the log's rows by their numbers in the index, copied or decoded from the map into given places.

Rows are read in the order of their keys. A raw row is one copy from the map, which is the page cache: no other cache
could be faster than that, only colder disks and coded frames gain by one (`cloud.store.cache`).
"""

import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager
from itertools import pairwise

import numpy as np

from cloud.store.index import Index
from cloud.store.source import Hold, Source
from user_rl.log.chunk import ChunkRef
from user_rl.rows import Schema
from user_rl.specs import Array

RAW = 0
FEW = 32  # rows below which a second thread costs more than it saves


class Records:
    """Reads rows for one assembler; `threads` of its own share the work of a large read."""

    def __init__(self, source: Source, index: Index, schema: Schema, *, threads: int = 2) -> None:
        self.schema, self._source, self._index, self._threads = schema, source, index, threads
        self._refs: list[ChunkRef] = []  # by the index's number of the chunk
        self._pool = ThreadPoolExecutor(max(1, threads - 1), thread_name_prefix="records")
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
        self._fetch(*parts[0])
        for other in others:
            other.result()

    def plain(self, rows: Array, name: str) -> Array:
        """Field `name`, which no codec touches, of `rows` [n] (ascending): [n, ...], a copy."""
        dtype = self.schema.dtype[name]
        out: Array = np.empty((len(rows), *dtype.shape), dtype.base)
        with self._hold() as hold:
            for ref, offsets, part in self._by_chunk(rows):
                out[part] = hold.plain(ref)[name][offsets]
        return out

    def close(self) -> None:
        """Ends the threads."""
        self._pool.shutdown()

    def _fetch(self, rows: Array, out: Array, places: Array) -> None:
        raw = bytes_of(out)
        with self._hold() as hold:
            for ref, offsets, part in self._by_chunk(rows):
                if ref.form == RAW:
                    _copy(bytes_of(hold.plain(ref)), offsets.tolist(), raw, places[part].tolist())
                else:
                    _decode(hold, ref, offsets, out, places[part])

    def _hold(self) -> AbstractContextManager[Hold]:
        if not hasattr(self._own, "hold"):
            self._own.hold = self._source.hold()
        hold: AbstractContextManager[Hold] = self._own.hold
        return hold

    def _by_chunk(self, rows: Array) -> Iterator[tuple[ChunkRef, Array, slice]]:
        """(chunk, records in it, which of `rows` these are) for ascending row numbers."""
        chunks, offsets = self._index.chunk.array[rows], self._index.offset.array[rows]
        cuts = np.flatnonzero(np.diff(chunks)) + 1
        for start, end in pairwise([0, *cuts.tolist(), len(rows)]):
            if end > start:
                yield self._refs[chunks[start]], offsets[start:end], slice(start, end)


def bytes_of(records: Array) -> Array:
    """Records [n] as bytes [n, row_bytes], the same memory."""
    return records.view(np.uint8).reshape(len(records), records.dtype.itemsize)


def _copy(source: Array, offsets: list[int], out: Array, places: list[int]) -> None:
    for offset, place in zip(offsets, places, strict=True):
        out[place] = source[offset]


def _decode(hold: Hold, ref: ChunkRef, offsets: Array, out: Array, places: Array) -> None:
    if len(places) == places[-1] - places[0] + 1 and (np.diff(places) == 1).all():
        hold.fetch(ref, offsets, out[places[0] : places[-1] + 1])
        return
    for offset, place in zip(offsets, places.tolist(), strict=True):
        hold.fetch(ref, np.array([offset]), out[place : place + 1])
