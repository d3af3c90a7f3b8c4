"""The run's side of the fleet: says where the gateway listens, asks for robots, keeps their leases alive.

Tokens lie in the run's `leases.json`, where the gateway reads them; so the gateway may be killed and started again.
"""

import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

from cloud.config import RobotsConfig
from cloud.run import read_json, write_json
from user_rl.ask import Ask, RobotsAsk
from user_rl.clock import Clock
from user_rl.errors import Unreachable, UserRlError
from user_rl.fleet import FAULT, FleetClient, Resource

log = logging.getLogger(__name__)

RENEW_EVERY_S = 1.0
REVIVE_AFTER_S = 5.0


class Claim:
    """Keeps what the run was granted. All calls from one thread."""

    def __init__(
        self, client: FleetClient, path: Path, *, run: str, robots: RobotsConfig, cells: tuple[str, ...], clock: Clock,
        revive: Callable[[], object] = lambda: None,
    ) -> None:  # fmt: skip
        """`cells`: the simulated ones, empty when any robot will do. `revive` starts a fleet of ours that died."""
        self._revive = revive
        self._client, self._path, self._run, self._robots = client, path, run, robots
        self._cells, self._clock = cells, clock
        self._next_s = clock.now_s()
        self.granted: dict[str, int] = {}
        self.cells_seen: dict[str, dict[str, Any]] = {}  # how the run's cells are, as in status.json
        self.trouble = ""  # why the run does not have its robots: the fleet is away, a queue, a fault
        self._away_since_s: float | None = None

    def tick(self, *, experience: str, weights: str) -> None:
        """Renews once a second, and asks again for what is missing; a fleet that is away costs a warning only."""
        now_s = self._clock.now_s()
        if now_s < self._next_s:
            return
        self._next_s = now_s + RENEW_EVERY_S
        try:
            self._client.open_run(self._run, experience, weights)
            self._granted(self._renew())
            self._away_since_s = None
        except UserRlError as error:
            self._away(error, now_s)

    def _away(self, error: UserRlError, now_s: float) -> None:
        if self.trouble != str(error):
            log.warning("%s", error)
        self.trouble = str(error)
        self._away_since_s = now_s if self._away_since_s is None else self._away_since_s
        if isinstance(error, Unreachable) and now_s - self._away_since_s >= REVIVE_AFTER_S:
            self._away_since_s = now_s
            self._revive()

    def release(self) -> None:
        """Gives everything back; robots halt and wait."""
        try:
            self._client.release(self._run, list(self.granted))
        except UserRlError as error:
            log.warning("%s", error)
        self.granted = {}

    def _renew(self) -> dict[str, int]:
        held = self._client.renew(self._run).cells
        if len(held) >= self._robots.count:
            mine = [r for r in self._client.list() if r.id in held]
            self.cells_seen = {r.id: _seen(r) for r in mine}
            self.trouble = "; ".join(f"{r.id}: {r.status.reason}" for r in mine if r.status.state == FAULT)
            return held
        robots = RobotsAsk(count=self._robots.count, model=self._robots.model, cells=self._cells)
        reply = self._client.request_lease(self._run, Ask(robots=robots))
        self.trouble = reply.reason
        return reply.granted or held

    def _granted(self, tokens: dict[str, int]) -> None:
        if tokens != self.granted:
            self.granted = dict(tokens)
            write_json(self._path, self.granted)


def _seen(cell: Resource) -> dict[str, Any]:
    status = cell.status
    return {
        "state": status.state if cell.alive else f"silent for {cell.silent_s:.0f} s",
        "rate_hz": cell.card.rate_hz if cell.card else 0.0,
        "spool_bytes": status.spool_bytes, "disk_free_bytes": status.disk_free_bytes,
    }  # fmt: skip


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
