"""Ingest: what the gateway does with each message of an edge, without a socket: messages in, answers out.

An edge says Hello per stream (`cell/boot/run`) and is told the last durable row; then it sends rows, which are checked,
appended and committed in groups; only what is committed is acknowledged. Whatever is refused is answered with a code,
once a second at most per stream, until the edge says Hello again. A full disk acknowledges nothing and forgets nothing.
"""

import logging
import math
from collections.abc import Callable
from contextlib import suppress

from cloud.arrived import Arrived, arrived_from
from cloud.episodes import EpisodeSum, EpisodeTally, online_steps
from cloud.gateway_config import MOST_GATHER_MS
from cloud.gateway_config import GatewayConfig as GatewayConfig
from cloud.quota import Quota
from cloud.row_checks import Refusal as Refusal
from cloud.row_checks import find_problem as find_problem
from cloud.row_checks import read_schema
from cloud.sessions import Session, Sessions
from cloud.shards.share import Elsewhere, always_ours, check_left, fenced
from user_rl.channels import Received
from user_rl.clock import Clock
from user_rl.errors import ConfigError, SchemaMismatch, StorageFull, WireError
from user_rl.log import Log
from user_rl.row_head import head_of
from user_rl.rows import Klass, Schema
from user_rl.wire import (
    UNLIMITED,
    Ack,
    Hello,
    Message,
    Permit,
    Refused,
    RefusedCode,
    Rows,
    Welcome,
    decode,
    digest,
)

log = logging.getLogger(__name__)

Answer = tuple[bytes, Message]  # the peer and what it is told
REFUSE_AGAIN_S = 1.0
LOG_AGAIN_S = 60.0


