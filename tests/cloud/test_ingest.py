import logging
from collections.abc import Iterator
from pathlib import Path

import msgspec
import numpy as np
import pytest

from cloud.ingest import GatewayConfig, Ingest, find_problem
from cloud.shards.share import Elsewhere, fenced
from cloud.testing import episode_rows, state_schema
from user_rl.channels import Received
from user_rl.clock import FakeClock
from user_rl.errors import ConfigError, StorageFull
from user_rl.log import Chunk, Log, LogConfig
from user_rl.rows import Klass, make_schema
from user_rl.specs import Array, Image
from user_rl.wire import UNLIMITED, Ack, Hello, Message, Permit, Refused, Rows, WeightsQuery, Welcome, digest, encode

SCHEMA = state_schema()
STREAM, PEER = "cell-0/b1/run", b"peer-0"
CONFIG = GatewayConfig()


class Door:
    """An Ingest with one edge in front of it."""

    def __init__(self, path: Path, *, demonstrations: int = 0, log_config: LogConfig | None = None) -> None:
        self.clock = FakeClock()
        self.tokens: dict[str, int] = {"cell-0": 3, "cell-1": 3}
        self.log = Log(path, log_config or LogConfig(), clock=self.clock)
        self.ingest = Ingest(
            "run", self.log, CONFIG, tokens=self.tokens.get, demonstrations=demonstrations, clock=self.clock
        )  # fmt: skip

    def tell(self, message: Message, *payloads: bytes, peer: bytes = PEER, user: str = "edge:cell-0") -> list[Message]:
        frames = [memoryview(frame) for frame in encode(message, *payloads)]
        return [answer for _, answer in self.ingest.receive(Received(peer, user, frames))]

    def hello(self, **changes: object) -> list[Message]:
        return self.tell(make_hello(**changes))

    def send(self, rows: Array, **changes: object) -> list[Message]:
        message, payload = make_rows(rows, **changes)
        return self.tell(message, payload)

    def commit(self) -> list[Message]:
        return [answer for _, answer in self.ingest.commit()]


def make_hello(**changes: object) -> Hello:
    whole = Hello(STREAM, SCHEMA.encoded, "l" * 32, epoch=1, first_kept=0, last=99, token=3)
    return msgspec.structs.replace(whole, **changes)


def make_rows(rows: Array, **changes: object) -> tuple[Rows, bytes]:
    payload = rows.tobytes()
    message = Rows(STREAM, int(rows["step"][0]), len(rows), digest(payload))
    return msgspec.structs.replace(message, **changes), payload


def episode(
    first_step: int = 0, number: int = 0, *, length: int = 4, demonstration: bool = False, success: bool = True
) -> Array:
    klass = Klass.DEMONSTRATION if demonstration else Klass.ONLINE
    rng = np.random.default_rng(number)
    return episode_rows(SCHEMA, rng, length=length, first_step=first_step, number=number, klass=klass, success=success)


@pytest.fixture
def door(tmp_path: Path) -> Iterator[Door]:
    found = Door(tmp_path / "log")
    yield found
    found.log.close()


def stored(log: Log, stream: str = STREAM) -> list[Chunk]:
    return log.read(stream, 0, 2**30)


def test_rows_are_acknowledged_only_when_they_are_on_disk(door: Door) -> None:
    assert door.hello() == [Welcome(STREAM, -1), Permit(STREAM, UNLIMITED, 0)]
    rows = episode()
    assert door.send(rows[:3]) == []
    assert door.send(rows[3:]) == []
    assert door.log.synced(STREAM) == -1
    assert door.commit() == [Ack(STREAM, 4)]
    assert b"".join(chunk.data for chunk in stored(door.log)) == rows.tobytes()
    assert (door.ingest.rows, door.ingest.bytes, door.ingest.online_rows) == (5, rows.nbytes, 4)


