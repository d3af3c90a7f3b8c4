"""The gateway: the cloud's sockets. Experience comes in and is acknowledged when durable, weights go out in parts, late
labels come in.

Each socket has its own context and thread, so bulk weights never delay an acknowledgement, nor bulk rows a ping. The
sockets are bound at construction: the addresses are known before `run` begins, which serves until `stop` and then
closes everything.
"""

import logging
import threading
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import msgspec

from cloud.inference.guests import INFERENCE, guests_of
from cloud.ingest import Answer, Ingest
from cloud.ingest import GatewayConfig as GatewayConfig
from cloud.label_door import LabelDoor, LogQuestions
from cloud.live_door import LiveDoor
from cloud.piece_door import PieceDoor
from cloud.schema_file import keep_schema, kept_schema
from cloud.shards.share import Elsewhere
from cloud.weights import WeightStore
from user_rl.channels import Allowed, ChannelConfig, Received, ServerChannel
from user_rl.clock import Clock
from user_rl.errors import StorageError, WireError
from user_rl.fleet import Doors
from user_rl.log import Log
from user_rl.log.upkeep import Upkeep
from user_rl.trust import CurveKeys
from user_rl.wire import (
    TOO_MUCH,
    Guests,
    GuestsQuery,
    Message,
    Refused,
    WeightsOffer,
    WeightsPart,
    WeightsQuery,
    WeightsRange,
    decode,
    encode,
)

log = logging.getLogger(__name__)

BURST = 64  # messages taken between two looks at the commit


class Gateway:
    """One run's door. `run` in one thread; `stop`, `status` and `set_permit` from any."""

    def __init__(
        self, run: str, log_: Log, weights: Path, config: GatewayConfig, *,
        keys: CurveKeys, allowed: Allowed, tokens: Callable[[str], int | None], demonstrations: int, clock: Clock,
    ) -> None:  # fmt: skip
        """Raises ConfigError when a port is in use. `tokens`: a cell's current lease token, None: it has no lease."""
        self._config, self._clock = config, clock
        self._ingest = Ingest(
            run,
            log_,
            config,
            tokens=tokens,
            demonstrations=demonstrations,
            clock=clock,
            schema=kept_schema(weights.parent),
        )
        self._upkeep = Upkeep(log_, clock, verify_hours=config.verify_hours)
        self._root, self._kept = weights.parent, self._ingest.schema
        channel = ServerChannel(
            f"tcp://{config.host}:{config.port}", keys, allowed, config=ChannelConfig(limits=config.limits),
            complaint=TOO_MUCH,
        )  # fmt: skip
        self._experience = PieceDoor(channel, clock)
        with ExitStack() as undo:
            undo.callback(self._experience.close)
            self._weights = WeightsDoor(
                run, WeightStore(weights), config, keys=keys, allowed=allowed, tokens=tokens
            )  # fmt: skip
            undo.callback(self._weights.close)
            self._questions = LogQuestions(log_)
            self._labels = LabelDoor(
                weights.parent, run, self._questions, config, keys=keys, allowed=allowed, clock=clock
            )  # fmt: skip
            undo.callback(self._labels.close)
            self._live = LiveDoor(weights.parent, config, keys=keys, allowed=allowed, clock=clock)
            undo.pop_all()
        self.experience_address, self.weights_address = self._experience.address, self._weights.address
        self.labels_address, self._takes_labels = self._labels.address, True
        self.live_address = self._live.address
        self._stopping = threading.Event()
        self._permits_s = 0.0  # when to look at them next

    @property
    def doors(self) -> Doors:
        """Where edges find it."""
        return Doors(experience=self.experience_address, weights=self.weights_address, live=self.live_address)

    def run(self) -> None:
        """Serves until `stop`, then closes the sockets, not the log. What was not acknowledged is sent again."""
        served = {"weights": self._weights.run, "live": self._live.run}
        served |= {"labels": self._labels.run} if self._takes_labels else {}
        doors = [threading.Thread(target=run, name=name, daemon=True) for name, run in served.items()]
        for door in doors:
            door.start()
        log.info("gateway: experience at %s, weights at %s", self.experience_address, self.weights_address)
        try:
            while not self._stopping.is_set():
                self._serve()
        finally:
            self._weights.stop()
            self._labels.stop()
            if not self._takes_labels:
                self._labels.close()
            self._live.stop()
            while any(door.is_alive() for door in doors):
                self._questions.answer()
                for door in doors:
                    door.join(self._config.tick_s)
            self._experience.close()
            self._upkeep.close()

    def stop(self) -> None:
        """Ends `run` within a tick."""
        self._stopping.set()

    def set_permit(self, total_online_rows: int | None) -> None:
        """How many online rows the run may hold; None: no limit. Told to the edges with the next tick."""
        self._ingest.total_rows = total_online_rows

    def be_shard(self, opens_at: Callable[[str], int | None], *, takes_labels: bool) -> None:
        """One of several gateways of the run, one of which takes labels; `opens_at`: see Ingest. Before `run`."""
        self._ingest.opens_at, self._takes_labels = opens_at, takes_labels

    def share(self, elsewhere: Elsewhere) -> None:
        """What the run's other shards have by now."""
        self._questions.ask(lambda: self._ingest.share(elsewhere))

    def fence(self, cell: str) -> tuple[dict[str, int], int]:
        """See Ingest.fence; while `run` serves."""
        return self._questions.ask(lambda: self._ingest.fence(cell))

    def share_demonstrations(self, each: int | None) -> None:
        """How many of the demonstrations one cell records; None: whoever comes first. Before `run`."""
        self._ingest.quota.each = each

    def status(self) -> dict[str, Any]:
        """Counters: what came, what was refused, who is there."""
        ingest = self._ingest
        return {
            "rows": ingest.rows, "bytes": ingest.bytes, "refused": ingest.refused + self._experience.refused,
            "online_rows": ingest.online_rows, "demonstrations": ingest.quota.shown, "cells": ingest.cells,
            "shown": ingest.quota.shown_by_cell, "disk_full": ingest.full, "limited": self._experience.limited,
            "weights_bytes": self._weights.bytes, "labels": dict(self._labels.counts),
        }  # fmt: skip

    def _keep_schema(self) -> None:
        if self._ingest.schema is not self._kept and self._ingest.schema is not None:
            try:
                keep_schema(self._root, self._ingest.schema)
            except OSError as error:  # the log says so, too; the next message tries again
                log.error("%s: %s; free some space", self._root, error)
                return
            self._kept = self._ingest.schema

    def _serve(self) -> None:
        """Takes a burst of messages, commits when it is time, tells the permits that changed."""
        self._questions.answer()
        wait_s = self._ingest.wait_s()
        for _ in range(BURST):
            received = self._experience.receive(wait_s)
            if received is None:
                break
            self._answer(self._ingest.receive(received))
            self._keep_schema()
            if self._ingest.commit_is_due(idle=False):
                break
            wait_s = 0.0
        if self._ingest.commit_is_due(idle=received is None):
            self._answer(self._ingest.commit())
        now_s = self._clock.now_s()
        if now_s >= self._permits_s:  # a look at every session, so not after every burst
            self._permits_s = now_s + self._config.tick_s
            self._answer(self._ingest.permits())
        self._upkeep.step()

    def _answer(self, answers: list[Answer]) -> None:
        for peer, message in answers:
            self._ingest.delivered(peer, self._experience.send(peer, encode(message)))


