"""The marks at which a spool that fills up records less: `edge.room` acts on them."""

from dataclasses import dataclass

from user_rl.errors import ConfigError


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
