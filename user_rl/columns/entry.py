"""An entry: what one commit wrote for one stream, as it lies in a column's environment.

Key: commit sequence and position in that commit, big-endian, so that entries lie in the order they were written.
Value: stream number u4, count u4, ids u8 [n], then the values: `[n, *shape]` packed, or text ends u4 [n] and utf-8.
"""

from struct import Struct
from struct import error as StructError

import numpy as np

from user_rl.columns.spec import TEXT, Column
from user_rl.errors import StorageCorrupt, WireError
from user_rl.specs import Array

KEY = Struct(">QI")  # seq, position
HEAD = Struct("<II")  # stream number, count
ROWS = 4096  # in one entry, at most
BYTES = 2**22  # of one entry, about


def rows_in_entry(column: Column) -> int:
    """How many values one entry takes: a bound on its size, and on what a reader touches for one value."""
    return max(1, min(ROWS, BYTES // max(1, column.item_bytes or 1024)))


def pack(column: Column, number: int, ids: Array, values: Array) -> bytes:
    """The bytes of an entry."""
    head = HEAD.pack(number, len(ids)) + ids.astype("<u8").tobytes()
    if column.dtype != TEXT:
        return head + values.tobytes()
    texts = [text.encode() for text in values]
    return head + np.cumsum([len(text) for text in texts], dtype="<u4").tobytes() + b"".join(texts)


def unpack(column: Column, data: memoryview) -> tuple[Array, Array]:
    """Ids and values of an entry that came over a wire; raises WireError for anything that is none."""
    try:
        _, ids = ids_of(data)
        return ids, values_of(column, data)
    except (StorageCorrupt, StructError, ValueError, IndexError) as error:
        raise WireError(f"{column.identity}: {len(data)} bytes are no values of it: {error}; drop them") from error


def ids_of(data: memoryview) -> tuple[int, Array]:
    """The stream number and the ids [n]."""
    number, count = HEAD.unpack_from(data)
    if HEAD.size + 8 * count > len(data):
        raise StorageCorrupt(f"an entry of {len(data)} bytes cannot hold {count} ids; restore the column from a backup")
    return number, np.frombuffer(data, "<u8", count, HEAD.size).astype(np.int64)


def values_of(column: Column, data: memoryview, places: Array | None = None) -> Array:
    """The values at `places` (all: None) of an entry, copied."""
    count = HEAD.unpack_from(data)[1]
    start = HEAD.size + 8 * count
    if column.dtype == TEXT:
        return _texts(data, start, count, range(count) if places is None else places.tolist())
    if start + count * column.item_bytes != len(data):
        raise StorageCorrupt(f"{column.identity}: an entry has {len(data)} bytes for {count} values; restore it")
    whole = np.frombuffer(data, column.dtype, -1, start).reshape(count, *column.shape)
    return whole.copy() if places is None else whole[places]


def _texts(data: memoryview, start: int, count: int, places: "range | list[int]") -> Array:
    ends = np.frombuffer(data, "<u4", count, start)
    body = start + 4 * count
    found = np.empty(len(places), object)
    for i, place in enumerate(places):
        low = int(ends[place - 1]) if place else 0
        found[i] = bytes(data[body + low : body + int(ends[place])]).decode()
    return found
