"""Where a cell's actions come from, and how far ahead they are asked for."""

import re
from dataclasses import dataclass
from enum import StrEnum

from user_rl.errors import ConfigError

PICTURES = r"raw|jpeg(:([1-9]\d?|100))?"
MOST_STEPS = 200  # of a chunk


class Where(StrEnum):
    """Who acts."""

    EDGE = "edge"  # the policy beside the robot
    REMOTE = "remote"  # a server; the policy beside the robot only as `fallback` says
    AUTO = "auto"  # whichever of both keeps the deadline, in the order of `prefer`


class Fallback(StrEnum):
    """What acts at a step for which no action has come."""

    LOCAL = "local"  # the newest weights beside the robot
    HOLD = "hold"  # nothing: the robot holds, no row is recorded


@dataclass(frozen=True, kw_only=True)
class InferenceConfig:
    """Real-time chunking. An answer may take `horizon - execute` steps before a step is without an action."""

    where: Where = Where.EDGE
    fallback: Fallback = Fallback.LOCAL
    horizon: int = 10  # steps of a chunk; a policy that gives chunks has its own
    execute: int = 5  # steps after which a new chunk is asked for, whether it is urgent or not
    margin: int = 1  # steps beyond the measured p95 latency with which an answer is expected
    pictures: str = "jpeg:90"  # how they travel, or raw
    prefer: tuple[str, ...] = ("cloud", "site", "edge")  # of places that keep the deadline, the first
    slack: float = 0.2  # of the deadline that must be left for a place to be entered; it is kept while none is exceeded
    settle_s: float = 2.0  # a place that failed, or a better one, must have kept the deadline for so long
    probe_s: float = 0.5  # between two probes of each place
    remember_s: float = 5.0  # of what answers took
    silent_s: float = 2.0  # a place that answers nothing for so long is gone

    def __post_init__(self) -> None:
        if not 2 <= self.horizon <= MOST_STEPS:
            raise ConfigError(f"inference.horizon = {self.horizon}, allowed 2 to {MOST_STEPS} steps; change it")
        if not (self.horizon <= 3 * self.execute and self.execute < self.horizon):
            least = -(-self.horizon // 3)
            raise ConfigError(
                f"inference.execute = {self.execute}, allowed {least} to {self.horizon - 1} with a horizon of "
                f"{self.horizon}: two requests under way cover no more; change one of them"
            )
        if self.where is Where.AUTO and self.fallback is not Fallback.LOCAL:
            raise ConfigError("inference.where = auto, allowed with fallback = local: the edge is one of its places")
        if not re.fullmatch(PICTURES, self.pictures):
            raise ConfigError(f"inference.pictures = {self.pictures!r}, allowed raw, jpeg:1 to jpeg:100; choose one")
        if sorted(self.prefer) != sorted(set(self.prefer) & {"cloud", "site", "edge"}) or not self.prefer:
            raise ConfigError(
                f"inference.prefer = {list(self.prefer)}, allowed each of cloud, site, edge once; choose an order"
            )
        times_s = (self.settle_s, self.probe_s, self.remember_s, self.silent_s)
        if not (self.margin >= 0 and 0 <= self.slack < 1 and min(times_s) > 0):
            raise ConfigError(
                "inference: allowed margin 0 or more, slack 0 to below 1, times above 0; mend the one that is not"
            )

    @property
    def near(self) -> bool:
        """Whether nothing but the policy beside the robot ever acts."""
        return self.where is Where.EDGE
