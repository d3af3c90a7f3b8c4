"""user_rl.rows: the record's layout, its digest, and what two sides agree on."""

import math

import msgspec
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from user_rl.errors import SchemaMismatch
from user_rl.rows import FORMAT, Kind, Schema, make_schema, schema_from_bytes
from user_rl.specs import Image, box

STATE = box("observation.state", [("x", "m", -1, 1), ("v", "m/s", -math.inf, math.inf)])
ACTION = box("action", [("dx", "m", -0.1, 0.1)])


def schema() -> Schema:
    front = Image(name="front", height=4, width=5)
    return make_schema({"observation.state": STATE, "observation.images.front": front}, ACTION)


def test_a_row_holds_everything_that_was_promised() -> None:
    names = set(schema().dtype.names or ())
    assert {"action", "action.proposed", "action.sent", "source", "version", "version_hash", "run", "token"} <= names
    assert {"episode", "task", "stamp.observation.state", "stamp.observation.images.front", "next.reward"} <= names


def test_records_are_packed_and_survive_bytes() -> None:
    rows = schema().new(3)
    rows["step"], rows["kind"] = [7, 8, 9], [Kind.STEP, Kind.STEP, Kind.LAST]
    rows["observation.images.front"][1] = 200
    again = schema().view(rows.tobytes())
    assert np.array_equal(again, rows)
    assert schema().row_bytes == sum(rows.dtype[n].itemsize for n in rows.dtype.names or ())


def test_the_schema_reads_back_with_the_same_digest() -> None:
    again = schema_from_bytes(schema().encoded)
    assert again == schema()
    assert again.digest == schema().digest


def test_the_order_in_which_observations_are_named_does_not_matter() -> None:
    front = Image(name="front", height=4, width=5)
    other = make_schema({"observation.images.front": front, "observation.state": STATE}, ACTION)
    assert other.digest == schema().digest


@pytest.mark.parametrize(
    "other",
    [
        make_schema({"observation.state": STATE}, ACTION),
        make_schema(
            {"observation.state": STATE, "observation.images.front": Image(name="front", height=5, width=4)}, ACTION
        ),
        make_schema(schema().observation, box("action", [("dx", "m", -0.2, 0.1)])),
        make_schema(schema().observation, box("action", [("dx", "cm", -0.1, 0.1)])),
    ],
)
def test_any_change_of_shape_bound_or_unit_changes_the_digest(other: Schema) -> None:
    assert other.digest != schema().digest


def test_a_broken_length_is_refused_with_both_numbers() -> None:
    size = schema().row_bytes
    with pytest.raises(SchemaMismatch, match=f"^{size + 1} bytes are no whole number of {size}-byte rows of schema"):
        schema().view(bytes(size + 1))


def test_a_later_format_is_refused() -> None:
    tree = msgspec.msgpack.decode(schema().encoded) | {"format": FORMAT + 1}
    with pytest.raises(SchemaMismatch, match=f"^row format {FORMAT + 1}, allowed {FORMAT}; bring both sides"):
        schema_from_bytes(msgspec.msgpack.encode(tree))


@given(st.binary(max_size=200))
def test_noise_is_no_schema_and_says_so(data: bytes) -> None:
    with pytest.raises(SchemaMismatch):
        schema_from_bytes(data)


@given(st.integers(0, len(schema().encoded) - 1))
def test_a_truncated_schema_is_refused(length: int) -> None:
    with pytest.raises(SchemaMismatch):
        schema_from_bytes(schema().encoded[:length])
