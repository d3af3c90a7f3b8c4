"""The recorder: a packed header that is the schema's own layout, and names that fit or are refused."""

import dataclasses

import numpy as np
import pytest

from edge.acting import Proposal
from edge.recorder import Heading, Recorder, Step, name48
from hal.cell import Observation
from tests.edge.test_ring import make_ring
from user_rl.errors import ConfigError
from user_rl.rows import HEADER, Kind, Klass, Source, make_schema
from user_rl.specs import Array, Image, box

STATE = box("state", [("x", "m", -9, 9), ("y", "m", -9, 9), ("z", "m", -9, 9)])
SCHEMA = make_schema(
    {"observation.state": STATE, "observation.images.front": Image(name="front", height=2, width=3)},
    box("action", [("dx", "m", -1, 1)]),
)


def array(*values: float) -> Array:
    return np.array(values, np.float32)


HEADING = Heading(
    generation=4, run="r" * 48, token=2**60, klass=Klass.DEMONSTRATION, clock_offset_s=-1.25,
)  # fmt: skip
STEP = Step(
    stamp_s=7.5, proposal=Proposal(array(0.1), 2**50, bytes(range(16))), executed=array(0.2), sent=array(0.3),
    source=Source.TELEOP, is_intervention=True, reward=0.5, done=False, truncated=True, success=True,
)  # fmt: skip


def seen(value: float = 1.0) -> Observation:
    values = {
        "observation.state": array(value, value + 1, value + 2),
        "observation.images.front": np.arange(18, dtype=np.uint8).reshape(2, 3, 3),
    }
    return Observation(values=values, stamps_s={"observation.state": 7.25, "observation.images.front": 7.125})


def recorder(capacity: int = 4) -> Recorder:
    made = Recorder(make_ring(capacity, SCHEMA), task="t" * 48)
    made.begin(HEADING)
    return made


def test_the_header_is_packed_exactly_as_the_schema_lays_it_out() -> None:
    made = recorder()
    size = made._header.size
    last = HEADER[-1].name
    assert size == SCHEMA.dtype.fields[last][1] + SCHEMA.dtype[last].itemsize  # type: ignore[index]


def test_every_field_of_a_row_is_where_a_reader_looks_for_it() -> None:
    made = recorder()
    made.observe(seen())
    made.act(STEP)
    row = made.ring.rows[0]
    expected = {
        "step": 0, "episode": 0, "frame_index": 0, "kind": Kind.STEP, "source": Source.TELEOP, "is_intervention": 1,
        "klass": Klass.DEMONSTRATION, "version": 2**50, "run": b"r" * 48, "token": 2**60, "task": b"t" * 48,
        "stamp.action": 7.5, "clock_offset_s": -1.25, "next.reward": 0.5, "next.done": 0, "next.truncated": 1,
        "next.success": 1, "stamp.observation.state": 7.25, "stamp.observation.images.front": 7.125,
    }  # fmt: skip
    assert {name: row[name] for name in expected} == expected
    assert bytes(row["version_hash"]) == bytes(range(16))
    assert row["observation.state"].tolist() == [1.0, 2.0, 3.0]
    assert row["observation.images.front"].ravel().tolist() == list(range(18))
    assert [row[n].tolist() for n in ("action", "action.proposed", "action.sent")] == [
        [np.float32(0.2)], [np.float32(0.1)], [np.float32(0.3)],
    ]  # fmt: skip
    named = {*expected, "version_hash", "observation.state", "observation.images.front"}
    assert named | {"action", "action.proposed", "action.sent"} == {f.name for f in SCHEMA.fields}


def test_a_closing_row_has_its_observation_and_nothing_of_the_row_that_lay_there_before() -> None:
    made = recorder(capacity=2)
    for value in (1.0, 2.0):
        made.observe(seen(value))
        made.act(STEP)
    made.ring.release(2)
    made.close(seen(5.0))
    row = made.ring.rows[0]
    assert (row["kind"], row["step"], row["frame_index"]) == (Kind.LAST, 2, 2)
    assert row["observation.state"][0] == 5.0
    assert not any(row[n].any() for n in ("action", "action.proposed", "action.sent"))
    assert not any(row[n] for n in ("next.reward", "next.done", "next.truncated", "next.success", "stamp.action"))


def test_an_episode_without_a_step_leaves_no_row() -> None:
    made = recorder()
    made.close(seen())
    assert made.ring.head == 0


def test_counters_go_on_within_a_stream_and_begin_anew_with_another() -> None:
    made = recorder()
    made.observe(seen())
    made.act(STEP)
    assert made.counters(4) == (1, 1)
    assert made.counters(5) == (0, 0)
    made.begin(HEADING)
    assert (made.step, made.episode, made.frame) == (1, 1, 0)


def test_a_name_that_does_not_fit_its_column_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"task 'é+' has 50 bytes, allowed 48; give it a shorter name"):
        name48("task", "é" * 25)
    with pytest.raises(ConfigError, match=r"run 'x+' has 49 bytes"):
        recorder().begin(dataclasses.replace(HEADING, run="x" * 49))