class Ingest:
    """The sessions of one run, and the log that their rows go to. One owner, no lock."""

    def __init__(
        self, run: str, log_: Log, config: GatewayConfig, *,
        tokens: Callable[[str], int | None], demonstrations: int, clock: Clock, schema: Schema | None = None,
    ) -> None:  # fmt: skip
        """`schema`: the run's, if it is known already; else that of the log, else the first robot's."""
        self._run, self._log, self._config, self._tokens, self._clock = run, log_, config, tokens, clock
        self.total_rows: int | None = None  # online rows that the run may hold; None: no limit
        self.online_rows, self.rows, self.bytes, self.refused = 0, 0, 0, 0
        self.full = False
        self.quota = Quota(demonstrations)
        self.opens_at: Callable[[str], int | None] = always_ours  # from which step on this shard takes a stream
        self._elsewhere = Elsewhere()
        self._sessions = Sessions()
        self._commit_took_s = 0.0
        self._dirty: set[str] = set()
        self._pending_bytes, self._pending_since_s, self._retry_s = 0, 0.0, 0.0
        self._pending_online = 0
        self._pending_closed: list[tuple[str, EpisodeSum]] = []
        self._told_s: dict[tuple[bytes, str], float] = {}
        self._said_s: dict[tuple[str, str], float] = {}
        self._tally = EpisodeTally()
        self.schema = schema or next((s for n, s in log_.streams().items() if n.endswith(f"/{run}")), None)
        self._count_log()

    @property
    def cells(self) -> list[str]:
        """The cells that can be reached now."""
        return sorted({s.cell for s in self._sessions.all() if s.lost_s is None})

    @property
    def pending(self) -> bool:
        """Whether rows wait for a commit."""
        return bool(self._dirty)

    def receive(self, received: Received) -> list[Answer]:
        """Takes one message; never raises for what a peer can do."""
        try:
            message, payloads = decode(received.frames)
            if isinstance(message, Hello):
                return self._hello(received.peer, received.user, message)
            if isinstance(message, Rows):
                return self._rows(received.peer, message, payloads[0])
            raise WireError(f"{type(message).__name__} at the experience socket, allowed Hello and Rows; drop it")
        except Refusal as refusal:
            return self._refuse(received, refusal.stream, refusal.code, str(refusal))
        except WireError as error:
            return self._refuse(received, "", "malformed", str(error))

    def commit_is_due(self, *, idle: bool) -> bool:
        """Whether to commit now: nothing more is waiting, or the group is large or old enough."""
        now_s = self._clock.now_s()
        if not self._dirty or now_s < self._retry_s or self._log.wait_s() > 0:
            return False
        waited_s = now_s - self._pending_since_s
        if self._pending_bytes >= self._config.group_bytes or waited_s >= self._group_s:
            return True
        return idle and self._small_wait_s() == 0

    def wait_s(self) -> float:
        """How long to wait for the next message: not at all while a commit would make rows durable."""
        tick_s = self._config.tick_s
        return min(tick_s, max(self._log.wait_s(), self._small_wait_s())) if self._dirty and not self.full else tick_s

    @property
    def _group_s(self) -> float:
        """How old a group may be: one of many streams may be older, for its commit costs much more than a row."""
        config = self._config
        return max(config.crowd_s, config.group_s) if len(self._dirty) >= config.crowd else config.group_s

    def _small_wait_s(self) -> float:
        """How long a small group still gathers: many streams then share a commit, and one alone hardly waits."""
        crowded = len(self._dirty) >= self._config.crowd
        if self._pending_bytes >= self._config.small_group_bytes and not crowded:
            return 0.0
        longest_s = self._group_s if crowded else min(self._commit_took_s, self._group_s)
        return max(0.0, self._pending_since_s + longest_s - self._clock.now_s())

    def commit(self, *, at_once: bool = False) -> list[Answer]:
        """One durable group commit and its acknowledgements; on a full disk a refusal, and all stays pending.

        The log may let rows wait for the rest of their group, unless `at_once`; they are then neither acknowledged nor
        counted.
        """
        start_s = self._clock.now_s()
        try:
            moved = self._log.sync() if at_once else self._log.commit()
        except StorageFull as error:
            return self._now_full(error)
        self._commit_took_s = self._clock.now_s() - start_s
        there = self._sessions.of(sorted(moved))
        answers: list[Answer] = [(session.peer, Ack(session.stream, moved[session.stream])) for session in there]
        if self._log.pending:
            return answers
        self._dirty, self._pending_bytes = set(), 0
        self.online_rows += self._pending_online  # a permit counts what its cursor covers, no more
        self._count(self._pending_closed)
        self._pending_online, self._pending_closed = 0, []
        return answers + self._space_again() + self.permits()

    def share(self, elsewhere: Elsewhere) -> None:
        """What the other shards have by now."""
        self._elsewhere, self.quota.elsewhere = elsewhere, elsewhere.shown

    def fence(self, cell: str) -> tuple[dict[str, int], int]:
        """The last durable step of each of the cell's streams, and the log's newest commit: nothing more comes.

        For a cell that `opens_at` gives to this shard no longer. Raises StorageFull while rows of it wait for a commit.
        """
        streams = [s for s in self._log.streams() if s.startswith(f"{cell}/") and s.endswith(f"/{self._run}")]
        check_left(streams, self.opens_at)
        self.commit(at_once=True)  # who was not told asks again, elsewhere
        found = fenced(self._log, streams)
        for stream in streams:
            self._sessions.drop(stream)
        return found

    def permits(self) -> list[Answer]:
        """The permits that changed since they were last sent; forgets peers that were lost for long."""
        now_s, share, gather_ms = self._clock.now_s(), self._share(), self._gather_ms()
        changed: list[Answer] = []
        for session in self._sessions.all():
            if session.lost_s is not None and now_s - session.lost_s > self._config.lost_after_s:
                self._sessions.drop(session.stream)
                continue
            permit = self._permit(session, share, gather_ms)
            if permit != session.permit:
                session.permit = permit
                changed.append((session.peer, permit))
        return changed

    def delivered(self, peer: bytes, ok: bool) -> None:
        """What became of an answer to `peer`."""
        for session in self._sessions.of_peer(peer):
            if ok:
                session.lost_s = None
            else:
                session.permit = None  # to be sent again
                session.lost_s = self._clock.now_s() if session.lost_s is None else session.lost_s

    def _hello(self, peer: bytes, user: str, hello: Hello) -> list[Answer]:
        schema = self._check_hello(user, hello)
        first = self._first_of(hello.stream)
        answers = self.commit(at_once=True) if self._dirty and not self.full else []
        if self.full:
            full = Refused(hello.stream, "full", "the cloud's disk is full; say Hello again in a second")
            return [*answers, (peer, full)]
        try:
            cursor = self._log.open_stream(hello.stream, schema)
        except (SchemaMismatch, ConfigError) as error:  # a codec that its fields cannot have
            raise Refusal(hello.stream, "schema", str(error)) from error
        self.schema = self.schema or schema
        if first > cursor + 1:
            cursor = first - 1  # what comes before it is at another shard
            answers += self._skip(hello.stream, cursor)
        if hello.first_kept > cursor + 1:
            cursor = hello.first_kept - 1
            answers += self._note_gap(hello.stream, cursor)
        cell = hello.stream.partition("/")[0]
        session = Session(hello.stream, peer, cell, schema, hello.log_id, hello.epoch, hello.token)
        if self.full:
            return [*answers, (peer, Refused(hello.stream, "full", "the cloud's disk is full; say Hello again"))]
        self._sessions.put(session)
        return [*answers, (peer, Welcome(hello.stream, cursor)), *self.permits()]

    def _note_gap(self, stream: str, last: int) -> list[Answer]:
        log.warning("%s: rows %d to %d are nowhere; noted as a gap", stream, self._log.synced(stream) + 1, last)
        return self._skip(stream, last)

    def _first_of(self, stream: str) -> int:
        """From which step on this shard takes the stream."""
        first = self.opens_at(stream)
        if first is None:
            raise Refusal(stream, "moved", f"{stream} is not this shard's own; the fleet says where it goes")
        return first

    def _skip(self, stream: str, last: int) -> list[Answer]:
        """Lets the stream go on behind step `last`."""
        first = self._log.synced(stream) + 1
        with suppress(StorageFull):  # it waits, and the commit says so
            self._log.append_gap(stream, first, last)
        self._dirty.add(stream)
        self._sessions.drop(stream)
        return self.commit(at_once=True)

    def _check_hello(self, user: str, hello: Hello) -> Schema:
        cell, _, rest = hello.stream.partition("/")
        boot, _, run = rest.partition("/")
        if user != f"edge:{cell}" or not boot:
            text = f"stream {hello.stream} from {user}, allowed edge:{cell} alone; enrol the cell"
            raise Refusal(hello.stream, "identity", text)
        if run != self._run:
            text = f"rows of run {run}, allowed {self._run}; send them to their own gateway"
            raise Refusal(hello.stream, "run", text)
        self._check_lease(cell, hello)
        schema = read_schema(hello)
        if self.schema is not None and schema.digest != self.schema.digest:
            text = f"schema {schema.digest}, allowed {self.schema.digest}, the run's first; configure the cell like it"
            raise Refusal(hello.stream, "schema", text)
        return schema

    def _check_lease(self, cell: str, hello: Hello) -> None:
        token, known = self._tokens(cell), self._sessions.get(hello.stream)
        if token is None:
            raise Refusal(hello.stream, "identity", f"{cell} has no lease of run {self._run}; lease it, then say Hello")
        if hello.token < token:
            raise Refusal(hello.stream, "identity", f"lease token {hello.token} of {cell}, allowed {token}; lease anew")
        if known is not None and known.log_id == hello.log_id and hello.epoch < known.epoch:
            text = f"writer epoch {hello.epoch}, allowed {known.epoch}; another process took over this spool"
            raise Refusal(hello.stream, "identity", text)

    def _rows(self, peer: bytes, rows: Rows, payload: memoryview) -> list[Answer]:
        session = self._sessions.get(rows.stream)
        if session is None or session.peer != peer or session.behind:
            raise Refusal(rows.stream, "hello", f"{rows.stream} must say Hello before it sends rows")
        if self.full:
            session.behind = True  # told by "full" already, and asked for Hello when there is space
            return []
        try:
            arrived = self._check_rows(session, rows, payload)
        except Refusal:
            session.behind = True
            raise
        session.lost_s = None
        appended = self._log.appended(rows.stream)
        if rows.first + rows.count - 1 <= appended:
            return [(peer, Ack(rows.stream, self._log.synced(rows.stream)))]
        self._append(session, arrived.after(appended + 1 - rows.first))
        return []

    def _check_rows(self, session: Session, rows: Rows, payload: memoryview) -> Arrived:
        self._first_of(rows.stream)
        if digest(payload) != rows.digest:
            text = f"rows {rows.first} to {rows.first + rows.count - 1} changed on the way; send them again"
            raise Refusal(rows.stream, "digest", text)
        expected = self._log.appended(rows.stream) + 1
        if rows.first > expected:
            text = f"rows from {rows.first}, allowed {expected}; say Hello and send what follows"
            raise Refusal(rows.stream, "order", text)
        arrived = arrived_from(rows, payload, session.schema)
        records = arrived.head
        if problem := find_problem(records, rows.first, self._run):
            raise Refusal(rows.stream, "malformed", f"{rows.stream} {problem}")
        newest = max(session.token, self._tokens(session.cell) or 0)
        token = head_of(records).token if len(records) == 1 else int(records["token"].max())
        if token > newest:
            text = f"lease token {token} in a row, allowed up to {newest}; say Hello with it"
            raise Refusal(rows.stream, "hello", text)
        return arrived

    def _append(self, session: Session, arrived: Arrived) -> None:
        records = arrived.head
        if not self._dirty:
            self._pending_since_s = self._clock.now_s()
        with suppress(StorageFull):  # a log that commits each: the rows wait, and the next commit says so
            arrived.append_to(self._log, session.stream)
        self._dirty.add(session.stream)
        self._pending_bytes += arrived.nbytes
        self.rows += len(records)
        self.bytes += arrived.nbytes
        self._pending_online += online_steps(records)
        self._pending_closed += [(session.stream, e) for e in self._tally.add(session.stream, records)]

    def _count(self, closed: list[tuple[str, EpisodeSum]]) -> None:
        for stream, episode in closed:
            self.quota.add(stream, episode)

    def _count_log(self) -> None:
        self.online_rows += self._log.gone().steps  # the run has done them, and the learner counts them too
        for episode in self._log.episodes():
            steps = episode.length + (not episode.closed)  # an open one has no LAST row
            known = EpisodeSum(
                episode=episode.episode, klass=episode.klass, length=steps,
                success=episode.success, closed=episode.closed,
            )  # fmt: skip
            self.online_rows += steps if episode.klass == Klass.ONLINE else 0
            if episode.closed:
                self._count([(episode.stream, known)])
            else:
                self._tally.resume(episode.stream, known)

    def _share(self) -> int | None:
        """How many more online rows each cell may record; None: any number."""
        if self.total_rows is None:
            return None
        cells, rows = len(self.cells) + self._elsewhere.cells, self.online_rows + self._elsewhere.online_rows
        return math.ceil(max(0, self.total_rows - rows) / max(1, cells))

    def _gather_ms(self) -> int:
        """How long the cells' rows may wait to travel together, longer the more there are; a few are served at once."""
        config, cells = self._config, len(self.cells)
        if cells <= config.gather_cells:
            return 0
        return min(MOST_GATHER_MS, cells // config.gather_cells * config.gather_ms)

    def _permit(self, session: Session, share: int | None, gather_ms: int) -> Permit:
        last = UNLIMITED if share is None else self._log.synced(session.stream) + share
        return Permit(session.stream, last, self.quota.still_wanted(session.stream), gather_ms)

    def _now_full(self, error: StorageFull) -> list[Answer]:
        self._retry_s = self._clock.now_s() + self._config.retry_s
        if self.full:
            return []
        self.full = True
        log.error("nothing is acknowledged until there is space: %s", error)
        there = self._sessions.of(sorted(self._dirty))
        return [(s.peer, Refused(s.stream, "full", str(error))) for s in there]

    def _space_again(self) -> list[Answer]:
        if not self.full:
            return []
        self.full = False
        log.info("there is space again; what was pending is durable")
        text = "there is space again; say Hello"
        return [(s.peer, Refused(s.stream, "hello", text)) for s in self._sessions.all() if s.behind]

    def _refuse(self, received: Received, stream: str, code: RefusedCode, text: str) -> list[Answer]:
        self.refused += 1
        now_s = self._clock.now_s()
        if now_s >= self._said_s.get((received.user, code), now_s):
            self._said_s[received.user, code] = now_s + LOG_AGAIN_S
            log.warning("refused %s (%s): %s", received.user, code, text)
        key = (received.peer, stream)
        if code == "hello" and now_s < self._told_s.get(key, now_s):
            return []
        if len(self._told_s) > 10_000:
            self._told_s.clear()
        self._told_s[key] = now_s + REFUSE_AGAIN_S
        return [(received.peer, Refused(stream, code, text[:2000]))]
