"""Every message crosses unchanged, and nothing else crosses at all."""

import re
from typing import get_args

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from user_rl import wire
from user_rl.errors import WireError
from user_rl.wire import FORMAT, Hello, Limits, Message, Rows, WeightsPart, Welcome, decode, encode

ONE_OF_EACH: list[Message] = [
    wire.Hello("arm/b/run", b"schema", "a" * 32, 3, 0, -1, 7),
    wire.Welcome("arm/b/run", -1),
    wire.Rows("arm/b/run", 5, 2, 2**64 - 1),
    wire.Ack("arm/b/run", 6),
    wire.Permit("arm/b/run", wire.UNLIMITED, 20),
    wire.Refused("", "malformed", "why"),
    wire.WeightsQuery("run", 0),
    wire.WeightsOffer(b""),
    wire.WeightsRange("run", 1, 0, 2**20),
    wire.WeightsPart(1, 0, 12),
    wire.Label("run", b"{}", "arm/b/run", 7),
    wire.Labelled("reward@classifier-3", 4, b"\0\2"),
    wire.Probe("run", "arm", 12.5, b"schema"),
    wire.Probed(12.5, 0, 0.004, True, False),
    wire.Infer("run", "arm", "00" * 16, 7, 12.5, 0.3, 10, True, "ab" * 16, (("observation.state", "raw", 7),), 2),
    wire.Actions(7, 3, b"0123456789abcdef", 10, 0.004),
    wire.Declined(7, "late", "why"),
    wire.GuestsQuery("run"),
    wire.Guests({"k" * 40: "arm"}),
    wire.Piece(3, 0, 2000),
    wire.Arrived(3, 1000),
    wire.Ping(1.5, b"body"),
    wire.Pong(1.5, 2.5, 2.6, b"body"),
    wire.Live(
        cell="arm",
        run="run",
        boot="b",
        episode=1,
        step=-1,
        state="running",
        version=2,
        stamp_s=0.5,
        robot=b"1234",
        steps_per_s=10.0,
        late=0,
        round_trip_s=0.1,
        queue_s=0.0,
        pace_bytes_s=1e6,
        sent_bytes_s=1e5,
        waiting_rows=3,
        spool_bytes=4,
    ),
    wire.Picture("front", 7),
    wire.Timings(b"{}"),
]


def payloads_of(message: Message) -> list[bytes]:
    return [b"payload"] if isinstance(message, wire.WITH_PAYLOAD) else []


def raw(tree: object) -> bytes:
    return bytes((FORMAT,)) + msgspec.msgpack.encode(tree)


def test_there_is_an_example_of_every_message() -> None:
    assert {type(m) for m in ONE_OF_EACH} == set(get_args(Message))


@pytest.mark.parametrize("message", ONE_OF_EACH, ids=lambda m: type(m).__name__)
def test_a_message_and_its_payload_cross_unchanged(message: Message) -> None:
    got, payloads = decode([bytes(f) for f in encode(message, *payloads_of(message))])
    assert got == message
    assert [bytes(p) for p in payloads] == payloads_of(message)


@pytest.mark.slow
@given(st.builds(Rows, stream=st.text(min_size=1, max_size=200), first=st.integers(0, 2**63 - 1),
                 count=st.integers(1, 2**63 - 1), digest=st.integers(0, 2**64 - 1)), st.binary())  # fmt: skip
def test_any_rows_cross_unchanged(rows: Rows, payload: bytes) -> None:
    got, [view] = decode([bytes(f) for f in encode(rows, payload)])
    assert got == rows
    assert bytes(view) == payload


def test_a_payload_is_not_copied_on_either_side() -> None:
    payload = bytearray(b"rows" * 1000)
    frames = encode(Rows("s", 0, 1, 0), memoryview(payload))
    _, [view] = decode(frames)
    payload[:4] = b"seen"
    assert bytes(view[:4]) == b"seen"


def test_the_first_byte_is_the_wire_format() -> None:
    assert encode(Welcome("s", 0))[0][0] == FORMAT


def test_another_wire_format_is_refused_by_its_number() -> None:
    header = bytearray(encode(Welcome("s", 0))[0])
    header[0] = 9
    with pytest.raises(WireError, match=re.escape("wire format 9, allowed 1; bring both sides to one version")):
        decode([header])


@pytest.mark.parametrize("message", ONE_OF_EACH, ids=lambda m: type(m).__name__)
def test_a_header_truncated_anywhere_is_refused(message: Message) -> None:
    header, *payloads = encode(message, *payloads_of(message))
    for length in range(len(header)):
        with pytest.raises(WireError):
            decode([header[:length], *payloads])


@pytest.mark.parametrize("message", ONE_OF_EACH, ids=lambda m: type(m).__name__)
def test_a_header_with_bytes_behind_it_is_refused(message: Message) -> None:
    header, *payloads = encode(message, *payloads_of(message))
    with pytest.raises(WireError, match="is no message"):
        decode([bytes(header) + b"\0", *payloads])