class WeightsDoor:
    """The weights socket: which version is offered, and parts of its file. A cell reads while the run has it leased.

    A server that infers reads, too, and asks here whom it may answer.
    """

    def __init__(
        self, run: str, store: WeightStore, config: GatewayConfig, *,
        keys: CurveKeys, allowed: Allowed, tokens: Callable[[str], int | None],
    ) -> None:  # fmt: skip
        self._run, self._store, self._config, self._tokens = run, store, config, tokens
        self._allowed = allowed
        self._channel = ServerChannel(
            f"tcp://{config.host}:{config.weights_port}", keys, allowed, config=ChannelConfig(limits=config.limits),
            complaint=TOO_MUCH,
        )  # fmt: skip
        self.address = self._channel.address
        self.bytes = 0
        self._stopping = threading.Event()

    def run(self) -> None:
        """Serves until `stop`, then closes the socket."""
        try:
            while not self._stopping.is_set():
                received = self._channel.receive(self._config.tick_s)
                if received is not None:
                    self._channel.send(received.peer, self._reply(received))
        finally:
            self._channel.close()

    def stop(self) -> None:
        """Ends `run` within a tick."""
        self._stopping.set()

    def close(self) -> None:
        """Closes the socket of a door that never ran."""
        self._channel.close()

    def _reply(self, received: Received) -> list[bytes | memoryview]:
        try:
            return self._answer(received.user, decode(received.frames)[0])
        except WireError as error:
            log.warning("refused %s at the weights socket: %s", received.user, error)
            return encode(Refused("", "malformed", str(error)[:2000]))
        except StorageError as error:
            return encode(Refused("", "order", str(error)[:2000]))

    def _answer(self, user: str, message: Message) -> list[bytes | memoryview]:
        if not isinstance(message, WeightsQuery | WeightsRange | GuestsQuery):
            raise WireError(f"{type(message).__name__} at the weights socket, allowed WeightsQuery and WeightsRange")
        if message.run != self._run:
            return encode(Refused("", "run", f"weights of run {message.run}, allowed {self._run}; ask its own gateway"))
        if isinstance(message, GuestsQuery):
            if not user.startswith(INFERENCE):
                text = f"the guests of {self._run} are not for {user}, allowed {INFERENCE}NAME; enrol it so"
                return encode(Refused("", "identity", text))
            return encode(Guests(guests_of(self._allowed, self._tokens)))
        if not self._may_read(user):
            text = f"weights for {user}, allowed the cells that {self._run} has leased, itself and admins; lease it"
            return encode(Refused("", "identity", text))
        if isinstance(message, WeightsQuery):
            offered = self._store.offered(anchor=message.have == 0)
            fresh = offered is not None and offered.number > message.have
            return encode(WeightsOffer(msgspec.json.encode(offered) if fresh else b""))
        length = min(message.length, self._config.part_bytes)
        data, total = self._store.read(message.number, message.offset, length)
        self.bytes += len(data)
        return encode(WeightsPart(message.number, message.offset, total), data)

    def _may_read(self, user: str) -> bool:
        """Whether it is a cell that the run has leased now, an inference server, the run itself or an admin."""
        kind, _, name = user.partition(":")
        if kind == "edge":
            return self._tokens(name) is not None
        return user == f"run:{self._run}" or kind in ("admin", "inference")
