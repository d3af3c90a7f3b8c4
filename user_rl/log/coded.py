"""The coded form of a chunk: columns that are looked at lie plainly, pictures are coded one by one.

Stored are: the plain part (the records without the coded fields, packed); for each coded field, in the schema's order,
the length of every row's blob (u32) and the blobs; the codecs as JSON, {field: codec}; the length of that (u32). So any
row can be taken without decoding another, and a chunk can be read whatever the configuration is by then.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from struct import Struct
from typing import Any

import msgspec
import numpy as np

from user_rl.errors import StorageCorrupt
from user_rl.log.codec import Codec, decoded, make_codec
from user_rl.specs import Array

LENGTH = Struct("<I")

Rows = Array | slice


@dataclass(frozen=True)
class Layout:
    """Where the fields of a record lie in the plain part, and how the others are coded."""

    dtype: np.dtype[Any]  # of a record
    plain: np.dtype[Any]
    runs: tuple[tuple[int, int, int], ...]  # (offset in the plain record, in the record, bytes)
    coded: tuple[tuple[str, Codec, int, int], ...]  # (field, codec, offset in the record, bytes)


@lru_cache(maxsize=64)
def make_layout(dtype: np.dtype[Any], text: bytes) -> Layout:
    """The layout of chunks with these codecs, `text` as it is stored; raises ConfigError for a missing library."""
    codecs = msgspec.json.decode(text, type=dict[str, str])
    runs: list[tuple[int, int, int]] = []
    coded, kept, at = [], [], 0
    assert dtype.fields is not None, "records have fields"
    for name, (kind, offset) in ((name, dtype.fields[name][:2]) for name in dtype.names or ()):
        if name in codecs:
            codec = make_codec(name, codecs[name], kind.base.str, kind.shape)
            coded.append((name, codec, offset, kind.itemsize))
            continue
        kept.append((name, kind))
        if runs and runs[-1][1] + runs[-1][2] == offset:
            runs[-1] = (runs[-1][0], runs[-1][1], runs[-1][2] + kind.itemsize)
        else:
            runs.append((at, offset, kind.itemsize))
        at += kind.itemsize
    return Layout(dtype, np.dtype(kept), tuple(runs), tuple(coded))


class Coded:
    """The parts of one chunk's stored bytes, which it looks into and does not copy."""

    def __init__(self, stored: memoryview, count: int, dtype: np.dtype[Any]) -> None:
        """Raises StorageCorrupt if the parts do not add up."""
        self.stored, self.text = stored, codecs_text(stored)
        self.layout = make_layout(dtype, self.text)
        at = count * self.layout.plain.itemsize
        self.plain: Array = np.frombuffer(stored, self.layout.plain, count)
        self.columns: list[tuple[list[int], memoryview]] = []  # by coded field: where the blobs end, the blobs
        for name, _, _, _ in self.layout.coded:
            ends = _ends(stored, count, at)
            start = at + LENGTH.size * count
            at = start + ends[-1]
            if at > len(stored):
                raise StorageCorrupt(f"{name}: blobs of {ends[-1]} bytes, {len(stored)} are stored; restore it")
            self.columns.append((ends, stored[start:at]))

    def between(self, first: int, end: int) -> "Coded":
        """The records `first` to `end` (not with it) as a chunk of their own."""
        if first == 0 and end == len(self.plain):
            return self
        return Coded(memoryview(cut_stored(self, first, end)), end - first, self.layout.dtype)

    def fetch(self, rows: Rows, out: Array, without: frozenset[str] = frozenset()) -> None:
        """Decodes the records `rows` into `out`, [rows] records; fields in `without` are left as they are."""
        into, plain = bytes_of(out), bytes_of(self.plain)
        for start, at, size in self.layout.runs:
            into[:, at : at + size] = plain[rows, start : start + size]
        wanted = range(len(plain))[rows] if isinstance(rows, slice) else rows.tolist()
        for (name, codec, at, size), (ends, blobs) in zip(self.layout.coded, self.columns, strict=True):
            if name not in without:
                for slot, row in zip(into[:, at : at + size], wanted, strict=True):
                    decoded(name, codec, blobs[ends[row] : ends[row + 1]], slot)


def _ends(stored: memoryview, count: int, at: int) -> list[int]:
    """Where the blobs of one field end, from 0 on; their lengths stand at `at`. Raises ValueError where none can."""
    if count == 1 and at + LENGTH.size <= len(stored):
        return [0, LENGTH.unpack_from(stored, at)[0]]
    lengths = np.frombuffer(stored, "<u4", count, at)
    return [0, *np.cumsum(lengths, dtype=np.int64).tolist()]


def packed(records: Array, codecs: Mapping[str, str]) -> bytes | None:
    """The stored bytes of records whose fields are coded by `codecs`; None: they are no fewer than the records'."""
    text = msgspec.json.encode(dict(codecs))
    layout, source = make_layout(records.dtype, text), bytes_of(records)
    plain = np.empty((len(records), layout.plain.itemsize), np.uint8)
    for start, at, size in layout.runs:
        plain[:, start : start + size] = source[:, at : at + size]
    parts = [plain.tobytes()]
    for _, codec, at, size in layout.coded:
        blobs = [codec.encode(value) for value in source[:, at : at + size]]
        parts += [np.array([len(blob) for blob in blobs], "<u4").tobytes(), *blobs]
    parts += [text, LENGTH.pack(len(text))]
    return b"".join(parts) if sum(map(len, parts)) < records.nbytes else None


def joined(parts: Sequence["Coded"], text: bytes) -> bytes:
    """The stored bytes of these chunks' records one after the other; all have the codecs `text`, none is coded anew."""
    stored = [part.plain.tobytes() for part in parts]
    for at in range(len(parts[0].layout.coded)):
        stored += [np.diff(part.columns[at][0]).astype("<u4").tobytes() for part in parts]
        stored += [bytes(part.columns[at][1]) for part in parts]
    return b"".join([*stored, text, LENGTH.pack(len(text))])


def cut_stored(part: "Coded", first: int, end: int) -> bytes:
    """The stored bytes of records `first` to `end` (not with it) of a chunk; none is coded anew."""
    stored = [part.plain[first:end].tobytes()]
    for ends, blobs in part.columns:
        stored.append(np.diff(ends[first : end + 1]).astype("<u4").tobytes())
        stored.append(bytes(blobs[ends[first] : ends[end]]))
    return b"".join([*stored, part.text, LENGTH.pack(len(part.text))])


def lossy_fields(stored: memoryview, dtype: np.dtype[Any]) -> tuple[str, ...]:
    """The fields of a coded chunk that are not the bytes that were appended."""
    return tuple(name for name, codec, _, _ in make_layout(dtype, codecs_text(stored)).coded if codec.lossy)


def bytes_of(records: Array) -> Array:
    """Records [N], packed and adjacent, as bytes [N, row_bytes] over the same memory."""
    assert records.flags.c_contiguous, "records are adjacent"
    return records.view(np.uint8).reshape(len(records), records.dtype.itemsize)


def codecs_text(stored: memoryview) -> bytes:
    """The codecs of a coded chunk, as they are stored."""
    (size,) = LENGTH.unpack_from(stored, len(stored) - LENGTH.size)
    return bytes(stored[len(stored) - LENGTH.size - size : len(stored) - LENGTH.size])
