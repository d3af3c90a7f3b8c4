"""Sessions are found by stream and by peer, and a stream has one."""

from cloud.sessions import Session, Sessions
from cloud.testing import state_schema

SCHEMA = state_schema()


def session(stream: str, peer: bytes) -> Session:
    return Session(stream, peer, "cell", SCHEMA, "log", 1, 1)


def test_a_stream_that_another_peer_takes_over_is_no_longer_the_first_ones() -> None:
    sessions, one, two = Sessions(), session("a", b"1"), session("b", b"1")
    for each in (one, two):
        sessions.put(each)
    assert sessions.of_peer(b"1") == [one, two]
    again = session("a", b"2")
    sessions.put(again)
    assert sessions.get("a") is again
    assert (sessions.of_peer(b"1"), sessions.of_peer(b"2")) == ([two], [again])
    assert sessions.all() == [two, again]


def test_what_is_dropped_is_gone_from_both_sides_and_nothing_is_left_of_its_peer() -> None:
    sessions = Sessions()
    for n in range(100):
        sessions.put(session("a", b"%d" % n))
    sessions.drop("a")
    sessions.drop("a")
    assert sessions.get("a") is None
    assert sessions.of_peer(b"99") == []
    assert sessions.of(["a", "b"]) == []
    assert vars(sessions) == {"_by_stream": {}, "_by_peer": {}}
