"""Are two logs of one run the same? Row by row over the bytes, for the report and for tests that kill processes.

Rows that both logs store by the same codecs are held against each other as they are stored: nothing is decoded, and
pictures that one log took over from the other are compared to the last bit. Where the codecs differ rows are decoded;
fields that either log stores by a lossy codec (jpeg) cannot be the same bytes then: they are left out, on both sides,
and the result names them.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
import xxhash
from numpy.typing import NDArray

from user_rl.errors import SchemaMismatch, StorageCorrupt
from user_rl.log.chunk import Span, Stored
from user_rl.log.coded import LENGTH, Coded, bytes_of
from user_rl.log.readable import Readable
from user_rl.rows import Schema
from user_rl.specs import Array

_ROW = np.dtype([("step", "<u8"), ("low", "<u8"), ("high", "<u8"), ("codecs", "<u8")])  # step, xxh3_128, codecs' hash


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """What the cloud's log of a run has of one edge's."""

    rows: int  # distinct rows that both have
    rows_lost: int  # the edge has, the cloud has not; and what the cloud wrote off as a gap; not what it dropped
    rows_waiting: int  # of those lost: beyond the cloud's cursor, still to be sent
    rows_duplicated: int  # further copies of a row in the cloud's log
    rows_differing: int  # both have them, the bytes are not the same
    rows_dropped: int = 0  # the cloud had them, and its retention gave them up
    fields_left_out: frozenset[str] = frozenset()  # in any of the streams: coded with loss, hence not compared

    def __add__(self, other: "Comparison") -> "Comparison":
        return Comparison(
            rows=self.rows + other.rows,
            rows_lost=self.rows_lost + other.rows_lost,
            rows_waiting=self.rows_waiting + other.rows_waiting,
            rows_duplicated=self.rows_duplicated + other.rows_duplicated,
            rows_differing=self.rows_differing + other.rows_differing,
            rows_dropped=self.rows_dropped + other.rows_dropped,
            fields_left_out=self.fields_left_out | other.fields_left_out,
        )


NOTHING = Comparison(rows=0, rows_lost=0, rows_waiting=0, rows_duplicated=0, rows_differing=0)


def compare(edge: Readable, cloud: Readable, run: str) -> Comparison:
    """Compares the streams of `run` that the edge has. Raises SchemaMismatch if the two mean different rows."""
    total, cloud_streams = NOTHING, cloud.streams()
    for stream, schema in edge.streams().items():
        if stream.endswith(f"/{run}"):
            if stream in cloud_streams and cloud_streams[stream].encoded != schema.encoded:
                raise SchemaMismatch(f"stream {stream}: edge and cloud have different schemas; compare logs of one run")
            total += _compare_stream(edge, cloud, stream, known=stream in cloud_streams)
    return total


def _compare_stream(edge: Readable, cloud: Readable, stream: str, *, known: bool) -> Comparison:
    ours = _stored(edge, stream)
    theirs = _stored(cloud, stream) if known else np.zeros(0, _ROW)
    cursor = cloud.synced(stream) if known else -1
    both = np.intersect1d(ours["step"], theirs["step"])
    lost = np.setdiff1d(np.union1d(ours["step"], _gap_steps(cloud, stream)), theirs["step"])
    dropped = cloud.dropped(stream) if known else []
    coded_alike, otherwise = _by_codecs(ours, theirs, both)
    without = edge.lossy(stream) | cloud.lossy(stream) if len(otherwise) else frozenset[str]()
    return Comparison(
        rows=len(both),
        rows_lost=_lost(lost, theirs["step"], dropped),
        rows_waiting=int(np.count_nonzero(lost.astype(np.int64) > cursor)),
        rows_duplicated=len(theirs) - len(np.unique(theirs["step"])),
        rows_differing=_differing(ours, theirs, coded_alike)
        + (_differing(_rows(edge, stream, without), _rows(cloud, stream, without), otherwise) if len(otherwise) else 0),
        rows_dropped=sum(span.rows for span in dropped),
        fields_left_out=without,
    )


def _lost(missing: NDArray[Any], here: NDArray[Any], dropped: list[Span]) -> int:
    """How many rows are lost: within what was dropped those that the dropped segments never had, else the missing."""
    lost = 0
    for first, last in _joined(dropped):
        rows = sum(span.rows for span in dropped if first <= span.first <= last)
        within = np.unique(here[(here >= first) & (here <= last)])
        lost += max(0, last - first + 1 - len(within) - rows)
        missing = missing[(missing < first) | (missing > last)]
    return lost + len(missing)


def _joined(spans: list[Span]) -> list[tuple[int, int]]:
    """[first, last] of what these spans cover, apart from each other."""
    runs: list[tuple[int, int]] = []
    for first, last in sorted((span.first, span.last) for span in spans):
        if runs and first <= runs[-1][1]:
            runs[-1] = (runs[-1][0], max(last, runs[-1][1]))
        else:
            runs.append((first, last))
    return runs


def _differing(ours: Array, theirs: Array, both: NDArray[Any]) -> int:
    """Steps of which not all copies are the same."""
    kept = [rows[["step", "low", "high"]][np.isin(rows["step"], both)] for rows in (ours, theirs)]
    copies = np.unique(np.concatenate(kept))
    _, kinds = np.unique(copies["step"], return_counts=True)
    return int(np.count_nonzero(kinds > 1))


def _by_codecs(ours: Array, theirs: Array, both: NDArray[Any]) -> tuple[NDArray[Any], NDArray[Any]]:
    """The steps that both have: those of which all copies are stored by the same codecs, and the others."""
    copies = np.unique(np.concatenate([rows[["step", "codecs"]] for rows in (ours, theirs)]))
    steps, kinds = np.unique(copies["step"], return_counts=True)
    otherwise = np.intersect1d(both, steps[kinds > 1])
    return np.setdiff1d(both, otherwise), otherwise


def _stored(reader: Readable, stream: str) -> Array:
    """Step and hash of every row as it is stored; the step is the one that it says."""
    schema = reader.streams()[stream]
    found = [_stored_hashes(schema, chunk) for chunk in reader.scan_stored(stream)]
    return np.concatenate(found) if found else np.zeros(0, _ROW)


def _stored_hashes(schema: Schema, chunk: Stored) -> Array:
    if not chunk.coded:
        return _hashes(schema, chunk.data)
    part = Coded(memoryview(chunk.data), chunk.count, schema.dtype)
    hashes, plain = np.zeros(chunk.count, _ROW), bytes_of(part.plain)
    hashes["step"], hashes["codecs"] = part.plain["step"], xxhash.xxh3_64_intdigest(part.text)
    for row in range(chunk.count):
        digest = xxhash.xxh3_128(plain[row].tobytes())
        for ends, blobs in part.columns:
            digest.update(LENGTH.pack(ends[row + 1] - ends[row]))
            digest.update(blobs[ends[row] : ends[row + 1]])
        hashes["low"][row], hashes["high"][row] = np.frombuffer(digest.digest(), "<u8")
    return hashes


def _rows(reader: Readable, stream: str, without: frozenset[str]) -> Array:
    """Step and hash of every row, decoded, with zeros for the fields in `without`."""
    schema = reader.streams()[stream]
    found = [_decoded_hashes(schema, chunk, without) for chunk in reader.scan_stored(stream)]
    return np.concatenate(found) if found else np.zeros(0, _ROW)


def _decoded_hashes(schema: Schema, chunk: Stored, without: frozenset[str]) -> Array:
    records = schema.new(chunk.count)
    if chunk.coded:
        try:
            Coded(memoryview(chunk.data), chunk.count, schema.dtype).fetch(slice(None), records, without)
        except StorageCorrupt:  # it was made so: as it is stored it is like no other
            return _stored_hashes(schema, chunk)
    else:
        records[:] = schema.view(chunk.data)
    for name in without:
        records[name] = 0
    return _hashes(schema, records.tobytes())


def _hashes(schema: Schema, data: bytes) -> Array:
    hashes = np.zeros(len(data) // schema.row_bytes, _ROW)
    hashes["step"] = schema.view(data)["step"]
    view, size = memoryview(data), schema.row_bytes
    digests = b"".join(xxhash.xxh3_128_digest(view[at : at + size]) for at in range(0, len(data), size))
    hashes["low"], hashes["high"] = np.frombuffer(digests, "<u8").reshape(-1, 2).T
    return hashes


def _gap_steps(reader: Readable, stream: str) -> NDArray[np.uint64]:
    gaps = [np.arange(gap.first, gap.last + 1, dtype=np.uint64) for gap in reader.gaps() if gap.stream == stream]
    return np.concatenate(gaps) if gaps else np.zeros(0, np.uint64)
