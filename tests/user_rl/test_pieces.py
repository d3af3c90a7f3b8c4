"""Pieces put together are the message; whatever else comes is refused and leaves nothing behind."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from user_rl.errors import WireError
from user_rl.pieces import FORGET_S, Assembler, cut, pack, split, unpack
from user_rl.wire import Piece, decode

messages = st.lists(st.binary(max_size=300), min_size=1, max_size=3)


def parts(number: int, frames: list[bytes], piece_bytes: int) -> list[tuple[Piece, memoryview]]:
    found = []
    for wire in split(number, frames, piece_bytes):
        piece, (payload,) = decode(wire)
        assert isinstance(piece, Piece)
        assert len(payload) <= piece_bytes
        found.append((piece, payload))
    return found


@given(frames=messages, piece_bytes=st.integers(1, 400))
@settings(max_examples=60, deadline=None)
def test_a_message_in_pieces_is_the_same_message(frames: list[bytes], piece_bytes: int) -> None:
    assembler = Assembler()
    pieces = parts(1, frames, piece_bytes)
    taken = [assembler.take("u", b"p", *part, 0.0) for part in pieces]
    assert [t.frames for t in taken[:-1]] == [None] * (len(pieces) - 1)
    assert list(taken[-1].frames or ()) == frames
    assert [t.size for t in taken][-1] == pieces[0][0].total
    assert assembler.held == 0


@given(frames=messages, data=st.data())
@settings(max_examples=60, deadline=None)
def test_pieces_that_are_doubled_swapped_or_missing_never_make_another_message(
    frames: list[bytes], data: st.DataObject
) -> None:
    pieces = parts(1, frames, 16)
    order = data.draw(st.lists(st.integers(0, len(pieces) - 1), max_size=2 * len(pieces)))
    assembler = Assembler(held_bytes=10**6)
    for at in order:
        try:
            taken = assembler.take("u", b"p", *pieces[at], 0.0)
        except WireError:
            assert assembler.held == 0
            continue
        assert taken.frames is None or list(taken.frames) == frames
    assert assembler.held <= pieces[0][0].total


@given(body=st.binary(max_size=64))
@settings(max_examples=200, deadline=None)
def test_what_was_not_packed_is_refused_or_is_frames_of_as_many_bytes(body: bytes) -> None:
    try:
        frames = unpack(body)
    except WireError:
        return
    assert pack([bytes(frame) for frame in frames]) == body


def test_a_truncated_message_is_refused() -> None:
    with pytest.raises(WireError, match=r"2 frames of 10 bytes in 9, allowed as many; drop them"):
        unpack(pack([b"hello", b"world"])[:-1])


def test_each_user_has_one_message_at_a_time() -> None:
    assembler = Assembler()
    (first, rest), (other, _) = parts(1, [b"x" * 20], 16), parts(2, [b"y" * 20], 16)
    assembler.take("u", b"p", *first, 0.0)
    assembler.take("u", b"p", *other, 0.0)
    with pytest.raises(WireError, match="a piece of message 1, whose beginning is not here; send it anew"):
        assembler.take("u", b"p", *rest, 0.0)
    assert assembler.held == 16


def test_users_do_not_disturb_one_another() -> None:
    assembler = Assembler()
    first, rest = parts(1, [b"x" * 20], 16)
    assembler.take("u", b"p", *first, 0.0)
    assembler.take("v", b"q", *first, 0.0)
    assert assembler.take("u", b"p", *rest, 0.0).frames == [memoryview(b"x" * 20)]
    assert assembler.held == 16


def test_a_new_connection_begins_anew() -> None:
    assembler = Assembler()
    first, rest = parts(1, [b"x" * 20], 16)
    assembler.take("u", b"old", *first, 0.0)
    with pytest.raises(WireError, match="whose beginning is not here"):
        assembler.take("u", b"new", *rest, 0.0)
    assembler.take("u", b"new", *first, 0.0)
    assert assembler.take("u", b"new", *rest, 0.0).frames == [memoryview(b"x" * 20)]


def test_one_message_and_all_together_are_bounded() -> None:
    assembler = Assembler(max_bytes=100, held_bytes=40)
    with pytest.raises(WireError, match="a message of 101 bytes in pieces, allowed 100; send less at once"):
        assembler.take("u", b"p", Piece(1, 0, 101), memoryview(b"x"), 0.0)
    assembler.take("u", b"p", Piece(1, 0, 100), memoryview(b"x" * 30), 0.0)
    with pytest.raises(WireError, match="15 bytes of 100, 30 held of 40; send it anew, later"):
        assembler.take("v", b"q", Piece(1, 0, 100), memoryview(b"x" * 15), 0.0)
    assert assembler.held == 30


@pytest.mark.parametrize(
    ("piece", "payload"),
    [
        (Piece(1, 10, 25), b"x" * 9),
        (Piece(1, 16, 26), b"x" * 9),
        (Piece(1, 16, 25), b"x" * 10),
        (Piece(1, 16, 25), b""),
    ],
)
def test_a_piece_that_does_not_fit_costs_its_message(piece: Piece, payload: bytes) -> None:
    assembler = Assembler()
    (first, _) = parts(1, [b"x" * 20], 16)
    assert first[0].total == 25
    assembler.take("u", b"p", *first, 0.0)
    with pytest.raises(WireError, match="send it anew"):
        assembler.take("u", b"p", piece, memoryview(payload), 0.0)
    assert assembler.held == 0


def test_what_is_not_finished_is_forgotten() -> None:
    assembler = Assembler()
    first, _ = parts(1, [b"x" * 20], 16)
    assembler.take("u", b"p", *first, 0.0)
    assembler.forget(FORGET_S - 0.1)
    assert assembler.held == 16
    assembler.forget(FORGET_S)
    assert assembler.held == 0


def test_a_cut_is_a_part_of_the_body() -> None:
    piece, (payload,) = decode(cut(7, b"0123456789", 4, 3))
    assert (piece, bytes(payload)) == (Piece(7, 4, 10), b"456")
