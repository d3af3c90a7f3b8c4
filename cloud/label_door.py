"""The labels socket of a gateway: late values come in, each gets its verdict, and what is written is durable.

It has its own context, thread and columns; only the question which rows the log has is put to the log's own thread.
`labeller:NAME` writes columns of the writer NAME alone, an admin and the run itself all; an edge writes none.
"""

import logging
import queue
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from pathlib import Path
from typing import Any, TypeVar

import msgspec

from cloud.ingest import GatewayConfig, Refusal
from cloud.run import write_json
from user_rl.channels import Allowed, ChannelConfig, Received, ServerChannel
from user_rl.clock import Clock
from user_rl.columns import Column, Columns, Holdings, Verdict
from user_rl.columns.entry import unpack
from user_rl.columns.spec import check_column
from user_rl.errors import SpecError, StorageError, StorageFull, Unreachable, WireError
from user_rl.log import Chunk, Episode, Log
from user_rl.rows import Schema
from user_rl.trust import CurveKeys
from user_rl.wire import TOO_MUCH, Label, Labelled, Limits, Message, Refused, decode, digest, encode

log = logging.getLogger(__name__)

T = TypeVar("T")
PAYLOAD_BYTES = 2**21  # of one message, at most
LIMITS = Limits(header_bytes=2**16, payload_bytes=PAYLOAD_BYTES)
ROWS = 65_536  # in one message, at most
ASK_S = 10.0  # for the log's thread
PRUNE_S = 600.0
ADDRESS = "labels.json"  # in the run's folder: where to ask


class LogQuestions:
    """A log that another thread may ask, answered by the thread that owns it. See user_rl.columns.holdings.Source."""

    def __init__(self, log_: Log) -> None:
        self._log = log_
        self._asked: queue.SimpleQueue[tuple[Callable[[], Any], Future[Any]]] = queue.SimpleQueue()

    def answer(self) -> None:
        """Answers what was asked; call it often, in the log's thread."""
        while not self._asked.empty():
            question, future = self._asked.get()
            if not future.set_running_or_notify_cancel():
                continue
            try:
                future.set_result(question())
            except StorageError as error:
                future.set_exception(error)

    def streams(self) -> dict[str, Schema]:
        return self.ask(self._log.streams)

    def synced(self, stream: str) -> int:
        return self.ask(lambda: self._log.synced(stream))

    def episodes(self) -> list[Episode]:
        return self.ask(self._log.episodes)

    def read(self, stream: str, first: int, max_bytes: int) -> Sequence[Chunk]:
        return self.ask(lambda: self._log.read(stream, first, max_bytes))

    def ask(self, question: Callable[[], T]) -> T:
        """What `question` says in the log's thread."""
        future: Future[T] = Future()
        self._asked.put((question, future))
        try:
            return future.result(ASK_S)
        except TimeoutError as error:
            future.cancel()
            raise Unreachable(f"the log's thread has not answered for {ASK_S:g} s; label again later") from error


