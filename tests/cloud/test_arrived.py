"""Coded rows at the gateway's door: held against all that packed ones are, stored as they came, and known when they
come again."""

from collections.abc import Iterator
from pathlib import Path

import msgspec
import numpy as np
import pytest

from tests.cloud.test_ingest import STREAM, Door, make_hello
from tests.user_rl.log.filmed_rows import DEPTH, FRONT, SCHEMA, STATE, WRIST, filmed
from user_rl.log import Log
from user_rl.log.codec import codecs_of
from user_rl.log.coded import packed
from user_rl.specs import Array
from user_rl.wire import Ack, Message, Refused, Rows, Welcome, digest

CODECS = codecs_of(SCHEMA, {FRONT: "jpeg:80", WRIST: "png", DEPTH: "zstd"})


def rows_of(first: int, count: int) -> Array:
    rows = filmed(first, count)
    rows["run"], rows["token"], rows["klass"] = b"run", 1, 0
    return rows


def coded(rows: Array, **changes: object) -> tuple[Rows, bytes]:
    payload = packed(rows, CODECS)
    assert payload is not None
    message = Rows(STREAM, int(rows["step"][0]), len(rows), digest(payload), coded=True)
    return msgspec.structs.replace(message, **changes), payload


@pytest.fixture
def door(tmp_path: Path) -> Iterator[Door]:
    made = Door(tmp_path / "log")
    made.tell(make_hello(schema=SCHEMA.encoded))
    yield made
    made.log.close()


def send(door: Door, rows: Array, **changes: object) -> list[Message]:
    message, payload = coded(rows, **changes)
    return door.tell(message, payload)


def stored(log: Log) -> bytes:
    return b"".join(chunk.data for chunk in log.stored(STREAM, 0, 2**30))


def test_coded_rows_are_acknowledged_when_durable_and_are_the_same_bytes(door: Door) -> None:
    rows = rows_of(0, 5)
    assert send(door, rows) == []
    assert door.log.synced(STREAM) == -1
    assert door.commit() == [Ack(STREAM, 4)]
    assert stored(door.log) == coded(rows)[1]
    assert (door.ingest.rows, door.ingest.bytes, door.ingest.online_rows) == (5, len(coded(rows)[1]), 4)


def test_coded_and_packed_rows_follow_each_other(door: Door) -> None:
    send(door, rows_of(0, 4))
    assert door.send(rows_of(4, 3)) == []
    send(door, rows_of(7, 4))
    assert door.commit() == [Ack(STREAM, 10)]
    assert [(c.count, c.coded) for c in door.log.stored(STREAM, 0, 2**30)] == [(4, True), (3, False), (4, True)]


@pytest.mark.parametrize("first", [0, 2, 4])
def test_rows_that_overlap_what_is_known_are_cut_and_not_coded_anew(door: Door, first: int) -> None:
    send(door, rows_of(0, 5))
    door.commit()
    assert send(door, rows_of(first, 9 - first)) == []
    assert door.commit() == [Ack(STREAM, 8)]
    assert [(c.first, c.count) for c in door.log.stored(STREAM, 0, 2**30)] == [(0, 5), (5, 4)]
    assert stored(door.log) == coded(rows_of(0, 5))[1] + coded(rows_of(5, 4))[1]
    assert send(door, rows_of(2, 3)) == [Ack(STREAM, 8)]


@pytest.mark.parametrize(
    ("name", "value", "code", "problem"),
    [
        ("step", 9, "malformed", "row 2: step = np.uint64(9), allowed consecutive steps; drop it"),
        ("run", b"other", "malformed", "row 2: run = np.bytes_(b'other'), allowed run; drop it"),
        ("kind", 2, "malformed", "row 2: kind = np.uint8(2), allowed 0 or 1; drop it"),
        ("next.reward", np.nan, "malformed", "row 2: next.reward = np.float32(nan), allowed finite; drop it"),
        ("token", 4, "hello", "lease token 4 in a row, allowed up to 3"),
    ],
)
def test_the_plain_part_is_held_against_what_packed_rows_are(
    door: Door, name: str, value: object, code: str, problem: str
) -> None:
    rows = rows_of(0, 5)
    rows[name][2] = value
    (answer,) = send(door, rows, first=0)
    assert isinstance(answer, Refused)
    assert answer.code == code
    assert problem in answer.text
    assert door.log.appended(STREAM) == -1


@pytest.mark.parametrize(
    ("changes", "code", "text"),
    [
        ({"digest": 7}, "digest", "rows 0 to 4 changed on the way; send them again"),
        ({"count": 4}, "malformed", "do not add up"),
        ({"coded": False}, "malformed", "bytes, allowed"),
        ({"first": 1}, "order", "rows from 1, allowed 0"),
    ],
)
def test_a_message_that_does_not_fit_its_payload_is_refused_until_the_next_hello(
    door: Door, changes: dict[str, object], code: str, text: str
) -> None:
    (answer,) = send(door, rows_of(0, 5), **changes)
    assert isinstance(answer, Refused)
    assert answer.code == code
    assert text in answer.text
    assert Welcome(STREAM, -1) in door.tell(make_hello(schema=SCHEMA.encoded))
    assert send(door, rows_of(0, 5)) == []


def test_a_codec_that_the_field_cannot_have_is_a_matter_of_the_schema(door: Door) -> None:
    payload = packed(rows_of(0, 5), {FRONT: "zstd:1"})
    assert payload is not None
    forged = payload.replace(f'"{FRONT}":"zstd:1"'.encode(), b'"%s":"jpeg:1"' % STATE.ljust(len(FRONT)).encode())
    (answer,) = door.tell(Rows(STREAM, 0, 5, digest(forged), coded=True), forged)
    assert isinstance(answer, Refused)
    assert answer.code == "schema"
