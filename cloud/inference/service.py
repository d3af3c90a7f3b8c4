"""The server that infers: observations come in, action chunks go out, the earliest deadline first.

One thread answers; another loads versions (cloud.inference.brain). Everything that has arrived is taken in before the
next answer is worked at, so that probes and newer observations do not wait in the socket. A cell is answered only under
its own key and while the run has it leased. Requests are answered one by one: a policy that gains by batches batches.
"""

import logging
import threading
from collections.abc import Callable
from typing import Any

import numpy as np

from cloud.inference.brain import Brain, Loaded
from cloud.inference.config import ServingConfig
from cloud.inference.line import Line, Request
from cloud.inference.spent import Spent
from user_rl.channels import Allowed, ChannelConfig, Received, ServerChannel
from user_rl.clock import Clock
from user_rl.errors import SchemaMismatch, WireError
from user_rl.seen import unpack
from user_rl.specs import Array
from user_rl.trust import CurveKeys
from user_rl.wire import Actions, Declined, DeclinedCode, Infer, Limits, Message, Probe, Probed, decode, encode

log = logging.getLogger(__name__)

LIMITS = Limits(header_bytes=2**17, payload_bytes=2**24)
BURST = 64  # messages taken in before the next answer


class InferenceServer:
    """One run's. `run` in one thread; `stop`, `status` and `address` from any."""

    def __init__(
        self, run: str, address: str, brain: Brain, config: ServingConfig, *,
        keys: CurveKeys, allowed: Allowed, tokens: Callable[[str], int | None], clock: Clock,
    ) -> None:  # fmt: skip
        """Raises ConfigError when the port is in use. `tokens`: a cell's lease, None: the run does not hold it."""
        self._run, self._brain, self._config, self._tokens, self._clock = run, brain, config, tokens, clock
        self._channel = ServerChannel(address, keys, allowed, config=ChannelConfig(queue=config.line))
        self.address = self._channel.address
        self._line, self._spent = Line(config.line, config.each), Spent()
        self._counts = {"answered": 0, "late": 0, "busy": 0, "refused": 0}
        self._complaints: set[str] = set()
        self._stopping = threading.Event()

    def run(self) -> None:
        """Serves until `stop`, then closes the socket."""
        self._brain.start()
        log.info("inference for run %s at %s", self._run, self.address)
        try:
            while not self._stopping.is_set():
                self.turn()
        finally:
            self._brain.stop()
            self._channel.close()

    def stop(self) -> None:
        """Ends `run` within a tick."""
        self._stopping.set()

    def close(self) -> None:
        """Closes the socket of a server that never ran."""
        self._channel.close()

    def status(self) -> dict[str, Any]:
        """Counters, the version that acts, and how long an answer takes."""
        loaded = self._brain.loaded
        return {
            **self._counts, "waiting": len(self._line), "version": 0 if loaded is None else loaded.version.number,
            "spent_ms": round(self._spent.p95_s() * 1e3, 3),
        }  # fmt: skip

    def turn(self) -> None:
        """Takes in what has come, then answers one request."""
        received = self._channel.receive(0.0 if len(self._line) else self._config.tick_s)
        for _ in range(BURST):
            if received is None:
                break
            self._take_in(received)
            received = self._channel.receive(0.0)
        request, away = self._line.take(self._clock.now_s())
        for late, code, text in away:
            self._decline(late.peer, late.message.step, code, text)
        if request is not None:
            self._answer(request)

    def _take_in(self, received: Received) -> None:
        try:
            message, payloads = decode(received.frames, LIMITS)
            if not isinstance(message, Probe | Infer):
                raise WireError(f"{type(message).__name__} at the inference socket, allowed Probe and Infer")
            code, text = self._authorised(received.user, message)
            if code is not None:
                self._decline(received.peer, message.step if isinstance(message, Infer) else 0, code, text)
            elif isinstance(message, Probe):
                self._probed(received.peer, message)
            else:
                request = Request(received.peer, message, payloads[0], self._clock.now_s())
                for away, why, words in self._line.put(request):
                    self._decline(away.peer, away.message.step, why, words)
        except WireError as error:
            self._decline(received.peer, 0, "malformed", f"{received.user}: {error}")

    def _authorised(self, user: str, message: Probe | Infer) -> tuple[DeclinedCode | None, str]:
        if message.run != self._run:
            return "run", f"inference for run {message.run[:50]}, allowed {self._run}; ask its own server"
        if user != f"edge:{message.cell}":
            return "identity", f"observations of {message.cell[:50]} from {user}, allowed its own edge; enrol it so"
        if self._tokens(message.cell) is None:
            return "identity", f"{message.cell} is not leased by run {self._run}; it waits for a lease"
        return None, ""

    def _probed(self, peer: bytes, probe: Probe) -> None:
        if probe.schema:
            self._brain.learn(probe.schema)
        loaded = self._brain.loaded
        version = 0 if loaded is None else loaded.version.number
        prefix = loaded is not None and loaded.chunks(1).takes_prefix
        self._send(peer, Probed(probe.sent_s, version, self._spent.p95_s(), prefix, self._brain.knows_schema))

    def _answer(self, request: Request) -> None:
        message, loaded = request.message, self._brain.loaded
        if loaded is None:
            return self._decline(request.peer, message.step, "weights", "there is no version to act by yet")
        try:
            actions = self._act(loaded, message, request.payload)
        except SchemaMismatch as error:
            return self._decline(request.peer, message.step, "schema", str(error))
        except WireError as error:
            return self._decline(request.peer, message.step, "malformed", str(error))
        spent_s = self._clock.now_s() - request.received_s
        self._spent.add(spent_s)
        self._counts["answered"] += 1
        version = loaded.version
        done = Actions(message.step, version.number, version.digest16, len(actions), spent_s)
        self._channel.send(request.peer, encode(done, actions.astype("<f4").tobytes()))
        return None

    def _act(self, loaded: Loaded, message: Infer, payload: memoryview) -> Array:
        specs = self._brain.specs(message.schema)
        width = 4 * loaded.policy.action.shape[0]
        at = len(payload) - message.prefix * width
        if at < 0:
            raise WireError(f"a payload of {len(payload)} bytes with {message.prefix} actions of {width}; drop it")
        observation = unpack(message.fields, payload[:at], specs)
        prefix: Array | None = None
        if message.prefix:
            prefix = np.frombuffer(payload[at:], "<f4").reshape(message.prefix, -1)
            if not all(loaded.policy.action.has(action) for action in prefix):
                raise WireError(f"{message.prefix} planned actions, one of them not allowed; drop it")
        return loaded.act(observation, explore=message.explore, horizon=message.horizon, prefix=prefix)

    def _decline(self, peer: bytes, step: int, code: DeclinedCode, text: str) -> None:
        self._counts[code if code in ("late", "busy") else "refused"] += 1
        if code not in ("late", "busy", "weights") and len(self._complaints) < BURST and text not in self._complaints:
            self._complaints.add(text)
            log.warning("declined (%s): %s", code, text)
        self._send(peer, Declined(step, code, text[:2000]))

    def _send(self, peer: bytes, message: Message) -> None:
        self._channel.send(peer, encode(message))
