"""Room: what is still recorded when the spool, or its disk, fills up with rows that the cloud has not acknowledged.

Below `frames_off` of the spool's bound all is recorded. From there on camera pictures are not, until the spool is down
to `frames_on`: states, actions and rewards go on, for as long as the rest lasts. At the bound nothing more is taken
from the ring, and the robot holds still. Too little space on the disk does the same. Each change is one line, and the
reason is shown to the fleet. No state is kept: a successor finds the same by looking.
"""

import logging
from collections.abc import Mapping
from dataclasses import dataclass

from user_rl.errors import ConfigError, StorageFull
from user_rl.files import free_bytes
from user_rl.log import Log

log = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class RoomConfig:
    """Shares of the spool's bound, and bytes that the disk must have."""

    frames_off: float = 0.8
    frames_on: float = 0.7
    frames_free_bytes: int = (
        512 * 2**20
    )  # less free than this: no pictures; none while there is less than 1.25 times it
    least_free_bytes: int = 64 * 2**20  # less free than this: nothing is recorded

    def __post_init__(self) -> None:
        if not 0 < self.frames_on <= self.frames_off <= 1:
            raise ConfigError(
                f"link.room: frames_on = {self.frames_on}, frames_off = {self.frames_off}; allowed are shares of the "
                "spool with 0 < frames_on <= frames_off <= 1"
            )
        if not 0 <= self.least_free_bytes <= self.frames_free_bytes:
            raise ConfigError(
                f"link.room: least_free_bytes = {self.least_free_bytes}, frames_free_bytes = {self.frames_free_bytes}; "
                "allowed are 0 <= least_free_bytes <= frames_free_bytes"
            )


class Room:
    """Looks at one spool, which has a bound."""

    def __init__(self, spool: Log, config: RoomConfig, *, pictures: bool) -> None:
        """`pictures`: whether its rows have any."""
        self._spool, self._config, self._pictures = spool, config, pictures
        self._bound_bytes = spool.config.max_bytes or 2**62
        self.reason = ""  # why pictures are not recorded; empty: they are

    @property
    def frames(self) -> bool:
        """Whether camera pictures are recorded."""
        return not self.reason

    def look(self, acknowledged: Mapping[str, int]) -> None:
        """Drops acknowledged segments as far as space is needed. Raises StorageFull if the disk has next to none."""
        config = self._config
        share = int((config.frames_on if self.reason else config.frames_off) * self._bound_bytes)
        least = int(config.frames_free_bytes * (1.25 if self.reason else 1.0))
        self._spool.trim(acknowledged, bound_bytes=0 if self._free() < least else share)
        free = self._free()
        self._tell(self._why(share, least, free) if self._pictures else "")
        if free < config.least_free_bytes:
            raise StorageFull(
                f"{self._spool.path}: {free:.0f} bytes are free on this disk, allowed link.room.least_free_bytes = "
                f"{config.least_free_bytes} and more; free space on it"
            )

    def _free(self) -> float:
        free = free_bytes(self._spool.path)
        return float("inf") if free is None else free

    def _why(self, share_bytes: int, least: int, free: float) -> str:
        held = self._spool.size_bytes()
        if held > share_bytes:
            return f"no camera frames are recorded: the spool holds {held} bytes, {self._bound_bytes} are allowed"
        if free < least:
            return f"no camera frames are recorded: the spool's disk has {free:.0f} bytes free, wanted are {least}"
        return ""

    def _tell(self, reason: str) -> None:
        if reason and not self.reason:
            log.error("%s; states and actions go on. See to the link, or to the disk", reason)
        elif self.reason and not reason:
            log.info("camera frames are recorded again")
        self.reason = reason
