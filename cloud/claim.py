"""The run's side of the fleet: says where the gateway listens, asks for robots, keeps their leases alive.

Tokens lie in the run's `leases.json`, where the gateway reads them; so the gateway may be killed and started again.
"""

import logging
from collections.abc import Callable
from pathlib import Path

from cloud.config import RobotsConfig
from cloud.run import read_json, write_json
from user_rl.clock import Clock
from user_rl.errors import UserRlError
from user_rl.fleet import FleetClient

log = logging.getLogger(__name__)

RENEW_EVERY_S = 1.0


class Claim:
    """Keeps what the run was granted. All calls from one thread."""

    def __init__(
        self, client: FleetClient, path: Path, *, run: str, robots: RobotsConfig, cells: tuple[str, ...], clock: Clock
    ) -> None:
        """`cells` are the names of the simulated cells, empty when any robot of the fleet will do."""
        self._client, self._path, self._run, self._robots = client, path, run, robots
        self._cells, self._clock = cells, clock
        self._next_s = clock.now_s()
        self.granted: dict[str, int] = {}
        self.reason = ""  # why the fleet did not answer
        self.waiting = ""  # why the request is queued

    def tick(self, *, experience: str, weights: str) -> None:
        """Renews once a second, and asks again for what is missing; a fleet that is away costs a warning only."""
        if self._clock.now_s() < self._next_s:
            return
        self._next_s = self._clock.now_s() + RENEW_EVERY_S
        try:
            self._client.open_run(self._run, experience, weights)
            self._granted(self._renew())
            self.reason = ""
        except UserRlError as error:
            if self.reason != str(error):
                log.warning("%s", error)
            self.reason = str(error)

    def release(self) -> None:
        """Gives everything back; robots halt and wait."""
        try:
            self._client.release(self._run, list(self.granted))
        except UserRlError as error:
            log.warning("%s", error)
        self.granted = {}

    def _renew(self) -> dict[str, int]:
        held = self._client.renew(self._run)
        if len(held) >= self._robots.count:
            return held
        reply = self._client.request_lease(
            self._run, count=self._robots.count, model=self._robots.model, cells=self._cells
        )  # fmt: skip
        self.waiting = reply.reason
        return reply.granted or held

    def _granted(self, tokens: dict[str, int]) -> None:
        if tokens != self.granted:
            self.granted = dict(tokens)
            write_json(self._path, self.granted)


def token_reader(path: Path) -> Callable[[str], int | None]:
    """The current lease token of a cell, read again whenever `path` changes."""
    seen: tuple[int, dict[str, int]] = (-1, {})

    def token(cell: str) -> int | None:
        nonlocal seen
        stamp_ns = path.stat().st_mtime_ns if path.exists() else -1
        if stamp_ns != seen[0]:
            seen = (stamp_ns, read_json(path))
        return seen[1].get(cell)

    return token
