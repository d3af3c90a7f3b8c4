"""Place: one server that infers, as link sees it: its connection, its probes, and how quick it is.

One thread. What it measures: the round trip of a small message over the same connection, what the server says that an
answer costs, and how long real answers took from observation to chunk, those that never came included.
"""

import logging
import math

import zmq

from edge.inference.choice import Candidate
from edge.inference.config import InferenceConfig
from edge.inference.latency import Recent
from user_rl.channels import ChannelConfig, ClientChannel
from user_rl.errors import WireError
from user_rl.fleet import InferencePlace
from user_rl.trust import Bundle
from user_rl.wire import Actions, Declined, Message, Probe, Probed, decode, encode

log = logging.getLogger(__name__)

FRAME_BYTES = 2**20  # of what a server may send
BURST = 64


class Place:
    """A server under one address. Raises ConfigError for an address that cannot be."""

    def __init__(self, where: InferencePlace, kind: str, config: InferenceConfig, bundle: Bundle) -> None:
        self.where, self.kind, self._config = where, kind, config
        public = where.curve_public or bundle.server_curve_public
        bounds = ChannelConfig(max_frame_bytes=FRAME_BYTES, queue=8)
        self._channel = ClientChannel(where.address, bundle.curve, public, config=bounds)
        self.took, self._round_trip, self._spent = (Recent(config.remember_s) for _ in range(3))
        self._probed_s = self._heard_s = -math.inf
        self.takes_prefix = self.knows_schema = False
        self._version = 0
        self._complaint = ""

    @property
    def socket(self) -> "zmq.Socket[bytes]":
        """For a poller only."""
        return self._channel.socket

    def probe(self, run: str, cell: str, schema: bytes, now_s: float) -> None:
        """Sends a probe if one is due."""
        if now_s - self._probed_s >= self._config.probe_s:
            self._probed_s = now_s
            self._channel.send(encode(Probe(run, cell, now_s, b"" if self.knows_schema else schema)))

    def send(self, frames: list[bytes | memoryview]) -> bool:
        """Queues a request; False when the server is not there."""
        return self._channel.send(frames)

    def receive(self, now_s: float) -> list[tuple[Actions | Declined, memoryview | None]]:
        """Answers to requests; probes are taken in here, and what is no answer is dropped."""
        found: list[tuple[Actions | Declined, memoryview | None]] = []
        for _ in range(BURST):
            frames = self._channel.receive(0.0)
            if frames is None:
                break
            try:
                message, payloads = decode(frames)
                if not isinstance(message, Actions | Declined):
                    self._probed(message, now_s)
                    continue
            except WireError as error:
                self.complain(str(error))
                continue
            self._heard_s = now_s
            found.append((message, payloads[0] if payloads else None))
        return found

    def answered(self, took_s: float, spent_s: float, now_s: float) -> None:
        """A chunk came, `took_s` after its observation; `math.inf`: it could not be used."""
        self.took.add(took_s, now_s)
        if math.isfinite(took_s):
            self._spent.add(spent_s, now_s)
            self._complaint = ""

    def complain(self, why: str) -> None:
        """One line for each new reason."""
        if why != self._complaint:
            log.warning("inference at %s: %s", self.where.name, why)
            self._complaint = why

    def network_s(self, now_s: float) -> float:
        """The round trip of a small message, p95; 0 while it is not known."""
        return self._round_trip.p95_s(now_s) or 0.0

    def expected_s(self, now_s: float) -> float | None:
        """From observation to chunk, p95: as probes and the server say, or as it was, if that is longer.

        None: it does not answer, or has no weights for these rows yet.
        """
        network_s = self._round_trip.p95_s(now_s)
        ready = self._version and self.knows_schema
        if network_s is None or not ready or now_s - self._heard_s > self._config.silent_s:
            return None
        return max(network_s + (self._spent.p95_s(now_s) or 0.0), self.took.p95_s(now_s) or 0.0)

    def candidate(self, deadline_s: float, now_s: float) -> Candidate:
        """What a choice is made from."""
        return Candidate(
            name=self.where.name, kind=self.kind, p95_s=self.expected_s(now_s), deadline_s=deadline_s
        )  # fmt: skip

    def close(self) -> None:
        """Closes the connection."""
        self._channel.close()

    def _probed(self, message: Message, now_s: float) -> None:
        if not isinstance(message, Probed) or not 0 <= now_s - message.sent_s < self._config.silent_s:
            raise WireError(f"a {type(message).__name__} that nobody asked for; it is dropped")
        self._heard_s = now_s
        self._round_trip.add(now_s - message.sent_s, now_s)
        self._spent.add(message.spent_s, now_s)
        self._version, self.takes_prefix = message.version, message.takes_prefix
        if not message.knows_schema and self.knows_schema:
            self._probed_s = -math.inf
        self.knows_schema = message.knows_schema
