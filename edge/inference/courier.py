"""Courier: link's thread for inference. It takes control's glances to whoever was chosen, and chunks back.

It has its own connections and never touches the spool, so no fsync is before it. It wakes by the window's bell. What
comes back is checked here (asked for, shape, finite, within the command's bounds, not too old) before control sees it.
What was asked of one place is of no use when another is chosen, or when another episode has begun.
"""

import logging
import math
import sys
import threading
from dataclasses import dataclass

import numpy as np
import zmq

from edge.config import EdgeConfig
from edge.inference.choice import Candidate, Chooser
from edge.inference.config import InferenceConfig, Where
from edge.inference.latency import Asking, Recent, steps_of
from edge.inference.place import Place
from edge.inference.window import Glance, Placed, Posted, Window
from edge.shared import Shared
from user_rl.clock import Clock
from user_rl.errors import ConfigError
from user_rl.fleet import InferencePlace
from user_rl.rows import Schema
from user_rl.seen import check_pictures, pack
from user_rl.specs import Array
from user_rl.trust import Bundle
from user_rl.wire import Actions, Declined, Infer, encode

log = logging.getLogger(__name__)

WAIT_S = 0.1  # between two looks when nothing rings
SWITCH_INTERVAL_S = 0.0005  # the spool's thread shares the interpreter
ACTED_SPAN_S = 3600.0  # how long the policy beside the robot took, is not forgotten while another acts


@dataclass(frozen=True, kw_only=True)
class Errand:
    """For whom: what the lease says."""

    run: str = ""
    boot: str = ""
    places: tuple[InferencePlace, ...] = ()


