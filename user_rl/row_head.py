"""The header of one row by plain numbers: for a single row that costs a tenth of what numpy's columns do."""

from struct import Struct
from typing import NamedTuple

from user_rl.rows import HEADER
from user_rl.specs import Array

HEAD = Struct("<QIIBBBBQ16s48sQ48sddfBBB")  # as `rows.HEADER`, which every record begins with, coded or not


class Head(NamedTuple):
    """The fields of `rows.HEADER`, in order."""

    step: int
    episode: int
    frame_index: int
    kind: int
    source: int
    is_intervention: int
    klass: int
    version: int
    version_hash: bytes
    run: bytes  # with the NULs behind it
    token: int
    task: bytes
    action_s: float
    clock_offset_s: float
    reward: float
    done: int
    truncated: int
    success: int


assert len(Head._fields) == len(HEADER), "a field of the header is missing here"


def head_of(records: Array) -> Head:
    """The header of the first of these records, which are packed and begin with `rows.HEADER`."""
    return Head._make(HEAD.unpack_from(records))  # type: ignore[arg-type]  # an array is a buffer