@pytest.mark.parametrize("message", ONE_OF_EACH, ids=lambda m: type(m).__name__)
def test_a_header_with_an_extra_field_is_refused(message: Message) -> None:
    fields = msgspec.msgpack.decode(encode(message, *payloads_of(message))[0][1:])
    with pytest.raises(WireError, match="is no message"):
        decode([raw([*fields, 0]), *payloads_of(message)])


@pytest.mark.parametrize(
    "tree",
    [
        ["Nothing", "s", 0],
        ["Welcome", "s"],
        ["Welcome", 5, 0],
        ["Welcome", "s", -2],
        ["Welcome", "s", 2**63],
        ["Welcome", "s", 0.5],
        ["Welcome", "s", True],
        ["Welcome", "", 0],
        ["Welcome", "s" * 201, 0],
        ["Rows", "s", 0, 0, 0],
        ["Rows", "s", -1, 1, 0],
        ["Refused", "s", "because", "text"],
        ["Refused", "s", "order", "t" * 2001],
        ["Permit", "s", 0, -1],
        ["WeightsOffer", b"m" * (2**18 + 1)],
        ["WeightsRange", "r", 1, 0, 0],
        {"type": "Welcome", "stream": "s", "cursor": 0},
        [],
        None,
    ],
    ids=lambda tree: str(tree)[:40],
)
def test_a_field_out_of_its_bounds_is_refused(tree: object) -> None:
    with pytest.raises(WireError, match="is no message"):
        decode([raw(tree), b"payload"])


def test_text_that_is_no_utf8_is_refused() -> None:
    with pytest.raises(WireError, match="is no message"):
        decode([bytes((FORMAT,)) + b"\x93\xa7Welcome\xa2\xff\xfe\x00"])


@pytest.mark.parametrize("nest", [b"\x91", b"\x81\x01", b"\x93\xa7Welcome\xa1s\x91"], ids=["arrays", "maps", "inside"])
def test_a_deeply_nested_header_is_refused(nest: bytes) -> None:
    with pytest.raises(WireError):
        decode([bytes((FORMAT,)) + nest + b"\x91" * 200_000])


@pytest.mark.parametrize("count", [0, 3])
def test_another_number_of_frames_is_refused(count: int) -> None:
    with pytest.raises(WireError, match=f"a message of {count} frames, allowed 1 to 2; drop it"):
        decode([bytes(encode(Welcome("s", 0))[0])] * count)


def test_sizes_are_bounded_where_the_limits_say() -> None:
    rows = encode(Rows("s", 0, 1, 0), b"x" * 100)
    decode(rows, Limits(payload_bytes=100, header_bytes=len(rows[0])))
    with pytest.raises(WireError, match="a payload of 100 bytes, allowed 99; send it in parts"):
        decode(rows, Limits(payload_bytes=99))
    with pytest.raises(WireError, match=f"a header of {len(rows[0])} bytes, allowed 1 to 5; drop it"):
        decode(rows, Limits(header_bytes=5))


def test_a_payload_belongs_to_its_message_only() -> None:
    with pytest.raises(WireError, match="Welcome with 1 payloads, allowed 0; drop it"):
        decode([*encode(Welcome("s", 0)), b"x"])
    with pytest.raises(WireError, match="Rows with 0 payloads, allowed 1; drop it"):
        decode(encode(Rows("s", 0, 1, 0), b"x")[:1])
    with pytest.raises(WireError, match="WeightsPart with 0 payloads"):
        encode(WeightsPart(1, 0, 1))


@given(st.lists(st.binary(max_size=200), max_size=3))
def test_random_frames_raise_nothing_but_a_wire_error(frames: list[bytes]) -> None:
    with pytest.raises(WireError):
        decode(frames)


@given(st.binary(max_size=200))
def test_random_bytes_behind_the_right_format_raise_nothing_but_a_wire_error(data: bytes) -> None:
    with pytest.raises(WireError):
        decode([bytes((FORMAT,)) + data])


@given(st.sampled_from(ONE_OF_EACH), st.data())
def test_a_damaged_header_raises_a_wire_error_or_is_a_valid_message(message: Message, data: st.DataObject) -> None:
    header = bytearray(encode(message, *payloads_of(message))[0])
    header[data.draw(st.integers(0, len(header) - 1))] = data.draw(st.integers(0, 255))
    try:
        got, _ = decode([header, *payloads_of(message)])
    except WireError:
        return
    assert decode([bytes(f) for f in encode(got, *payloads_of(got))])[0] == got


def test_the_digest_is_xxh3_of_the_payload() -> None:
    assert wire.digest(b"") == 0x2D06800538D394C2  # the reference value of xxh3_64 for no input
    assert wire.digest(memoryview(b"ab")[:1]) == wire.digest(b"a") != wire.digest(b"b")


def test_hello_carries_a_schema_of_up_to_a_quarter_megabyte() -> None:
    hello = Hello("s", b"x" * 2**18, "log", 0, 0, 0, 0)
    assert decode([bytes(f) for f in encode(hello)])[0] == hello
