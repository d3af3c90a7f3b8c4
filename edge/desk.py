"""Desk: where control reads its orders, decides what may happen next, and says what it is doing.

An episode needs a lease; an online one also needs weights and, in free pace, a permit. Every wait keeps the pulse going
and ends when control is told to stop. Waiting is on `idle`, a clock that really waits in either pace.
"""

import logging
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from edge.acting import Actor, Proposal, Swapping
from edge.config import EdgeConfig, Swap
from edge.inference.remote import RemoteActor
from edge.loading import Load, Loaded, Loader, Start, at_once
from edge.orders import Orders, Report, State
from edge.pacer import Pacer
from edge.recorder import Heading, Recorder
from edge.safeguard import Safeguard
from edge.safety import WatchFired
from edge.senses import Senses
from edge.shared import Shared
from edge.stop import Outcome
from edge.timings import Watch
from hal.cell import Cell, Observation
from hal.teleop import TeleopReading
from user_rl.clock import Clock
from user_rl.errors import HardwareError
from user_rl.rows import Klass
from user_rl.specs import Array

log = logging.getLogger(__name__)

WAIT_S = 0.002  # between two looks while nothing may happen
PERSON_S = 0.05  # between two looks for what a person does
TELL_S = 0.25  # between two reports of the same state


@dataclass(frozen=True, kw_only=True)
class Plan:
    """One episode, as decided at its start."""

    orders: Orders
    heading: Heading
    seed: int
    actor: Actor | None  # None: the operator demonstrates
    version: int = 0  # of the weights that act first

    @property
    def demonstrate(self) -> bool:
        return self.actor is None

    @property
    def going(self) -> State:
        return State.DEMONSTRATING if self.demonstrate else State.RUNNING


