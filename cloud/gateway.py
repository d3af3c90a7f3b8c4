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

from cloud.ingest import Answer, Ingest
from cloud.ingest import GatewayConfig as GatewayConfig
from cloud.label_door import LabelDoor, LogQuestions
from cloud.live_door import LiveDoor
from cloud.piece_door import PieceDoor
from cloud.schema_file import keep_schema, kept_schema
from cloud.weights import WeightStore
from user_rl.channels import Allowed, Received, ServerChannel
from user_rl.clock import Clock
from user_rl.errors import StorageError, WireError
from user_rl.fleet import Doors
from user_rl.log import Log
from user_rl.log.upkeep import Upkeep
from user_rl.trust import CurveKeys
from user_rl.wire import Message, Refused, WeightsOffer, WeightsPart, WeightsQuery, WeightsRange, decode, encode

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
        self._experience = PieceDoor(ServerChannel(f"tcp://{config.host}:{config.port}", keys, allowed), clock)
        with ExitStack() as undo:
            undo.callback(self._experience.close)
            self._weights = WeightsDoor(run, WeightStore(weights), config, keys=keys, allowed=allowed)
            undo.callback(self._weights.close)
            self._questions = LogQuestions(log_)
            self._labels = LabelDoor(
                weights.parent, run, self._questions, config, keys=keys, allowed=allowed, clock=clock
            )  # fmt: skip
            undo.callback(self._labels.close)
            self._live = LiveDoor(weights.parent, config, keys=keys, allowed=allowed, clock=clock)
            undo.pop_all()
        self.experience_address, self.weights_address = self._experience.address, self._weights.address
        self.labels_address, self.live_address = self._labels.address, self._live.address
        self._stopping = threading.Event()

    @property
    def doors(self) -> Doors:
        """Where edges find it."""
        return Doors(experience=self.experience_address, weights=self.weights_address, live=self.live_address)

    def run(self) -> None:
        """Serves until `stop`, then closes the sockets, not the log. What was not acknowledged is sent again."""
        doors = [
            threading.Thread(target=self._weights.run, name="weights", daemon=True),
            threading.Thread(target=self._labels.run, name="labels", daemon=True),
            threading.Thread(target=self._live.run, name="live", daemon=True),
        ]
        for door in doors:
            door.start()
        log.info("gateway: experience at %s, weights at %s", self.experience_address, self.weights_address)
        try:
            while not self._stopping.is_set():
                self._serve()
        finally:
            self._weights.stop()
            self._labels.stop()
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

    def share_demonstrations(self, each: int | None) -> None:
        """How many of the demonstrations one cell records; None: whoever comes first. Before `run`."""
        self._ingest.quota.each = each

    def status(self) -> dict[str, Any]:
        """Counters: what came, what was refused, who is there."""
        ingest = self._ingest
        return {
            "rows": ingest.rows, "bytes": ingest.bytes, "refused": ingest.refused + self._experience.refused,
            "online_rows": ingest.online_rows, "demonstrations": ingest.quota.shown, "cells": ingest.cells,
            "disk_full": ingest.full, "weights_bytes": self._weights.bytes, "labels": dict(self._labels.counts),
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
        received = self._experience.receive(self._ingest.wait_s())
        idle = received is None
        for _ in range(BURST):
            if received is None:
                break
            self._answer(self._ingest.receive(received))
            self._keep_schema()
            if self._ingest.commit_is_due(idle=False):
                break
            received = self._experience.receive(0.0)
        if self._ingest.commit_is_due(idle=idle or received is None):
            self._answer(self._ingest.commit())
        self._answer(self._ingest.permits())
        self._upkeep.step()

    def _answer(self, answers: list[Answer]) -> None:
        for peer, message in answers:
            self._ingest.delivered(peer, self._experience.send(peer, encode(message)))


class WeightsDoor:
    """The weights socket: which version is newest, and parts of its file."""

    def __init__(
        self, run: str, store: WeightStore, config: GatewayConfig, *, keys: CurveKeys, allowed: Allowed
    ) -> None:
        self._run, self._store, self._config = run, store, config
        self._channel = ServerChannel(f"tcp://{config.host}:{config.weights_port}", keys, allowed)
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
            return self._answer(decode(received.frames)[0])
        except WireError as error:
            log.warning("refused %s at the weights socket: %s", received.user, error)
            return encode(Refused("", "malformed", str(error)[:2000]))
        except StorageError as error:
            return encode(Refused("", "order", str(error)[:2000]))

    def _answer(self, message: Message) -> list[bytes | memoryview]:
        if not isinstance(message, WeightsQuery | WeightsRange):
            raise WireError(f"{type(message).__name__} at the weights socket, allowed WeightsQuery and WeightsRange")
        if message.run != self._run:
            return encode(Refused("", "run", f"weights of run {message.run}, allowed {self._run}; ask its own gateway"))
        if isinstance(message, WeightsQuery):
            newest = self._store.newest()
            fresh = newest is not None and newest.number > message.have
            return encode(WeightsOffer(msgspec.json.encode(newest) if fresh else b""))
        length = min(message.length, self._config.part_bytes)
        data, total = self._store.read(message.number, message.offset, length)
        self.bytes += len(data)
        return encode(WeightsPart(message.number, message.offset, total), data)
