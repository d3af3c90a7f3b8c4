"""Row ids: rows as (stream, step), which no restart and no trimmed log renumbers, in plain arrays of numbers."""

from collections.abc import Mapping

import numpy as np

from cloud.store.index import NOWHERE, Index
from user_rl.specs import Array


def pack_rows(index: Index | None, rows: Array) -> dict[str, Array]:
    """The ids of row numbers [n]: `streams`, names joined by newlines as uint8; `stream` and `step` [n]."""
    if index is None or not len(rows):
        empty: Array = np.empty(0, np.int64)
        return {"streams": empty.astype(np.uint8), "stream": empty.astype(np.int32), "step": empty}
    used, stream = np.unique(index.stream.array[rows], return_inverse=True)
    names = "\n".join(index.streams[i] for i in used)
    return {
        "streams": np.frombuffer(names.encode(), np.uint8).copy(),
        "stream": stream.astype(np.int32), "step": index.step.array[rows],
    }  # fmt: skip


def find_rows(index: Index, ids: Mapping[str, Array]) -> Array:
    """The row numbers [n] of packed ids; NOWHERE for a row that the index does not have."""
    rows: Array = np.full(len(ids["step"]), NOWHERE, np.int64)
    known = {name: i for i, name in enumerate(index.streams)}
    for number, name in enumerate(ids["streams"].tobytes().decode().split("\n")):
        mine = np.flatnonzero(ids["stream"] == number)
        if len(mine) and name in known:
            rows[mine] = _of_steps(index, index.of_stream[known[name]].array, ids["step"][mine])
    return rows


def _of_steps(index: Index, rows: Array, steps: Array) -> Array:
    """The rows of one stream with these steps; a stream's steps ascend."""
    has = index.step.array[rows]
    places = np.minimum(np.searchsorted(has, steps), len(rows) - 1)
    return np.where(has[places] == steps, rows[places], NOWHERE)
