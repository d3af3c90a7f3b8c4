"""The gateways of a run as its driver sees them: Ray actors, one for each shard, and which of them live."""

from collections.abc import Callable, Mapping
from typing import Any

import ray
from ray.exceptions import GetTimeoutError, RayActorError, RayTaskError

from cloud.shards.keeper import Fenced
from cloud.shards.share import sum_elsewhere
from user_rl.clock import Clock
from user_rl.errors import UserRlError

STATUS_S = 1.0


class Gateways:
    """Asks each of `actors` again and again how it is, without waiting for one that does not say. One thread."""

    def __init__(self, actors: Mapping[int, Any], *, dead_after_s: float, clock: Clock) -> None:
        self._actors, self._dead_after_s, self._clock = dict(actors), dead_after_s, clock
        self._heard_s = dict.fromkeys(self._actors, clock.now_s())
        self._asked: dict[int, Any] = {}
        self.seen: dict[int, dict[str, Any]] = {}  # the last word of each

    def look(self) -> None:
        """Takes in what they say; waits a second at most, and only for those that spoke lately."""
        for shard, actor in self._actors.items():
            if shard not in self._asked:
                self._asked[shard] = actor.status.remote()
        due = [self._asked[shard] for shard in self.speaking]
        ray.wait(due, num_returns=len(due), timeout=STATUS_S) if due else None
        for shard, asked in list(self._asked.items()):
            if ray.wait([asked], timeout=0)[0]:
                self._hear(shard, asked)

    def share(self) -> None:
        """Tells each what the others have."""
        statuses = {shard: seen["gateway"] for shard, seen in self.seen.items()}
        if statuses.keys() == self._actors.keys():
            for shard in self.speaking:
                self._actors[shard].share.remote(sum_elsewhere(statuses, shard))

    @property
    def speaking(self) -> list[int]:
        """Those that spoke in the last two seconds."""
        return [s for s, heard_s in self._heard_s.items() if self._clock.now_s() - heard_s < 2 * STATUS_S]

    @property
    def living(self) -> list[int]:
        """Those that spoke within `dead_after_s`."""
        return [s for s, heard_s in self._heard_s.items() if self._clock.now_s() - heard_s < self._dead_after_s]

    def fence(self, shard: int, cell: str, dead: Callable[[int, str], Fenced | None]) -> Fenced | None:
        """How far a shard has come with a cell; one that is silent for good is ended, for `dead` to look at its log."""
        if shard in self.living:
            try:
                fenced: Fenced = ray.get(self._actors[shard].fence.remote(cell), timeout=STATUS_S)
                return fenced
            except (GetTimeoutError, RayActorError, RayTaskError):
                return None
        if shard in self._actors:
            ray.kill(self._actors[shard], no_restart=False)
        return dead(shard, cell)

    def _hear(self, shard: int, asked: Any) -> None:  # noqa: ANN401  # one of Ray's references
        del self._asked[shard]
        try:
            self.seen[shard] = ray.get(asked)
            self._heard_s[shard] = self._clock.now_s()
        except (GetTimeoutError, RayActorError, RayTaskError, UserRlError):
            return
