"""Safeguard: between what wants to act and the robot, once a step: what the watches see, and what their rules do.

The operator's action counts only while the enabling device is held. One who lets go of it while driving stops the
robot at once, until it is held again; then the takeover goes on, or the policy does.
"""

import logging
import math

import msgspec

from edge.holding import Holding
from edge.safety import Rule, SafetyConfig, Signs, Verdict, Watchdogs, WatchFired
from edge.stop import Stop
from hal.cell import Cell, Observation
from hal.task import GoesHome
from hal.teleop import TeleopReading
from user_rl.clock import Clock
from user_rl.errors import ConfigError, SensorStale
from user_rl.specs import Array

log = logging.getLogger(__name__)

LOOK_S = 0.25  # between two looks whether what cut an episode would do so again
LONGEST_REST = 30.0  # times the shortest
_IMAGES = "observation.images."


class Safeguard:
    """One cell's. One thread. `free`: simulated time stands still while nothing is commanded."""

    def __init__(self, cell: Cell, config: SafetyConfig, stop: Stop, *, clock: Clock, free: bool) -> None:
        if config.goes_home and not (isinstance(cell.task, GoesHome) and cell.task.has_home):
            raise ConfigError(
                f"a watch of safety has the rule home, and the task {cell.task.name} has none; give task.home, or "
                "choose hold or halt"
            )
        self.verdict, self.is_held = Verdict(), False  # of the newest step
        self._cell, self._config, self._stop, self._clock, self._free = cell, config, stop, clock, free
        self._watchdogs, self._holding = Watchdogs(config), Holding(cell.robot.spec)
        self._drove = self._is_dropped = self._is_halted = False
        self._cuts = 0  # episodes that a watch has cut, since the last whole one
        self._trouble, self._looked_s = "", -math.inf

    @property
    def fired(self) -> int:
        """How often any watch has begun to fire."""
        return sum(self._watchdogs.fired.values())

    def begin(self) -> None:
        """An episode starts."""
        self.verdict, self.is_held, self._drove, self._is_dropped = Verdict(), False, False, False
        self._holding.begin()
        self._watchdogs.begin(self._clock.now_s())

    def halted(self) -> None:
        """The robot was halted: what was sent before does not count, and no watch has been looked at meanwhile."""
        self._holding.begin()
        self._watchdogs.begin(self._clock.now_s())

    def enabled(self, hand: TeleopReading) -> TeleopReading:
        """What counts of the operator's reading."""
        if hand.is_enabled:
            self._drove, self._is_dropped = hand.action is not None, False
            return hand
        self._is_dropped |= self._drove
        self._drove = False
        return msgspec.structs.replace(hand, action=None, is_intervention=False)

    def allowed(
        self, wanted: Array | None, seen: Observation, hand: TeleopReading, *, proposed: bool | None, heard_s: float
    ) -> Array | None:
        """What to command at this step; None: the robot is held, if it has moved, and there is no row.

        `proposed`: whether the policy did, None where none is asked. Raises WatchFired where the episode is to be cut,
        RobotFault where a person has stopped the robot.
        """
        self._stop.check()
        now_s = self._clock.now_s()
        signs = Signs(is_dropped=self._is_dropped) if self._free else self._signs(seen, hand, proposed, heard_s, now_s)
        verdict = self.verdict = self._watchdogs.look(signs, now_s)
        if verdict.rule in (Rule.HALT, Rule.HOME):
            raise WatchFired(verdict)
        state = seen.values["observation.state"]
        self.is_held = verdict.rule is Rule.HOLD or (verdict.rule is Rule.SLOW and not self._holding.is_known)
        if wanted is None or self.is_held:
            self._hold(state)
            return None
        return self._holding.slowed(wanted, state, self._config.slow_factor) if verdict.rule is Rule.SLOW else wanted

    def sent(self, command: Array) -> Array:
        """`command`, which was really sent."""
        self._is_halted = False
        self._holding.sent(command)
        return command

    def finished(self) -> None:
        """An episode has come to its end."""
        self._cuts = 0

    def cut(self, verdict: Verdict) -> float:
        """An episode was cut: the way home, if that is the rule. Returns by how much to rest longer than after one cut;
        raises what the robot raises."""
        self.verdict, self.is_held = Verdict(), False
        self._cuts += 1
        task = self._cell.task
        if verdict.rule is Rule.HOME and isinstance(task, GoesHome):
            try:
                task.go_home()
            except SensorStale as error:
                log.error("the robot does not go home: %s", error)
        return min(2.0 ** (self._cuts - 1), LONGEST_REST)

    def trouble(self, heard_s: float) -> str:
        """Why no episode may begin after one was cut: a watch would cut or hold it; raises what the robot raises."""
        now_s = self._clock.now_s()
        if self._cuts and now_s - self._looked_s >= LOOK_S:
            self._looked_s, self._trouble = now_s, self._look(heard_s)
        return self._trouble if self._cuts else ""

    def _look(self, heard_s: float) -> str:
        try:
            seen = self._cell.observe()
        except SensorStale as error:
            return str(error)
        now_s = self._clock.now_s()
        signs = self._signs(seen, TeleopReading(stamp_s=now_s, action=None), None, heard_s, now_s)
        verdict = self._watchdogs.peek(signs, now_s)
        return verdict.reason if verdict.rule in (Rule.HALT, Rule.HOME, Rule.HOLD) else ""

    def _hold(self, state: Array) -> None:
        if self._free or not (self._holding.has_moved or self.verdict.reason):
            return  # nothing has moved it: it stands where the reset left it
        if self._holding.is_known:
            self.sent(self._cell.robot.command(self._holding.command(state)))
        elif not self._is_halted:
            self._cell.robot.halt()
            self._is_halted = True

    def _signs(
        self, seen: Observation, hand: TeleopReading, proposed: bool | None, heard_s: float, now_s: float
    ) -> Signs:
        frames = {n.removeprefix(_IMAGES): s for n, s in seen.stamps_s.items() if n.startswith(_IMAGES)}
        oldest = min(frames, key=lambda name: frames[name], default="")
        return Signs(
            state_age_s=now_s - seen.stamps_s["observation.state"], camera=oldest,
            camera_age_s=now_s - frames[oldest] if frames else None, proposed=proposed,
            takeover_age_s=None if hand.action is None else now_s - hand.stamp_s, is_dropped=self._is_dropped,
            silence_s=now_s - heard_s if heard_s else None,
        )  # fmt: skip