class Courier:
    """`run` in a thread of its own; `errand` is set, `words` read from any."""

    def __init__(
        self, window: Window, schema: Schema, config: InferenceConfig, bundle: Bundle, *,
        site: str, rate_hz: float, clock: Clock,
    ) -> None:  # fmt: skip
        self._window, self._schema, self._config, self._bundle = window, schema, config, bundle
        self._site, self._period_s, self._clock = site, 1.0 / rate_hz, clock
        check_pictures(schema.observation, config.pictures)
        self.errand, self._known = Errand(), Errand()
        self.words = ""  # for the fleet: who acts, and why
        self._places: dict[str, Place] = {}
        self._chooser, self._asking = Chooser(config), Asking(config)
        self._acted = Recent(ACTED_SPAN_S)
        self._glance: Glance | None = None
        self._told: dict[int, tuple[float, int]] = {}  # step asked for → when control had it, frozen steps
        self._poller = zmq.Poller()
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self.run, name="inference", daemon=True)

    def start(self) -> None:
        """Runs it in its thread."""
        self._thread.start()

    def stop(self) -> None:
        """Ends the thread, and waits for that."""
        self._stopping.set()
        self._window.ring()
        if self._thread.is_alive():
            self._thread.join()

    def run(self) -> None:
        """Turns until `stop`, then closes the connections."""
        sys.setswitchinterval(SWITCH_INTERVAL_S)
        self._watch()
        try:
            while not self._stopping.is_set():
                self._poller.poll(round(WAIT_S * 1e3))
                self.turn()
        finally:
            for place in self._places.values():
                place.close()

    def turn(self) -> None:
        """One round: what came, what is due, who is chosen, what is asked."""
        self._follow()
        self._window.heed()
        now_s = self._clock.now_s()
        for place in self._places.values():
            self._receive(place, now_s)
            place.probe(self._known.run, self._bundle.name, self._schema.encoded, now_s)
        self._look()
        self._expire(now_s)
        self._choose(now_s)
        self._ask(now_s)

    def _follow(self) -> None:
        errand = self.errand
        if errand == self._known:
            return
        for place in self._places.values():
            place.close()
        self._known, self._places = errand, {}
        for where in errand.places:
            try:
                self._places[where.name] = Place(where, self._kind(where), self._config, self._bundle)
            except ConfigError as error:
                log.error("%s; the run named it as %s", error, where.name)
        self._forget()
        self._watch()

    def _kind(self, where: InferencePlace) -> str:
        return "site" if where.site and where.site == self._site else "cloud"

    def _watch(self) -> None:
        self._poller = zmq.Poller()
        self._poller.register(self._window.bell, zmq.POLLIN)
        for place in self._places.values():
            self._poller.register(place.socket, zmq.POLLIN)

    def _look(self) -> None:
        glance = self._window.look()
        if glance is None or (self._glance is not None and glance.step == self._glance.step):
            return
        if self._glance is not None and glance.first != self._glance.first:
            self._forget()
        self._glance = glance
        if glance.acted_s > 0:
            self._acted.add(glance.acted_s, glance.taken_s)

    def _forget(self) -> None:
        self._asking.forget()
        self._told.clear()

    def _receive(self, place: Place, now_s: float) -> None:
        for message, payload in place.receive(now_s):
            if place.where.name != self._chooser.choice.name or not self._asking.answered(message.step):
                continue  # of an episode or a place that is over
            taken_s, frozen = self._told.pop(message.step)
            if isinstance(message, Declined):
                self._declined(place, message, now_s)
            elif fault := self._fault(message, payload):
                place.complain(f"a chunk {fault}; it is dropped")
                place.answered(math.inf, 0.0, now_s)
            else:
                assert payload is not None  # Actions have one
                self._post(message, payload, frozen)
                place.answered(now_s - taken_s, message.spent_s, now_s)

    def _declined(self, place: Place, message: Declined, now_s: float) -> None:
        place.complain(f"{message.code}: {message.text}")
        if message.code == "schema":
            place.knows_schema = False
        place.answered(math.inf, 0.0, now_s)

    def _fault(self, message: Actions, payload: memoryview | None) -> str:
        """What is wrong with an answer; empty: nothing."""
        size = self._schema.action.shape[0]
        if message.horizon > self._config.horizon:
            return f"of {message.horizon} steps, allowed {self._config.horizon}, as many as were asked for"
        if payload is None or len(payload) != 4 * message.horizon * size:
            return f"of {0 if payload is None else len(payload)} bytes, allowed {message.horizon} x {size} float32"
        actions: Array = np.frombuffer(payload, "<f4").reshape(message.horizon, size)
        if not all(self._schema.action.has(action) for action in actions):
            return f"that leaves the bounds of {self._schema.action.name}, or is not finite"
        if self._window.step - message.step >= message.horizon:
            return f"of {message.horizon} steps that is {self._window.step - message.step} steps old"
        return ""

    def _post(self, message: Actions, payload: memoryview, frozen: int) -> None:
        self._window.chunk.post(
            Posted(
                first=message.step, horizon=message.horizon, actions=bytes(payload), version=message.version,
                version_hash=message.version_hash, frozen=frozen,
            )
        )  # fmt: skip

    def _expire(self, now_s: float) -> None:
        place = self._places.get(self._chooser.choice.name)
        for step in self._asking.overdue(now_s):
            taken_s, _ = self._told.pop(step)
            if place is not None:
                place.complain(f"no answer within {now_s - taken_s:.2f} s")
                place.answered(math.inf, 0.0, now_s)

    def _choose(self, now_s: float) -> None:
        config = self._config
        deadline_s = (config.horizon - config.execute) * self._period_s
        candidates = [place.candidate(deadline_s, now_s) for place in self._places.values()]
        if config.where is Where.AUTO:
            acted_s = self._acted.p95_s(now_s)
            candidates.append(Candidate(name="edge", kind="edge", p95_s=acted_s, deadline_s=self._period_s))
        before = self._chooser.choice
        choice = self._chooser.choose(candidates, now_s)
        if choice is before:
            return
        log.info("acts from %s: %s", choice.name or "nowhere but the fallback", choice.reason)
        self.words = f"acts from {choice.name or f'fallback {config.fallback}'}: {choice.reason}"[:500]
        self._window.placed.post(Placed(name=choice.name, reason=choice.reason[:500]))
        self._forget()

    def _ask(self, now_s: float) -> None:
        place, glance = self._places.get(self._chooser.choice.name), self._glance
        if place is None or glance is None or self._window.step != glance.step + 1:
            return
        expected_s = place.expected_s(now_s) or 0.0
        latency = steps_of(expected_s, self._period_s)
        if not self._asking.due(glance.step, len(glance.plan), latency):
            return
        prefix = glance.plan[:latency] if place.takes_prefix else glance.plan[:0]
        useful_s = self._config.horizon * self._period_s
        runs_out_s = len(glance.plan) * self._period_s
        within_s = runs_out_s if runs_out_s >= expected_s else useful_s
        fields, parts = pack(glance.values, self._config.pictures)
        now_s = self._clock.now_s()
        infer = Infer(
            self._known.run, self._bundle.name, self._known.boot, glance.step, now_s,
            max(0.0, within_s - (now_s - glance.taken_s) - place.network_s(now_s)), self._config.horizon,
            glance.explore, self._schema.digest, fields, len(prefix),
        )  # fmt: skip
        if place.send(encode(infer, b"".join([*parts, prefix.astype("<f4").tobytes()]))):
            self._asking.asked(glance.step, glance.taken_s + useful_s)
            self._told[glance.step] = glance.taken_s, len(prefix)


def make_courier(
    shared: Shared, schema: Schema, config: EdgeConfig, bundle: Bundle, rate_hz: float, clock: Clock
) -> Courier | None:
    """The courier that the configuration asks for; None: nothing but the policy beside the robot acts."""
    if config.free or config.inference.near:
        return None
    window = Window(shared, schema)
    return Courier(window, schema, config.inference, bundle, site=config.site, rate_hz=rate_hz, clock=clock)
