"""Room: what is still recorded when the spool, or its disk, fills up with rows that the cloud has not acknowledged.

Below `frames_off` of the spool's bound all is recorded. From there on camera pictures are not, until the spool is down
to `frames_on`: states, actions and rewards go on, for as long as the rest lasts. At the bound nothing more is taken
from the ring, and the robot holds still. Too little space on the disk does the same. Each change is one line, and the
reason is shown to the fleet. No state is kept: a successor finds the same by looking.
"""

import logging
from collections.abc import Mapping

from edge.room_config import RoomConfig
from user_rl.errors import StorageFull
from user_rl.files import free_bytes
from user_rl.log import Log

log = logging.getLogger(__name__)


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
