"""The header of one row: the same numbers as numpy's columns give, of packed and of coded rows."""

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from cloud.testing import state_schema
from tests.user_rl.log.filmed_rows import FRONT, filmed
from user_rl.log.coded import Coded, packed
from user_rl.row_head import HEAD, head_of
from user_rl.rows import HEADER

SCHEMA = state_schema()


def test_the_layout_is_that_of_the_header() -> None:
    assert np.dtype([(f.name, f.dtype, f.shape) for f in HEADER]).itemsize == HEAD.size


@settings(deadline=None)
@given(st.binary(min_size=HEAD.size, max_size=HEAD.size))
def test_whatever_the_bytes_are_each_field_is_the_columns(data: bytes) -> None:
    records = SCHEMA.new(2)
    records.view(np.uint8).reshape(2, -1)[1, : HEAD.size] = np.frombuffer(data, np.uint8)
    for field, found in zip(HEADER, head_of(records[1:]), strict=True):
        expected = records[field.name][1]
        if isinstance(found, bytes):
            assert found.rstrip(b"\0") == expected.tobytes().rstrip(b"\0")
        else:
            assert np.array_equal(np.asarray(found, expected.dtype), expected, equal_nan=expected.dtype.kind == "f")


def test_coded_rows_begin_with_it_too() -> None:
    rows = filmed(7, 1)
    stored = packed(rows, {FRONT: "png"})
    assert stored is not None
    assert head_of(Coded(memoryview(stored), 1, rows.dtype).plain) == head_of(rows)
