"""Retention: which sealed segments of online rows a log gives up, oldest first, and that nobody needs them.

Demonstrations are never dropped, nor what is still written, nor a segment that somebody pins (user_rl.log.pins). What
is newer than a limit always stays, so a log holds what its limits say and at most one more segment. Age is
told by the machine's wall clock: set backwards it keeps segments longer, set forwards it drops them earlier.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum

from user_rl.errors import ConfigError

HOUR_S = 3600.0


class OnFull(StrEnum):
    """What a commit does that finds the disk, or the log's max_bytes, full."""

    REFUSE = "refuse"
    DROP_OLDEST = "drop_oldest"  # online segments, pinned ones excepted, until there is room


@dataclass(frozen=True, kw_only=True)
class RetentionConfig:
    """How much of the online rows is kept; None: all of them. Whole segments are dropped, never rows."""

    keep_rows: int | None = None  # the newest so many stay
    keep_bytes: int | None = None  # the newest so many stay
    keep_hours: float | None = None  # after its sealing a segment stays so long
    on_full: OnFull = OnFull.REFUSE

    def __post_init__(self) -> None:
        for name in ("keep_rows", "keep_bytes", "keep_hours"):
            value = getattr(self, name)
            if value is not None and not value > 0:
                raise ConfigError(f"retention.{name} = {value}, allowed more than 0, or null: keep all")

    @property
    def drops(self) -> bool:
        """Whether anything is ever dropped."""
        limits = (self.keep_rows, self.keep_bytes, self.keep_hours)
        return any(limit is not None for limit in limits) or self.on_full is OnFull.DROP_OLDEST


@dataclass(frozen=True, slots=True)
class Held:
    """What the rule asks of a segment of online rows."""

    name: str
    rows: int
    bytes: int
    sealed: bool
    sealed_s: float  # wall clock; 0: not known, so no age ends it


def outdated(online: Sequence[Held], config: RetentionConfig, now_s: float) -> list[str]:
    """The sealed segments that the config keeps no longer, oldest first; `online` are all, oldest first."""
    found, newer_rows, newer_bytes = [], 0, 0
    for held in reversed(online):
        beyond = (
            (config.keep_rows is not None and newer_rows >= config.keep_rows)
            or (config.keep_bytes is not None and newer_bytes >= config.keep_bytes)
            or (config.keep_hours is not None and 0 < held.sealed_s < now_s - config.keep_hours * HOUR_S)
        )
        if beyond and held.sealed:
            found.append(held.name)
        newer_rows, newer_bytes = newer_rows + held.rows, newer_bytes + held.bytes
    return found[::-1]
