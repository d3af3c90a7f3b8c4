"""The uplink against a gateway in memory: whatever is lost, doubled, refused or restarted, each row arrives once."""

from dataclasses import dataclass, field

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edge.config import LinkConfig
from edge.uplink import Uplink
from tests.edge.rig import SCHEMA
from user_rl.log import Stored, digest_of
from user_rl.rows import Schema
from user_rl.wire import Ack, Hello, Message, Permit, Refused, RefusedCode, Rows, Welcome

LIVE = "arm/b2/run"
OLD = "arm/b1/run"
CONFIG = LinkConfig(window_bytes=5 * 16, chunk_bytes=3 * 16, answer_s=5.0)


def row(step: int) -> bytes:
    return step.to_bytes(16, "little")


@dataclass
class MemorySpool:
    """See edge.uplink.Source. Rows of 16 bytes; chunks end where `cuts` says."""

    rows: dict[str, list[bytes]] = field(default_factory=dict)
    kept: dict[str, int] = field(default_factory=dict)
    pending: int = 0  # rows at the end of the live stream that are not synced
    log_id: str = "0" * 32
    epoch: int = 1

    def streams(self) -> dict[str, Schema]:
        return dict.fromkeys(self.rows, SCHEMA)

    def synced(self, stream: str) -> int:
        return len(self.rows[stream]) - 1 - (self.pending if stream == LIVE else 0)

    def first_kept(self, stream: str) -> int:
        return self.kept.get(stream, 0)

    def stored(self, stream: str, first: int, max_bytes: int) -> list[Stored]:
        chunks, last = list[Stored](), self.synced(stream)
        while first <= last and (max_bytes >= 16 or not chunks):
            count = max(1, min(2 - first % 2, last + 1 - first, max_bytes // 16))
            data = b"".join(self.rows[stream][first : first + count])
            chunks.append(Stored(stream, first, count, digest_of(data), data, coded=False))
            first, max_bytes = first + count, max_bytes - len(data)
        return chunks


@dataclass
class MemoryGateway:
    """What the cloud does with rows, in the fewest words. `rows` are durable, `pending` not yet."""

    rows: dict[str, list[bytes | None]] = field(default_factory=dict)
    pending: dict[str, list[bytes | None]] = field(default_factory=dict)
    sessions: set[str] = field(default_factory=set)
    code: RefusedCode | None = None  # refuse whatever comes

    def receive(self, message: Message, payload: bytes | None) -> list[Message]:
        assert isinstance(message, Hello | Rows)
        if self.code is not None:
            return [Refused(message.stream, self.code, f"because {self.code}")]
        rows = self.rows.setdefault(message.stream, [])
        if isinstance(message, Hello):
            self.commit()
            rows.extend([None] * (message.first_kept - len(rows)))  # a gap
            self.sessions.add(message.stream)
            return [Welcome(message.stream, len(rows) - 1)]
        assert payload is not None
        pending = self.pending.setdefault(message.stream, [])
        if message.stream not in self.sessions:
            return [Refused(message.stream, "hello", "who are you")]
        if message.first != len(rows) + len(pending):
            return [Refused(message.stream, "order", "not the next")]
        assert digest_of(payload) == message.digest
        pending.extend(payload[i : i + 16] for i in range(0, len(payload), 16))
        return []

    def commit(self) -> list[Message]:
        acks: list[Message] = []
        for stream, pending in self.pending.items():
            self.rows[stream] += pending
            if pending:
                acks.append(Ack(stream, len(self.rows[stream]) - 1))
        self.pending = {}
        return acks

    def restart(self) -> None:
        self.pending, self.sessions = {}, set()


def uplink(spool: MemorySpool, config: LinkConfig = CONFIG) -> Uplink:
    made = Uplink(spool, config, {})
    made.serve("run", 7, LIVE, 0.0)
    return made


def spool_of(live: int = 0, old: int | None = None) -> MemorySpool:
    streams = {} if old is None else {OLD: [row(100 + i) for i in range(old)]}
    return MemorySpool({**streams, LIVE: [row(i) for i in range(live)]})


def said(machine: Uplink, now_s: float = 0.0) -> list[Message]:
    """Everything that the machine says now."""
    messages = []
    while out := machine.next(now_s):
        machine.sent(now_s)
        messages.append(out[0])
    return messages


def test_it_begins_with_hello_and_says_what_it_holds() -> None:
    spool = spool_of(live=4)
    spool.kept[LIVE], spool.pending = 1, 1
    (hello,) = said(uplink(spool))
    assert hello == Hello(LIVE, SCHEMA.encoded, "0" * 32, 1, 1, 2, 7)


def test_rows_follow_the_clouds_cursor() -> None:
    machine = uplink(spool_of(live=6))
    said(machine)
    machine.receive(Welcome(LIVE, 2), None, 0.0)
    assert [(m.first, m.count) for m in said(machine) if isinstance(m, Rows)] == [(3, 1), (4, 2)]


def test_only_what_is_synced_on_the_edges_own_disk_is_sent() -> None:
    spool = spool_of(live=3)
    spool.pending = 2
    machine = uplink(spool)
    said(machine)
    machine.receive(Welcome(LIVE, -1), None, 0.0)
    assert [m.first for m in said(machine) if isinstance(m, Rows)] == [0]
    spool.pending = 0
    assert [m.first for m in said(machine) if isinstance(m, Rows)] == [1, 2]


def test_no_more_is_in_flight_than_the_window_holds() -> None:
    machine = uplink(spool_of(live=40))
    said(machine)
    machine.receive(Welcome(LIVE, -1), None, 0.0)
    sent = [m for m in said(machine) if isinstance(m, Rows)]
    assert sum(m.count for m in sent) == 5
    machine.receive(Ack(LIVE, 1), None, 0.0)
    assert [(m.first, m.count) for m in said(machine) if isinstance(m, Rows)] == [(5, 1), (6, 1)]


def test_what_could_not_be_sent_is_proposed_again() -> None:
    machine = uplink(spool_of())
    assert machine.next(0.0) == machine.next(0.0)


def test_streams_of_older_boots_go_first_and_those_of_other_runs_wait() -> None:
    spool = spool_of(live=2, old=2)
    spool.rows["arm/b0/other"] = [row(0)]
    machine = uplink(spool)
    assert [m.stream for m in said(machine) if isinstance(m, Hello)] == [OLD, LIVE]
    machine.receive(Welcome(LIVE, -1), None, 0.0)
    machine.receive(Welcome(OLD, -1), None, 0.0)
    assert [m.stream for m in said(machine) if isinstance(m, Rows)] == [OLD, LIVE]


def test_an_old_stream_that_is_refused_does_not_hold_the_live_one_back() -> None:
    machine = uplink(spool_of(live=1, old=1))
    said(machine)
    machine.receive(Refused(OLD, "schema", "another schema"), None, 0.0)
    machine.receive(Welcome(LIVE, -1), None, 0.0)
    assert [m.stream for m in said(machine) if isinstance(m, Rows)] == [LIVE]


def test_another_run_sends_its_own_streams_only() -> None:
    spool = spool_of(live=1)
    machine = uplink(spool)
    said(machine)
    spool.rows["arm/b3/next"] = [row(0)]
    machine.serve("next", 8, "arm/b3/next", 1.0)
    (hello,) = said(machine, 1.0)
    assert isinstance(hello, Hello)
    assert (hello.stream, hello.token) == ("arm/b3/next", 8)


def test_silence_leads_back_to_hello(caplog: pytest.LogCaptureFixture) -> None:
    machine = uplink(spool_of(live=1))
    said(machine)
    assert said(machine, 4.9) == []
    assert [type(m) for m in said(machine, 5.0)] == [Hello]
    machine.receive(Welcome(LIVE, -1), None, 5.0)
    assert [type(m) for m in said(machine, 6.0)] == [Rows]
    assert said(machine, 10.9) == []
    assert [type(m) for m in said(machine, 11.0)] == [Hello]
    assert "the gateway has not answered for 5 s; asking where to go on" in caplog.text


def test_a_live_stream_with_nothing_to_send_still_asks_whether_anyone_is_there() -> None:
    machine = uplink(spool_of(old=0))
    said(machine)
    machine.receive(Welcome(LIVE, -1), None, 0.0)
    machine.receive(Welcome(OLD, -1), None, 0.0)
    assert [m.stream for m in said(machine, 5.0) if isinstance(m, Hello)] == [LIVE]


def test_a_second_welcome_does_not_send_rows_twice() -> None:
    machine = uplink(spool_of(live=2))
    said(machine)
    machine.receive(Welcome(LIVE, -1), None, 0.0)
    assert len(said(machine)) == 1
    machine.receive(Welcome(LIVE, -1), None, 0.0)
    assert said(machine) == []


def test_a_cloud_that_lost_rows_gets_them_again() -> None:
    machine = uplink(spool_of(live=4))
    said(machine)
    machine.receive(Welcome(LIVE, 3), None, 0.0)
    assert machine.done
    machine.reconnected(1.0)
    said(machine, 1.0)
    machine.receive(Welcome(LIVE, 0), None, 1.0)
    assert machine.acknowledged == {LIVE: 0}
    assert [m.first for m in said(machine, 1.0) if isinstance(m, Rows)] == [1, 2]


def test_rows_that_nobody_has_are_told_and_skipped(caplog: pytest.LogCaptureFixture) -> None:
    spool = spool_of(live=6)
    spool.kept[LIVE] = 4
    machine = uplink(spool)
    said(machine)
    machine.receive(Welcome(LIVE, 1), None, 0.0)
    assert [m.first for m in said(machine) if isinstance(m, Rows)] == [4]
    assert f"{LIVE}: rows 2 to 3 are kept nowhere" in caplog.text


def test_an_acknowledgement_of_rows_that_do_not_exist_is_not_believed(caplog: pytest.LogCaptureFixture) -> None:
    machine = uplink(spool_of(live=2))
    said(machine)
    machine.receive(Welcome(LIVE, -1), None, 0.0)
    said(machine)
    machine.receive(Ack(LIVE, 2), None, 0.0)
    assert machine.acknowledged == {LIVE: -1}
    assert "row 2 is acknowledged and was never sent" in caplog.text


def test_a_refusal_is_told_once_waits_longer_each_time_and_loses_nothing(caplog: pytest.LogCaptureFixture) -> None:
    machine, now_s, asked = uplink(spool_of(live=1)), 0.0, list[float]()
    while len(asked) < 6:
        if said(machine, now_s):
            asked.append(now_s)
            machine.receive(Refused(LIVE, "full", "no space"), None, now_s)
        now_s = round(now_s + 0.1, 1)
    assert asked == pytest.approx([0.0, 0.2, 0.6, 1.4, 3.0, 6.2], abs=0.25)
    assert caplog.text.count(f"the gateway refuses {LIVE}: no space (full); rows stay here") == 1


def test_after_an_acknowledgement_a_refusal_is_news_again(caplog: pytest.LogCaptureFixture) -> None:
    machine = uplink(spool_of(live=1))
    for now_s in (0.0, 10.0):
        for after_s in (0.0, 0.3):
            assert [type(m) for m in said(machine, now_s + after_s)] == [Hello]
            machine.receive(Refused(LIVE, "full", "no space"), None, now_s + after_s)
        said(machine, now_s + 1.0)
        machine.receive(Welcome(LIVE, -1), None, now_s + 1.0)
        said(machine, now_s + 1.0)
        machine.receive(Ack(LIVE, 0), None, now_s + 1.0)
        machine.reconnected(now_s + 1.0)
    assert caplog.text.count("no space (full)") == 2


def test_rows_that_an_older_connection_brought_are_not_sent_again() -> None:
    machine = uplink(spool_of(live=6))
    said(machine)
    machine.receive(Welcome(LIVE, -1), None, 0.0)
    machine.receive(Ack(LIVE, 3), None, 0.0)
    assert [m.first for m in said(machine) if isinstance(m, Rows)] == [4]


def test_a_gateway_that_forgot_us_is_greeted_again_soon_and_without_a_complaint(
    caplog: pytest.LogCaptureFixture,
) -> None:
    machine = uplink(spool_of(live=1))
    said(machine)
    machine.receive(Welcome(LIVE, -1), None, 0.0)
    said(machine)
    machine.receive(Refused(LIVE, "hello", "who"), None, 1.0)
    assert [type(m) for m in said(machine, 1.2)] == [Hello]
    assert "refuses" not in caplog.text


def test_a_permit_remembers_up_to_which_row_it_was_counted() -> None:
    machine = uplink(spool_of(live=4))
    said(machine)
    machine.receive(Welcome(LIVE, 1), None, 0.0)
    machine.receive(Permit(LIVE, 50, 3), None, 0.0)
    assert machine.permits[LIVE] == (Permit(LIVE, 50, 3), 1)
    assert machine.gather_s == 0.0


def test_rows_wait_for_others_as_long_as_the_newest_permit_says() -> None:
    machine = uplink(spool_of(live=4))
    assert machine.gather_s == 0.0
    machine.receive(Permit(LIVE, 50, 3, gather_ms=300), None, 0.0)
    assert machine.gather_s == 0.3
    machine.receive(Permit(LIVE, 50, 3), None, 0.0)
    assert machine.gather_s == 0.0


class Link:
    """A machine, a spool, a gateway and what lies between them; each method is something that happens."""

    def __init__(self) -> None:
        self.spool, self.gateway = spool_of(old=3), MemoryGateway()
        self.machine, self.now_s, self.answers = uplink(self.spool), 0.0, list[Message]()

    def row(self) -> None:
        self.spool.rows[LIVE].append(row(len(self.spool.rows[LIVE])))
        self.spool.pending += 1

    def sync(self) -> None:
        self.spool.pending = 0

    def up(self) -> None:
        out = self.machine.next(self.now_s)
        if out is not None:
            self.machine.sent(self.now_s)
            self.answers += self.gateway.receive(*out)

    def lose(self) -> None:
        if self.machine.next(self.now_s) is not None:
            self.machine.sent(self.now_s)

    def commit(self) -> None:
        self.answers += self.gateway.commit()

    def down(self) -> None:
        if self.answers:
            self.machine.receive(self.answers.pop(0), None, self.now_s)

    def double(self) -> None:
        if self.answers:
            self.machine.receive(self.answers[0], None, self.now_s)

    def wait(self) -> None:
        self.now_s += 2.0

    def cut(self) -> None:
        self.answers.clear()
        self.machine.reconnected(self.now_s)

    def restart(self) -> None:
        self.answers.clear()
        self.gateway.restart()

    def full(self) -> None:
        self.gateway.code = None if self.gateway.code else "full"

    def drain(self) -> None:
        """A good link, for long enough."""
        self.gateway.code, self.spool.pending = None, 0
        for _ in range(1000):
            self.now_s += 0.5
            for _ in range(20):
                self.up()
            self.commit()
            while self.answers:
                self.down()
            if self.machine.done:
                return


EVENTS = st.sampled_from(
    ["row", "sync", "up", "up", "up", "lose", "commit", "commit", "down", "down", "wait", "cut", "restart", "double",
     "full"]
)  # fmt: skip


@pytest.mark.slow
@settings(max_examples=300, deadline=None)
@given(st.lists(EVENTS, max_size=80))
def test_whatever_happens_every_row_arrives_once_and_in_order(events: list[str]) -> None:
    link = Link()
    for event in events:
        link.now_s += 0.01
        getattr(link, event)()
    link.drain()
    assert link.machine.done
    held = {name: rows for name, rows in link.spool.rows.items() if rows}
    assert {name: rows for name, rows in link.gateway.rows.items() if rows} == held
    assert {n: c for n, c in link.machine.acknowledged.items() if c >= 0} == {n: len(r) - 1 for n, r in held.items()}


def test_the_spools_streams_are_looked_through_once_a_second_and_at_once_for_a_new_one() -> None:
    spool = MemorySpool(rows={LIVE: [row(0)]})
    looks: list[int] = []
    seen = spool.streams

    def look() -> dict[str, Schema]:
        looks.append(1)
        return seen()

    spool.streams = look  # type: ignore[method-assign]
    uplink = Uplink(spool, CONFIG, {})
    for n in range(100):
        uplink.serve("run", 1, LIVE, 10.0 + n / 100)
    assert len(looks) == 1
    spool.rows[OLD] = [row(0)]
    uplink.serve("run", 1, LIVE, 11.0)
    assert len(looks) == 2
    assert not uplink.done  # the older stream is found, and has a row to send
    uplink.serve("run", 1, "arm/b3/run", 11.01)
    assert len(looks) == 3
