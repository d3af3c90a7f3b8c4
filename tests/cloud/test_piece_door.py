"""Rows in pieces through a whole gateway."""

import numpy as np

from cloud.testing import episode_rows
from tests.cloud.test_gateway import CLIENT, SCHEMA, STREAM, Served, connected, hear, hear_until, hello, say, served
from user_rl.pieces import split
from user_rl.wire import Ack, Arrived, Piece, Rows, Welcome, digest, encode

__all__ = ["served"]  # the fixture


def test_rows_in_pieces_are_acknowledged_like_whole_ones_and_their_way_is_told_of(served: Served) -> None:
    rows = episode_rows(SCHEMA, np.random.default_rng(0), length=49)
    payload = rows.tobytes()
    message = encode(Rows(STREAM, 0, len(rows), digest(payload)), payload)
    with connected(served.gateway.experience_address, CLIENT) as edge:
        say(edge, hello())
        hear_until(edge, Welcome(STREAM, -1))
        pieces = split(1, message, 1200)
        for piece in pieces:
            assert edge.send(piece)
        heard = hear_until(edge, Ack(STREAM, 49))
    told = [m.size for m in heard if isinstance(m, Arrived)]
    assert len(told) == len(pieces) // 4 + (len(pieces) % 4 > 0)
    assert told == sorted(told)
    assert told[-1] > len(payload)


def test_a_piece_without_its_beginning_is_asked_for_anew_and_counted(served: Served) -> None:
    with connected(served.gateway.experience_address, CLIENT) as edge:
        say(edge, Piece(7, 100, 2000), b"x" * 10)
        assert hear(edge) == Arrived(7, 0)
    assert served.gateway.status()["refused"] == 1


def test_the_gateway_names_its_live_door(served: Served) -> None:
    assert served.gateway.doors.live == served.gateway.live_address != ""
