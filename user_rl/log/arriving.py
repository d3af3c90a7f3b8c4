"""What may be appended to a log: named streams, rows of a bearable size, steps that follow, classes that exist."""

import numpy as np

from user_rl.errors import SpecError, StorageError
from user_rl.log.batch import Stream
from user_rl.log.pending import Queue
from user_rl.rows import Klass, Schema
from user_rl.specs import Array

MAX_ROW_BYTES = 32 * 2**20
MAX_NAME_BYTES = 256


def new_stream(name: str, number: int, schema: Schema, end: int) -> Stream:
    """A stream as it is before anything waits; its rows are stored raw until its codecs are looked up."""
    return Stream(
        name=name, number=number, schema=schema, synced=end, committed=end, appended=end,
        queue=Queue(schema.row_bytes), codecs={},
    )  # fmt: skip


def check_new(name: str, schema: Schema) -> None:
    """Raises StorageError for a stream that cannot be."""
    size = len(name.encode())
    if not 0 < size <= MAX_NAME_BYTES:
        raise StorageError(f"stream name {name[:80]!r} has {size} bytes, allowed 1 to {MAX_NAME_BYTES}; shorten it")
    if schema.row_bytes > MAX_ROW_BYTES:
        raise StorageError(
            f"stream {name}: rows of {schema.row_bytes} bytes, allowed {MAX_ROW_BYTES}; use smaller or fewer images"
        )


def check_steps(state: Stream, steps: Array) -> None:
    """Raises StorageError for steps that are not those that follow the last appended."""
    expected = state.appended + 1
    if int(steps[0]) == expected and (len(steps) == 1 or (steps[1:] - steps[:-1] == 1).all()):
        return
    at = int(np.argmax(steps != np.arange(expected, expected + len(steps), dtype=steps.dtype)))
    raise StorageError(
        f"stream {state.name}: step {int(steps[at])}, expected {expected + at}; ask for the cursor and go on there"
    )


def class_runs(klass: Array) -> list[tuple[Klass, int]]:
    """(class, end) of each run of rows of one class."""
    ends = [*(np.flatnonzero(klass[1:] != klass[:-1]) + 1).tolist(), len(klass)] if len(klass) > 1 else [1]
    try:
        return [(Klass(int(klass[end - 1])), end) for end in ends]
    except ValueError as error:
        allowed = [k.value for k in Klass]
        raise SpecError(f"klass = {int(klass.max())}, allowed {allowed}; mend what made the row") from error
