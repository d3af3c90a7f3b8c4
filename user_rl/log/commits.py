"""What a commit promises: the durability classes of a log, `commit` and `group_ms` in its configuration.

each: `append` returns when the rows are on the disk. group: `commit` syncs, yet not before `group_ms` have passed since
the last sync; what waits is in memory until then. nosync: `commit` writes and does not sync, `sync` does both; what was
written survives a killed process, and after a power cut the segments not yet sealed may be damaged. Whatever the class,
the cursors that are returned, and `synced`, cover rows on the disk only.
"""

from difflib import get_close_matches

from user_rl.clock import Clock
from user_rl.errors import ConfigError

CLASSES = ("each", "group", "nosync")


def check_commit(commit: str, group_ms: float) -> None:
    """Raises ConfigError for what is no durability class."""
    if commit not in CLASSES:
        near = get_close_matches(commit, CLASSES, n=1)
        hint = f"did you mean {near[0]}?" if near else "choose one of these"
        raise ConfigError(f"log.commit = {commit!r}, allowed {', '.join(CLASSES)}; {hint}")
    if not 0 <= group_ms <= 60_000 or (group_ms and commit != "group"):
        raise ConfigError(
            f"log.group_ms = {group_ms} with log.commit = {commit}, allowed 0 to 60000 with group, 0 with others; "
            "change one of the two"
        )


class Pace:
    """When the next group may be synced."""

    def __init__(self, group_ms: float, clock: Clock) -> None:
        self._every_s, self._clock, self._last_s = group_ms / 1e3, clock, float("-inf")

    def wait_s(self) -> float:
        """Seconds until then; 0: now."""
        return max(0.0, self._last_s + self._every_s - self._clock.now_s()) if self._every_s else 0.0

    def synced(self) -> None:
        """A group was synced now."""
        self._last_s = self._clock.now_s()