class Desk:
    """Control's side of the mailboxes. One thread."""

    def __init__(
        self, shared: Shared, recorder: Recorder, pacer: Pacer, config: EdgeConfig, *, idle: Clock, cell: Cell,
        stopping: Callable[[], bool], load: Load, start: Start = at_once,
    ) -> None:  # fmt: skip
        self._shared, self._recorder, self._pacer, self._config = shared, recorder, pacer, config
        self._idle, self._stopping, self._cell = idle, stopping, cell
        self.far: RemoteActor | None = None  # acts instead of the policy beside the robot, its fallback then
        self._loads_within = not config.free or config.swap is not Swap.EPISODE  # simulated time waits for its weights
        self._loader = Loader(load, self._noise, start=start)
        self._senses = Senses(cell, idle)
        self.safeguard = Safeguard(cell, config.safety, shared.stop, clock=pacer.clock, free=config.free)
        self.watch = Watch(pacer.clock, None if config.free else shared.timings)
        self._demonstrated: list[int] = []  # closing steps of successful demonstrations in this stream
        self._generation = self._held = self._unserved = 0
        self._success: bool | None = None
        self._told = Report()
        self._told_s = self._rated_s = -np.inf
        self._rated_step, self._steps_per_s = 0, 0.0

    def next_plan(self) -> Plan | None:
        """The next episode, as soon as one may begin; None: control is to stop."""
        halted = False
        self._senses.seen()
        while not self._stopping():
            self.promise(self._config.reset_s)
            plan = self._plan(self._orders())
            reason = self._senses.trouble
            if isinstance(plan, Plan) and reason:
                plan = State.NO_SENSOR
            elif isinstance(plan, Plan) and (reason := self.safeguard.trouble(plan.orders.heard_s)):
                plan = State.HALTED
            if isinstance(plan, Plan):
                self.tell(plan.going, version=plan.version)
                return plan
            if not halted:
                self._cell.robot.halt()
                halted = True
            self._senses.look()
            self.promise(self._config.pulse_limit_s)
            self.tell(plan, reason)
            self._idle.sleep_until(self._idle.now_s() + WAIT_S)
        return None

    def may_step(self, plan: Plan) -> bool:
        """Whether the episode goes on; waits here, with the robot still, for a permit or for space in the ring."""
        now_s, orders = self._idle.now_s(), self._orders()
        self._shared.pulse.promise(now_s + self._config.pulse_limit_s)
        if self._ended(plan, orders, now_s):
            return False
        if self._loads_within and self._loader.newest is not None:  # the first one may take long
            self._loader.want(orders)
        state = self._obstacle(plan, orders)
        if state is None:
            going = State.HELD if self.safeguard.is_held else plan.going
            if now_s - self._told_s >= TELL_S or self._told.state is not going:
                self.tell(going, self.safeguard.verdict.reason, version=self._version(plan))
            return True
        return self._wait_within(plan, state)

    def ended(self, plan: Plan) -> bool:
        """Whether the episode must end at this step: control stops, or the lease is over or another."""
        return self._ended(plan, self._orders(), self._idle.now_s())

    def _ended(self, plan: Plan, orders: Orders, now_s: float) -> bool:
        same = orders is plan.orders or (
            orders.token == plan.orders.token and orders.generation == plan.orders.generation
        )
        return self._stopping() or not same or now_s >= orders.lease_until_s

    def allowed(
        self, plan: Plan, seen: Observation, hand: TeleopReading, proposal: Proposal | None
    ) -> Array | None:  # fmt: skip
        """What to command: the operator's action, else the proposal, as the safeguard allows; None: nothing acts."""
        wanted = hand.action if proposal is None or hand.action is not None else proposal.action
        self._unserved += wanted is None and not plan.demonstrate
        proposed = None if plan.demonstrate or hand.action is not None else proposal is not None
        heard_s = self._orders().heard_s
        return self.safeguard.allowed(wanted, seen, hand, proposed=proposed, heard_s=heard_s)

    def finished(self, plan: Plan, success: bool) -> None:
        """Counts an episode that has its closing row."""
        self._success = success
        self.safeguard.finished()
        if plan.demonstrate and success:
            self._demonstrated.append(self._recorder.step - 1)

    def recover(self, error: HardwareError, for_s: float) -> None:
        """After an episode that was cut: home, where that is the rule, then a rest with the robot halted.

        After cuts by a watch, one behind the other, the rests grow.
        """
        state = State.NO_SENSOR
        if isinstance(error, WatchFired):
            state = State.HALTED
            self.promise(self._config.reset_s)
            for_s *= self.safeguard.cut(error.verdict)
        self._cell.robot.halt()
        until_s = self._idle.now_s() + for_s
        while self._idle.now_s() < until_s and not self._stopping():
            self.promise(self._config.pulse_limit_s)
            self.tell(state, str(error))
            self._idle.sleep_until(self._idle.now_s() + WAIT_S)

    def stand_still(self, why: Callable[[], str]) -> bool:
        """Waits, before the robot is opened, for as long as `why` has a reason; False: control is to stop."""
        while (reason := why()) and not self._stopping():
            self.promise(self._config.pulse_limit_s)
            self._orders()  # so that link knows what was read before the lease is released
            self.tell(State.FAULT, reason)
            self._idle.sleep_until(self._idle.now_s() + PERSON_S)
        return not self._stopping()

    def halt(self) -> None:
        """The last thing that control does with the robot; an emergency stop that waits for it is settled."""
        self._shared.stop.deaf = True
        self._cell.robot.halt()
        self._shared.stop.settle(Outcome.HALTED)

    def promise(self, within_s: float) -> None:
        """Tells halt that control will be back within so many seconds."""
        self._shared.pulse.promise(self._idle.now_s() + within_s)

    def tell(self, state: State, reason: str = "", *, version: int = 0) -> None:
        """Reports to link: at once when the state is new, else every quarter of a second."""
        now_s = self._idle.now_s()
        since_s = now_s - self._told_s
        if since_s < TELL_S and state is self._told.state:
            return
        recorder, pacer = self._recorder, self._pacer
        if now_s - self._rated_s >= TELL_S:
            self._steps_per_s = max(0, recorder.step - self._rated_step) / (now_s - self._rated_s)
            self._rated_s, self._rated_step = now_s, recorder.step
        self._told = Report(
            state=state, reason=reason, heard=self._shared.orders.seen, generation=self._generation,
            step=recorder.step - 1, episode=recorder.episode, version=version, steps_per_s=self._steps_per_s,
            late=pacer.late, skipped=pacer.skipped, held=self._held, unserved=self._unserved,
            fired=self.safeguard.fired, success=self._success, parts=self._senses.parts(),
        )  # fmt: skip
        self._told_s = now_s
        self._shared.report.post(self._told)

    def _orders(self) -> Orders:
        return self._shared.orders.read() or Orders()

    def _plan(self, orders: Orders) -> Plan | State:
        if not orders.run or not orders.token or orders.finish or self._idle.now_s() >= orders.lease_until_s:
            return State.NO_LEASE
        if self._recorder.ring.free() < 2:
            return State.NO_SPACE
        if orders.generation != self._generation:  # another stream: nothing of the old one holds
            self._generation, self._demonstrated = orders.generation, []
            self._loader.forget()
        step, episode = self._recorder.counters(orders.generation)
        if self._wanted(orders):
            return self._episode(orders, episode, None)
        self._loader.want(orders)
        weights = self._loader.newest if orders.weights else None
        actor = self._actor(weights)
        if actor is None:
            return State.NO_WEIGHTS
        if step > orders.last_step and (self._config.free or self._config.hold_at_permit):
            return State.NO_PERMIT
        return self._episode(orders, episode, actor, 0 if weights is None else weights.version.number)

    def _episode(self, orders: Orders, episode: int, actor: Actor | None, version: int = 0) -> Plan:
        heading = Heading(
            generation=orders.generation, run=orders.run, token=orders.token, clock_offset_s=orders.clock_offset_s,
            klass=Klass.DEMONSTRATION if actor is None else Klass.ONLINE,
        )  # fmt: skip
        seed = episode_seed(self._config.seed, self._config.name, orders.boot, episode)
        return Plan(orders=orders, heading=heading, seed=seed, actor=actor, version=version)

    def _wanted(self, orders: Orders) -> bool:
        self._demonstrated = [step for step in self._demonstrated if step > orders.acknowledged]
        return self._cell.teleop is not None and orders.demonstrations > len(self._demonstrated)

    def _actor(self, weights: Loaded | None) -> Actor | None:
        """What may act in the next episode; None: nothing yet."""
        near = None if weights is None else self._near(weights)
        return near if self.far is None else self.far.over(near)

    def _near(self, weights: Loaded) -> Actor:
        if self._config.swap is Swap.EPISODE:
            return weights.actor
        return Swapping(lambda: (self._loader.newest or weights).actor, chunks=self._config.swap is Swap.CHUNK)

    def _noise(self, orders: Orders) -> int:
        return episode_seed(self._config.seed, self._config.name, orders.boot, orders.weights_number)

    def _obstacle(self, plan: Plan, orders: Orders) -> State | None:
        if self._recorder.ring.free() < 2:  # one row, and the closing one
            return State.NO_SPACE
        if self._config.free and not plan.demonstrate and self._recorder.step > orders.last_step:
            return State.NO_PERMIT
        return None

    def _version(self, plan: Plan) -> int:
        return self._recorder.version if self._recorder.frame else plan.version

    def _wait_within(self, plan: Plan, state: State | None) -> bool:
        self._held += state is State.NO_SPACE
        if not self._config.free:  # simulated time stands still by itself
            self._cell.robot.halt()
            self.safeguard.halted()
        while state is not None and not self.ended(plan):
            self.promise(self._config.pulse_limit_s)
            self.tell(state, version=self._version(plan))
            self._idle.sleep_until(self._idle.now_s() + WAIT_S)
            state = self._obstacle(plan, self._orders())
        self._pacer.restart()
        return not self.ended(plan)


def episode_seed(seed: int, cell: str, boot: str, episode: int) -> int:
    """The start of an episode: another one for every seed, cell, boot and episode, 32 bits."""
    entropy = [seed, int.from_bytes(cell.encode()), int(boot or "0", 16), episode]
    return int(np.random.SeedSequence(entropy).generate_state(1)[0])