class LabelDoor:
    """The labels socket. `run` in one thread; `stop` and `counts` from any."""

    def __init__(
        self, folder: Path, run: str, questions: LogQuestions, config: GatewayConfig, *,
        keys: CurveKeys, allowed: Allowed, clock: Clock,
    ) -> None:  # fmt: skip
        """`folder`: the run's. Raises ConfigError when the port is in use."""
        self._folder, self._run_name, self._config, self._clock = folder, run, config, clock
        self._holdings = Holdings(questions, clock=clock)
        bounds = ChannelConfig(max_frame_bytes=PAYLOAD_BYTES, queue=8, limits=config.limits)
        self._channel = ServerChannel(
            f"tcp://{config.host}:{config.labels_port}", keys, allowed, config=bounds, complaint=TOO_MUCH
        )  # fmt: skip
        self.address = self._channel.address
        self.counts: dict[str, int] = {}  # by verdict
        self.refused = 0  # messages
        self._columns: Columns | None = None
        self._pruned_s = clock.now_s()
        self._stopping = threading.Event()

    def run(self) -> None:
        """Serves until `stop`, then closes the socket and gives the columns back."""
        self._tell_address()
        try:
            while not self._stopping.is_set():
                received = self._channel.receive(self._config.tick_s)
                if received is not None:
                    self._channel.send(received.peer, encode(self._reply(received)))
        finally:
            self._channel.close()
            self._give_back()

    def stop(self) -> None:
        """Ends `run` within a tick."""
        self._stopping.set()

    def close(self) -> None:
        """Closes the socket of a door that never ran."""
        self._channel.close()

    def _tell_address(self) -> None:
        try:
            write_json(self._folder / ADDRESS, {"labels": self.address})
        except OSError as error:
            log.error("%s is not written: %s; free some space, then start the run again", ADDRESS, error)

    def _reply(self, received: Received) -> Message:
        try:
            message, payloads = decode(received.frames, LIMITS)
            if not isinstance(message, Label):
                raise WireError(f"{type(message).__name__} at the labels socket, allowed Label; drop it")
            return self._label(received.user, message, payloads[0])
        except Refusal as refusal:
            return self._refused(received.user, refusal.stream, refusal.code, str(refusal))
        except WireError as error:
            return self._refused(received.user, "", "malformed", str(error))

    def _refused(self, user: str, stream: str, code: Any, text: str) -> Refused:  # noqa: ANN401  # a RefusedCode
        self.refused += 1
        log.warning("refused labels of %s (%s): %s", user, code, text)
        return Refused(stream, code, text[:2000])

    def _label(self, user: str, label: Label, payload: memoryview) -> Labelled:
        column = self._checked(user, label)
        if digest(payload) != label.digest:
            raise Refusal(label.stream, "digest", "the values changed on the way; send them again")
        ids, values = unpack(column, payload)
        if len(ids) > ROWS:
            raise Refusal(label.stream, "malformed", f"{len(ids)} values, allowed {ROWS}; send them in parts")
        try:
            columns = self._taken()
            identity = columns.add(column).identity
            verdicts = columns.write(identity, label.stream, ids, values)
            seq = columns.commit().get(identity, 0)
        except SpecError as error:
            raise Refusal(label.stream, "column", str(error)) from error
        except StorageFull as error:
            raise Refusal(label.stream, "full", str(error)) from error
        except (StorageError, Unreachable) as error:
            raise Refusal(label.stream, "busy", str(error)) from error
        self.counts = {verdict.name.lower(): columns.counts[verdict] for verdict in Verdict}
        return Labelled(identity, seq, verdicts.tobytes())

    def _checked(self, user: str, label: Label) -> Column:
        run = self._run_name
        if label.run != run:
            raise Refusal(label.stream, "run", f"labels of run {label.run}, allowed {run}; ask its own gateway")
        try:
            column = check_column(msgspec.json.decode(label.column, type=Column))
        except (msgspec.MsgspecError, SpecError) as error:
            raise Refusal(label.stream, "column", f"a column that cannot be: {error}") from error
        if user not in (f"run:{run}", f"labeller:{column.writer}") and not user.startswith("admin:"):
            text = f"{column.identity} from {user}, allowed labeller:{column.writer}, run:{run} and admins; enrol it so"
            raise Refusal(label.stream, "identity", text)
        return column

    def _taken(self) -> Columns:
        """The columns, from the first label on: until then a labeller on this machine may take them itself."""
        now_s = self._clock.now_s()
        if self._columns is None:
            self._columns = Columns(self._folder / "columns", self._holdings)
            self._pruned_s = now_s - PRUNE_S
        if now_s - self._pruned_s >= PRUNE_S:
            self._pruned_s = now_s
            self._columns.prune()
        return self._columns

    def _give_back(self) -> None:
        if self._columns is not None:
            self._columns.close()
            self._columns = None