def test_rows_whose_group_is_not_due_are_neither_acknowledged_nor_counted(tmp_path: Path) -> None:
    door = Door(tmp_path, log_config=LogConfig(group_ms=200.0))
    door.hello()
    rows = episode(length=9)
    door.send(rows[:3])
    assert door.commit() == [Ack(STREAM, 2)]
    door.send(rows[3:])
    assert not door.ingest.commit_is_due(idle=True)
    assert door.ingest.wait_s() == CONFIG.tick_s
    assert door.commit() == []
    assert (door.ingest.pending, door.ingest.online_rows, door.log.synced(STREAM)) == (True, 3, 2)
    assert door.send(rows[4:6]) == [Ack(STREAM, 2)]
    door.clock.advance(0.19)
    assert 0 < door.ingest.wait_s() < 0.011
    door.clock.advance(0.011)
    assert door.ingest.wait_s() == 0
    assert door.ingest.commit_is_due(idle=True)
    assert door.commit() == [Ack(STREAM, 9)]
    assert (door.ingest.pending, door.ingest.online_rows) == (False, 9)
    door.send(episode(10, 1))
    assert door.hello()[:2] == [Ack(STREAM, 14), Welcome(STREAM, 14)]
    door.log.close()


def test_a_log_that_commits_each_is_acknowledged_and_a_full_one_does_not_end_the_gateway(tmp_path: Path) -> None:
    door = Door(tmp_path, log_config=LogConfig(commit="each", segment_bytes=2**16, max_bytes=2**18))
    door.hello()
    step, answers = 0, list[Message]()
    while not any(isinstance(answer, Refused) for answer in answers):
        assert door.send(episode(step, step // 101, length=100)) == []
        step += 101
        answers = door.commit()
        assert answers == [Ack(STREAM, step - 1)] or isinstance(answers[0], Refused)
    _make_space(door)
    assert door.commit()[0] == Ack(STREAM, step - 1)
    door.log.close()


def test_a_codec_that_the_rows_cannot_have_is_said_to_the_edge(tmp_path: Path) -> None:
    door = Door(tmp_path, log_config=LogConfig(codecs={"observation.state": "png"}))
    (answer,) = door.hello()
    assert isinstance(answer, Refused)
    assert answer.code == "schema"
    assert answer.text.startswith("log.codecs.observation.state = png: observation.state is float32[")
    door.log.close()


def test_a_second_life_of_the_gateway_welcomes_with_what_it_has(tmp_path: Path) -> None:
    first = Door(tmp_path)
    first.hello()
    first.send(episode())
    first.send(episode(5, 1)[:3])
    first.commit()
    first.log.close()
    second = Door(tmp_path)
    assert second.send(episode(5, 1)[3:]) == [Refused(STREAM, "hello", f"{STREAM} must say Hello before it sends rows")]
    assert second.hello()[0] == Welcome(STREAM, 7)
    assert second.ingest.online_rows == 4 + 3
    second.log.close()


def test_rows_that_come_twice_are_kept_once(door: Door) -> None:
    door.hello()
    rows = episode(length=9)
    door.send(rows[:6])
    door.commit()
    assert door.send(rows[2:5]) == [Ack(STREAM, 5)]
    assert door.send(rows[4:]) == []
    assert door.commit() == [Ack(STREAM, 9)]
    assert b"".join(chunk.data for chunk in stored(door.log)) == rows.tobytes()
    assert door.ingest.rows == 10


def test_a_hole_is_refused_until_the_next_hello(door: Door) -> None:
    door.hello()
    rows = episode(length=9)
    door.send(rows[:2])
    text = "rows from 4, allowed 2; say Hello and send what follows"
    assert door.send(rows[4:]) == [Refused(STREAM, "order", text)]
    assert door.send(rows[2:]) == []  # told already; a second later it is told again
    door.clock.advance(1.0)
    assert isinstance(door.send(rows[2:])[0], Refused)
    assert door.hello() == [Ack(STREAM, 1), Welcome(STREAM, 1), Permit(STREAM, UNLIMITED, 0)]
    assert door.send(rows[2:]) == []
    assert door.commit() == [Ack(STREAM, 9)]


def test_what_nobody_has_becomes_a_gap(door: Door) -> None:
    assert door.hello(first_kept=7)[0] == Ack(STREAM, 6) or door.log.synced(STREAM) == 6
    assert [(gap.first, gap.last) for gap in door.log.gaps()] == [(0, 6)]
    assert door.hello(first_kept=7)[0] == Welcome(STREAM, 6)
    door.send(episode(7, length=2))
    assert door.commit() == [Ack(STREAM, 9)]


def test_a_gap_behind_rows_starts_after_them(door: Door) -> None:
    door.hello()
    door.send(episode())
    door.commit()
    assert Welcome(STREAM, 9) in door.hello(first_kept=10)
    assert [(gap.first, gap.last) for gap in door.log.gaps()] == [(5, 9)]


@pytest.mark.parametrize(
    ("changes", "code", "text"),
    [
        ({"stream": "cell-1/b1/run"}, "identity", "stream cell-1/b1/run from edge:cell-0, allowed edge:cell-1"),
        ({"stream": "cell-0"}, "identity", "stream cell-0 from edge:cell-0, allowed edge:cell-0"),
        ({"stream": "cell-0/b1/old"}, "run", "rows of run old, allowed run; send them to their own gateway"),
        ({"token": 2}, "identity", "lease token 2 of cell-0, allowed 3; lease anew"),
        ({"schema": b"\x00"}, "schema", "a schema that cannot be read: a schema of 1 bytes cannot be read"),
        ({"schema": state_schema(9).encoded}, "schema", f"schema {state_schema(9).digest}, allowed {SCHEMA.digest}"),
    ],
)  # fmt: skip
def test_a_hello_that_does_not_belong_here_is_refused(
    door: Door, changes: dict[str, object], code: str, text: str
) -> None:
    door.hello()
    (answer,) = door.hello(**changes)
    assert isinstance(answer, Refused)
    assert (answer.code, answer.text[: len(text)]) == (code, text)
    assert door.send(episode()) == []  # the session before is unharmed
    assert door.commit() == [Ack(STREAM, 4)]


def test_a_cell_without_a_lease_is_refused(door: Door) -> None:
    door.tokens.clear()
    text = "cell-0 has no lease of run run; lease it, then say Hello"
    assert door.hello() == [Refused(STREAM, "identity", text)]


def test_an_older_process_on_the_same_spool_is_refused(door: Door) -> None:
    door.hello(epoch=5)
    text = "writer epoch 4, allowed 5; another process took over this spool"
    assert door.hello(epoch=4) == [Refused(STREAM, "identity", text)]
    assert door.hello(epoch=6)[0] == Welcome(STREAM, -1)


def test_the_schema_of_the_log_holds_for_the_next_life_too(tmp_path: Path) -> None:
    first = Door(tmp_path)
    first.hello()
    first.send(episode())
    first.commit()
    first.log.close()
    second = Door(tmp_path)
    (answer,) = second.hello(stream="cell-0/b2/run", schema=state_schema(9).encoded)
    assert isinstance(answer, Refused)
    assert answer.code == "schema"
    second.log.close()


@pytest.mark.parametrize("bad", [
    {"format": 1, "action": {"name": "a", "names": ["x"], "units": [], "low": [], "high": []}, "observation": {}},
    {"format": 1, "action": {"name": "a", "names": ["x"], "units": [""], "low": [0.0], "high": [1.0]},
     "observation": {"o": {"name": "o", "height": -1, "width": 2, "channels": 3}}},
    {"format": 1, "action": {"name": "a", "names": ["x"], "units": [""], "low": [0.0], "high": [1.0]},
     "observation": {"o": {"name": "o", "height": 2**40, "width": 2**40, "channels": 3}}},
    {"format": 1, "action": {"name": "a", "names": ["x"], "units": [""], "low": [0.0], "high": [1.0]},
     "observation": {"o": {"name": "o", "height": 8192, "width": 8192, "channels": 3}}},
])  # fmt: skip
def test_a_schema_made_by_an_enemy_is_only_refused(door: Door, bad: dict[str, object]) -> None:
    (answer,) = door.hello(schema=msgspec.msgpack.encode(bad))
    assert isinstance(answer, Refused)
    assert answer.code == "schema"


def test_bytes_that_changed_on_the_way_are_refused(door: Door) -> None:
    door.hello()
    text = "rows 0 to 4 changed on the way; send them again"
    assert door.send(episode(), digest=7) == [Refused(STREAM, "digest", text)]
    assert door.log.appended(STREAM) == -1


def test_a_count_that_is_not_the_payloads_is_refused(door: Door) -> None:
    door.hello()
    size = SCHEMA.row_bytes
    text = f"4 rows in {5 * size} bytes, allowed {4 * size}; drop them"
    assert door.send(episode(), count=4) == [Refused(STREAM, "malformed", text)]


@pytest.mark.parametrize(
    ("name", "value", "problem"),
    [
        ("step", 9, "row 2: step = np.uint64(9), allowed consecutive steps; drop it"),
        ("run", b"other", "row 2: run = np.bytes_(b'other'), allowed run; drop it"),
        ("token", 0, "row 2: token = np.uint64(0), allowed 1 or more; drop it"),
        ("klass", 2, "row 2: klass = np.uint8(2), allowed 0 or 1; drop it"),
        ("kind", 2, "row 2: kind = np.uint8(2), allowed 0 or 1; drop it"),
        ("source", 2, "row 2: source = np.uint8(2), allowed 0 or 1; drop it"),
        ("next.done", 7, "row 2: next.done = np.uint8(7), allowed 0 or 1; drop it"),
        ("next.reward", np.nan, "row 2: next.reward = np.float32(nan), allowed finite; drop it"),
    ],
)
def test_a_row_out_of_range_is_refused(door: Door, name: str, value: object, problem: str) -> None:
    rows = episode()
    assert find_problem(rows, 0, "run") == ""
    rows[name][2] = value
    assert find_problem(rows, 0, "run") == problem
    door.hello()
    assert door.send(rows) == [Refused(STREAM, "malformed", f"{STREAM} {problem}")]
    assert door.log.appended(STREAM) == -1


def test_rows_under_a_newer_lease_need_a_new_hello_and_older_ones_do_not(door: Door) -> None:
    door.hello()
    rows = episode()
    assert door.send(rows) == []  # token 1, recorded under an earlier lease of this run
    rows = episode(5, 1)
    rows["token"] = 4
    text = "lease token 4 in a row, allowed up to 3; say Hello with it"
    assert door.send(rows) == [Refused(STREAM, "hello", text)]
    assert Welcome(STREAM, 4) in door.hello(token=4)
    assert door.send(rows) == []


def test_a_malformed_message_is_counted_and_the_session_goes_on(door: Door, caplog: pytest.LogCaptureFixture) -> None:
    door.hello()
    for frames in ([memoryview(b"\x01\xff\xff")], [memoryview(b"\x07")], [memoryview(b"")], []):
        ((peer, answer),) = door.ingest.receive(Received(PEER, "edge:cell-0", frames))
        assert peer == PEER
        assert isinstance(answer, Refused)
        assert answer.code == "malformed"
    assert isinstance(door.tell(WeightsQuery("run", 0))[0], Refused)
    assert door.ingest.refused == 5
    assert len([r for r in caplog.records if r.levelno == logging.WARNING]) == 1
    assert door.send(episode()) == []
    assert door.commit() == [Ack(STREAM, 4)]


def test_a_second_connection_takes_a_stream_over(door: Door) -> None:
    door.hello()
    door.tell(make_hello(), peer=b"peer-1")
    assert isinstance(door.send(episode())[0], Refused)
    message, payload = make_rows(episode())
    assert door.tell(message, payload, peer=b"peer-1") == []
    assert door.ingest.commit()[0] == (b"peer-1", Ack(STREAM, 4))


def test_a_commit_is_due_when_idle_or_large_or_old(door: Door) -> None:
    assert not door.ingest.commit_is_due(idle=True)
    door.hello()
    door.send(episode())
    assert door.ingest.commit_is_due(idle=True)
    assert not door.ingest.commit_is_due(idle=False)
    door.clock.advance(CONFIG.group_s)
    assert door.ingest.commit_is_due(idle=False)
    door.commit()
    assert not door.ingest.commit_is_due(idle=True)


def test_eight_megabytes_are_committed_at_once(tmp_path: Path) -> None:
    camera = Image(name="observation.images.wrist", height=512, width=512)
    schema = make_schema({camera.name: camera}, SCHEMA.action)
    door = Door(tmp_path)
    door.hello(schema=schema.encoded)
    count = -(-CONFIG.group_bytes // schema.row_bytes)
    for n in range(count):
        assert not door.ingest.commit_is_due(idle=False)
        row = schema.new()
        row["step"], row["run"], row["token"] = n, b"run", 1
        assert door.send(row) == []
    assert door.ingest.commit_is_due(idle=False)
    door.log.close()


def test_many_cells_are_told_to_let_their_rows_gather(door: Door) -> None:
    door.ingest._config = GatewayConfig(gather_cells=1, gather_ms=125)
    assert door.hello() == [Welcome(STREAM, -1), Permit(STREAM, UNLIMITED, 0)]
    answers = door.tell(make_hello(stream="cell-1/b1/run"), peer=b"peer-1", user="edge:cell-1")
    assert Permit("cell-1/b1/run", UNLIMITED, 0, gather_ms=250) in answers
    assert Permit(STREAM, UNLIMITED, 0, gather_ms=250) in answers
    door.ingest._config = GatewayConfig(gather_cells=1, gather_ms=500)
    assert {getattr(permit, "gather_ms", None) for _, permit in door.ingest.permits()} == {600}  # the most
    door.ingest.delivered(b"peer-1", False)
    assert door.ingest.permits()[0] == (PEER, Permit(STREAM, UNLIMITED, 0))


@pytest.mark.parametrize("changes", [{"gather_cells": 0}, {"gather_ms": -1}, {"gather_ms": 601}])
def test_bounds_of_gathering_are_checked(changes: dict[str, int]) -> None:
    with pytest.raises(ConfigError, match=r"gateway.gather_cells, gather_ms = .*, allowed from 1, 0 to 600"):
        GatewayConfig(**changes)  # type: ignore[arg-type]


def test_permits_share_what_the_limiter_allows_among_the_cells(door: Door) -> None:
    door.ingest.total_rows = 10
    assert door.hello() == [Welcome(STREAM, -1), Permit(STREAM, 9, 0)]
    door.send(episode())
    assert door.ingest.permits() == []
    assert door.commit() == [Ack(STREAM, 4), Permit(STREAM, 4 + 6, 0)]
    other = make_hello(stream="cell-1/b1/run")
    answers = door.tell(other, peer=b"peer-1", user="edge:cell-1")
    assert Permit("cell-1/b1/run", -1 + 3, 0) in answers
    assert Permit(STREAM, 4 + 3, 0) in answers
    door.ingest.total_rows = 13
    assert door.ingest.permits() == [
        (PEER, Permit(STREAM, 4 + 5, 0)), (b"peer-1", Permit("cell-1/b1/run", -1 + 5, 0))
    ]  # fmt: skip
    assert door.ingest.permits() == []
    door.ingest.total_rows = 3
    assert {answer for _, answer in door.ingest.permits()} == {
        Permit(STREAM, 4, 0), Permit("cell-1/b1/run", -1, 0)
    }  # fmt: skip


def test_an_old_boots_stream_takes_nothing_from_the_cells_share(door: Door) -> None:
    door.ingest.total_rows = 10
    door.hello()
    assert Permit("cell-0/b2/run", 9, 0) in door.hello(stream="cell-0/b2/run")


def test_a_lost_peer_gives_its_share_back_and_is_forgotten(door: Door) -> None:
    door.ingest.total_rows = 10
    door.hello()
    door.tell(make_hello(stream="cell-1/b1/run"), peer=b"peer-1", user="edge:cell-1")
    door.ingest.delivered(b"peer-1", False)
    assert door.ingest.cells == ["cell-0"]
    answers = door.ingest.permits()
    assert (PEER, Permit(STREAM, 9, 0)) in answers
    assert (b"peer-1", Permit("cell-1/b1/run", 9, 0)) in answers  # tried again
    door.ingest.delivered(b"peer-1", True)
    assert door.ingest.cells == ["cell-0", "cell-1"]
    door.ingest.delivered(b"peer-1", False)
    door.clock.advance(CONFIG.lost_after_s + 0.1)
    door.ingest.permits()
    message, payload = make_rows(episode())
    (answer,) = door.tell(
        msgspec.structs.replace(message, stream="cell-1/b1/run"), payload, peer=b"peer-1", user="edge:cell-1"
    )
    assert isinstance(answer, Refused)
    assert answer.code == "hello"


def test_a_permit_that_did_not_reach_its_edge_is_sent_again(door: Door) -> None:
    (_, permit) = door.hello()
    assert door.ingest.permits() == []
    door.ingest.delivered(PEER, False)
    assert door.ingest.permits() == [(PEER, permit)]
    door.ingest.delivered(PEER, True)
    assert door.ingest.permits() == []


def test_demonstrations_are_wanted_until_enough_succeeded(tmp_path: Path) -> None:
    door = Door(tmp_path, demonstrations=2)
    assert door.hello() == [Welcome(STREAM, -1), Permit(STREAM, UNLIMITED, 2)]
    door.send(episode(0, 0, demonstration=True))
    assert door.ingest.permits() == []  # not before its rows are acknowledged
    door.send(episode(5, 1, demonstration=True, success=False))
    door.send(episode(10, 2))
    assert door.commit() == [Ack(STREAM, 14), Permit(STREAM, UNLIMITED, 1)]
    door.send(episode(15, 3, demonstration=True)[:4])  # its success is in, its end is not
    door.commit()
    assert door.ingest.quota.shown == 1
    door.log.close()
    again = Door(tmp_path, demonstrations=2)
    assert (again.ingest.quota.shown, again.ingest.online_rows) == (1, 4)
    assert again.hello()[1] == Permit(STREAM, UNLIMITED, 1)
    again.send(episode(15, 3, demonstration=True)[4:])
    assert again.commit() == [Ack(STREAM, 19), Permit(STREAM, UNLIMITED, 0)]
    again.log.close()


def test_cells_that_share_the_demonstrations_record_no_more_than_their_part(tmp_path: Path) -> None:
    door = Door(tmp_path, demonstrations=3)
    door.ingest.quota.each = 2
    assert door.hello()[1] == Permit(STREAM, UNLIMITED, 2)
    door.send(episode(0, 0, demonstration=True))
    door.send(episode(5, 1, demonstration=True))
    assert door.commit()[-1] == Permit(STREAM, UNLIMITED, 0)
    other = door.tell(make_hello(stream="cell-1/b1/run"), peer=b"peer-1", user="edge:cell-1")
    assert other[1] == Permit("cell-1/b1/run", UNLIMITED, 1)
    door.log.close()
    again = Door(tmp_path, demonstrations=3)
    again.ingest.quota.each = 2
    assert again.hello()[1] == Permit(STREAM, UNLIMITED, 0)
    again.log.close()


def test_a_full_disk_acknowledges_nothing_loses_nothing_and_ends(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    door = Door(tmp_path, log_config=LogConfig(segment_bytes=2**16, max_bytes=2**18))
    door.hello()
    door.tell(make_hello(stream="cell-1/b1/run"), peer=b"peer-1", user="edge:cell-1")  # sends nothing
    sent, step = [], 0
    refused: list[Message] = []
    while not refused:
        rows = episode(step, step // 101, length=100)
        step += 101
        sent.append(rows)
        assert door.send(rows) == []
        refused = [answer for answer in door.commit() if isinstance(answer, Refused)]
    acknowledged = door.log.synced(STREAM)
    assert [(r.stream, r.code) for r in refused if isinstance(r, Refused)] == [(STREAM, "full")]
    assert not door.ingest.commit_is_due(idle=True)
    door.clock.advance(CONFIG.retry_s)
    assert door.ingest.commit_is_due(idle=True)
    assert door.commit() == []
    more = episode(step, step // 101, length=100)
    assert door.send(more) == []  # not even taken into memory
    assert door.log.appended(STREAM) == step - 1
    assert [a.code for a in door.hello() if isinstance(a, Refused)] == ["full"]
    assert len([r for r in caplog.records if r.levelno == logging.ERROR]) == 1
    _make_space(door)
    assert door.commit() == [Ack(STREAM, step - 1), Refused(STREAM, "hello", "there is space again; say Hello")]
    assert acknowledged < step - 1
    assert door.hello()[0] == Welcome(STREAM, step - 1)
    assert door.send(more) == []
    assert Ack(STREAM, step + 100) in door.commit()
    assert b"".join(c.data for c in stored(door.log)) == b"".join(r.tobytes() for r in (*sent, more))
    door.log.close()


def _make_space(door: Door) -> None:
    door.log.config = LogConfig(segment_bytes=2**16, max_bytes=2**24)


@pytest.mark.parametrize("hours", [0.0, -1.0])
def test_segments_are_verified_again_after_a_time(hours: float) -> None:
    words = rf"^gateway\.verify_hours = {hours}, allowed more than 0; leave it out for a day$"
    with pytest.raises(ConfigError, match=words):
        GatewayConfig(verify_hours=hours)


def shard(door: Door, opens: dict[str, int]) -> None:
    """Makes the ingest one of several, to which `opens` belong."""
    door.ingest.opens_at = opens.get


def test_a_stream_of_another_shard_is_refused_as_moved(door: Door) -> None:
    shard(door, {})
    (refused,) = door.hello()
    assert isinstance(refused, Refused)
    assert (refused.code, refused.text) == (
        "moved", f"{STREAM} is not this shard's own; the fleet says where it goes"
    )  # fmt: skip


def test_rows_of_a_stream_that_has_just_left_are_refused_and_what_was_taken_is_told(door: Door) -> None:
    opens = {STREAM: 0}
    shard(door, opens)
    door.hello()
    door.send(episode(length=3)[:3])
    opens.clear()
    (refused,) = door.send(episode(3, length=3)[:3])
    assert isinstance(refused, Refused)
    assert refused.code == "moved"
    assert door.ingest.fence("cell-0") == ({STREAM: 2}, 1)
    assert door.ingest.fence("cell-0") == ({STREAM: 2}, 1)  # asked again
    assert door.ingest.fence("cell-9") == ({}, 1)


def test_a_stream_that_has_moved_here_goes_on_behind_what_the_other_shard_has(door: Door) -> None:
    shard(door, {STREAM: 40})
    welcome = door.hello(first_kept=10, last=60)[0]
    assert welcome == Welcome(STREAM, 39)
    assert door.hello(first_kept=10)[0] == Welcome(STREAM, 39)
    door.send(episode(40, length=2)[:2])
    assert door.commit()[0] == Ack(STREAM, 41)


def test_what_the_edge_has_no_more_is_a_gap_behind_what_the_other_shard_has(door: Door) -> None:
    shard(door, {STREAM: 40})
    assert door.hello(first_kept=50)[0] == Welcome(STREAM, 49)


def test_permits_and_quotas_count_what_other_shards_have(tmp_path: Path) -> None:
    door = Door(tmp_path / "log", demonstrations=4)
    door.ingest.total_rows = 100
    door.hello()
    (before,) = door.ingest._sessions.all()
    assert before.permit == Permit(STREAM, 99, 4)
    door.ingest.share(Elsewhere(online_rows=60, cells=1, shown={"cell-1": 3}))
    (_, after) = door.ingest.permits()[0]
    assert after == Permit(STREAM, 19, 1)
    door.log.close()


def test_a_fence_waits_for_rows_that_a_full_disk_holds_up(door: Door) -> None:
    opens = {STREAM: 0}
    shard(door, opens)
    door.hello()
    door.send(episode(length=3)[:3])
    opens.clear()
    with pytest.raises(StorageFull, match=f"rows of {STREAM} wait for a commit; free some space, then move it"):
        fenced(door.log, [STREAM])


def test_small_groups_gather_for_as_long_as_the_last_commit_took_and_large_ones_do_not(door: Door) -> None:
    door.hello()
    door.send(episode())
    commit = door.log.commit

    def slow() -> dict[str, int]:
        door.clock.advance(0.006)
        return commit()

    door.log.commit = slow  # type: ignore[method-assign]
    door.commit()
    door.send(episode(5, 1))
    assert not door.ingest.commit_is_due(idle=True)
    assert 0.005 < door.ingest.wait_s() <= 0.006
    door.clock.advance(0.006)
    assert door.ingest.wait_s() == 0
    assert door.ingest.commit_is_due(idle=True)
    door.commit()
    step, sent = 10, 0
    while sent < CONFIG.small_group_bytes:
        rows = episode(step, step, length=500)
        door.send(rows)
        step, sent = step + 501, sent + rows.nbytes
    assert door.ingest.commit_is_due(idle=True)


def test_many_streams_share_a_commit_that_is_older_and_few_do_not(door: Door) -> None:
    names = [f"cell-0/b{n}/run" for n in range(CONFIG.crowd)]
    for name in names:
        door.hello(stream=name)
    for name in names[:-1]:
        door.send(episode(), stream=name)
    door.clock.advance(CONFIG.group_s)
    assert door.ingest.commit_is_due(idle=False)
    door.send(episode(), stream=names[-1])
    assert not door.ingest.commit_is_due(idle=True)
    assert door.ingest.wait_s() == pytest.approx(min(CONFIG.tick_s, CONFIG.crowd_s - CONFIG.group_s))
    door.clock.advance(CONFIG.crowd_s - CONFIG.group_s)
    assert door.ingest.commit_is_due(idle=False)
    assert {answer.stream for answer in door.commit() if isinstance(answer, Ack)} == set(names)
