"""Safety: what is watched while a robot acts, for how long it may be missing, and what is done when it is.

Pure: signs and a time in, a verdict out. Of several watches that fire the worst rule holds: slow, hold, home, halt in
this order; home moves the robot and therefore gives way to halt. A watch may end in a halt when it has fired for
`halt_after_s`. In free pace, where simulated time stands still by itself, nothing is watched but the enabling device.
"""

import logging
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields
from enum import IntEnum, StrEnum

import msgspec

from user_rl.errors import HardwareError

log = logging.getLogger(__name__)


class Rule(StrEnum):
    """What is done while a watch fires."""

    NONE = "none"  # it is only said
    SLOW = "slow"  # what acts is scaled towards holding
    HOLD = "hold"  # the robot is kept where it is; such a period leaves no row
    HOME = "home"  # the episode is cut, the robot goes the task's way home and is halted
    HALT = "halt"  # the robot is halted and the episode cut, until all is well again


class _Weight(IntEnum):
    NONE, SLOW, HOLD, HOME, HALT = range(5)


@dataclass(frozen=True, kw_only=True)
class WatchConfig:
    """One watch. It fires when its sign is older than `limit_s`, and ends in a halt when it does so for longer."""

    limit_s: float
    rule: Rule
    halt_after_s: float | None = None  # None: the rule holds for as long as it fires

    def __post_init__(self) -> None:
        for name in ("limit_s", "halt_after_s"):
            value = getattr(self, name)
            if value is not None and not 0 <= value < math.inf:
                raise ValueError(f"{name} = {value}, allowed 0 or more; change it")


@dataclass(frozen=True, kw_only=True)
class SafetyConfig:
    """Every watch, and how slow is slow."""

    policy: WatchConfig = WatchConfig(limit_s=0.5, rule=Rule.HOLD, halt_after_s=5.0)  # no proposal; held until then
    state: WatchConfig = WatchConfig(limit_s=0.5, rule=Rule.HALT)  # age of the robot's reading
    cameras: WatchConfig = WatchConfig(limit_s=0.3, rule=Rule.HOLD, halt_after_s=5.0)  # age of the oldest newest frame
    operator: WatchConfig = WatchConfig(limit_s=0.3, rule=Rule.HOLD, halt_after_s=30.0)  # a takeover's newest reading
    link: WatchConfig = WatchConfig(limit_s=30.0, rule=Rule.NONE)  # the fleet's silence; `autonomy_s` halts in any case
    slow_factor: float = 0.25

    def __post_init__(self) -> None:
        if not 0 < self.slow_factor < 1:
            raise ValueError(f"slow_factor = {self.slow_factor}, allowed above 0 and below 1; change it")
        for name in ("policy", "state", "operator"):
            if getattr(self, name).rule in (Rule.NONE, *([Rule.SLOW] if name == "policy" else [])):
                raise ValueError(
                    f"{name}.rule = {getattr(self, name).rule}, allowed hold, home or halt"
                    f"{'' if name == 'policy' else ', or slow'}; without {name} nothing sound can be sent"
                )

    @property
    def goes_home(self) -> bool:
        """Whether any watch sends the robot home."""
        return any(getattr(self, f.name).rule is Rule.HOME for f in fields(self) if f.name != "slow_factor")


class Signs(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """What a step shows. Ages are seconds; None: there is nothing of the kind."""

    state_age_s: float = 0.0
    camera: str = ""  # the one with the oldest frame
    camera_age_s: float | None = None
    proposed: bool | None = None  # None: no policy acts in this episode
    takeover_age_s: float | None = None  # None: the operator is not driving
    is_dropped: bool = False  # the enabling device was let go of while the operator drove
    silence_s: float | None = None  # of the fleet


@dataclass(frozen=True)
class Verdict:
    """What holds at this step; `reason` is empty when nothing fires."""

    rule: Rule = Rule.NONE
    reason: str = ""


class WatchFired(HardwareError):
    """The episode is cut; `verdict.rule` is home or halt."""

    def __init__(self, verdict: Verdict) -> None:
        super().__init__(verdict.reason)
        self.verdict = verdict


@dataclass
class Watchdogs:
    """All watches of one cell. One thread; every call has the time."""

    config: SafetyConfig
    fired: dict[str, int] = field(default_factory=dict)  # how often each has, by name
    _since_s: dict[str, float] = field(default_factory=dict)  # since when those that fire now do
    _proposed_s: float = 0.0

    def begin(self, now_s: float) -> None:
        """An episode starts: nothing fires, and a proposal has its time to come."""
        self._since_s.clear()
        self._proposed_s = now_s

    def look(self, signs: Signs, now_s: float) -> Verdict:
        """The worst rule that fires, and why; counts and logs what has begun to fire."""
        if signs.proposed is not False:
            self._proposed_s = now_s
        missing = self._missing(signs, now_s)
        for name in [name for name in self._since_s if not missing[name]]:
            del self._since_s[name]
        return worst([self._fires(name, why, now_s) for name, why in missing.items() if why])

    def peek(self, signs: Signs, now_s: float) -> Verdict:
        """What would fire, of signs that are looked at outside an episode; nothing is counted."""
        self._proposed_s = now_s  # no policy is asked there
        missing = self._missing(signs, now_s)
        return worst([Verdict(self._watch(name).rule, why) for name, why in missing.items() if why])

    def _missing(self, signs: Signs, now_s: float) -> Mapping[str, str]:
        """Why each watch fires; empty where it does not."""
        c = self.config
        dropped = "the operator let go of the enabling device" if signs.is_dropped else ""
        return {
            "state": _late("the robot's reading is", signs.state_age_s, c.state),
            "cameras": _late(f"the newest frame of {signs.camera} is", signs.camera_age_s, c.cameras),
            "policy": _late("nothing was proposed for", now_s - self._proposed_s, c.policy),
            "operator": dropped or _late("the operator's newest reading is", signs.takeover_age_s, c.operator),
            "link": _late("the fleet was not heard for", signs.silence_s, c.link),
        }

    def _fires(self, name: str, why: str, now_s: float) -> Verdict:
        watch = self._watch(name)
        if name not in self._since_s:
            self._since_s[name] = now_s
            self.fired[name] = self.fired.get(name, 0) + 1
            log.warning("%s: %s", watch.rule, why)
        for_s = now_s - self._since_s[name]
        ends = watch.halt_after_s is not None and for_s >= watch.halt_after_s
        return Verdict(Rule.HALT if ends else watch.rule, why)

    def _watch(self, name: str) -> WatchConfig:
        watch: WatchConfig = getattr(self.config, name)
        return watch


def worst(verdicts: Sequence[Verdict]) -> Verdict:
    """The one with the heaviest rule; the first of equals."""
    return max(verdicts, key=lambda verdict: _Weight[verdict.rule.name], default=Verdict())


def _late(what: str, age_s: float | None, watch: WatchConfig) -> str:
    if age_s is None or age_s <= watch.limit_s:
        return ""
    return f"{what} {age_s:.3g} s{' old' if what.endswith('is') else ''}, allowed {watch.limit_s:g} s"
