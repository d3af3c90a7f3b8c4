"""The run's side of the fleet: says where the gateway listens, asks for robots and accelerators, keeps their leases.

The whole request is repeated every second: what is lost is replaced from what is free, or comes back when it has
healed; in between the run goes on with what works. Tokens lie in the run's `leases.json`, where the gateway reads them,
so that the gateway may be killed and started again.
"""

import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

from cloud.run import read_json, write_json
from user_rl.ask import Ask
from user_rl.clock import Clock
from user_rl.errors import Unreachable, UserRlError
from user_rl.fleet import AcceleratorCard, Accelerators, FleetClient, LeaseReply, Resource, RunDoors

log = logging.getLogger(__name__)

RENEW_EVERY_S = 1.0
REVIVE_AFTER_S = 5.0


class Claim:
    """Keeps what the run was granted. All calls from one thread."""

    def __init__(
        self, client: FleetClient, path: Path, *, run: str, ask: Ask, clock: Clock,
        revive: Callable[[], object] = lambda: None,
    ) -> None:  # fmt: skip
        """`revive` starts a fleet of ours that died."""
        self._client, self._path, self._run, self._ask = client, path, run, ask
        self._clock, self._revive = clock, revive
        self._next_s = clock.now_s()
        self.granted: dict[str, int] = {}
        self.accelerators: Accelerators = {}
        self.wanted_back: tuple[str, ...] = ()  # ids that a higher priority waits for
        self.cells_seen: dict[str, dict[str, Any]] = {}  # how the run's cells are, as in status.json
        self.trouble = ""  # why the run does not have all of it: the fleet is away, a queue, a fault
        self._cards: dict[str, AcceleratorCard] = {}
        self._away_since_s: float | None = None

    def tick(self, doors: RunDoors) -> None:
        """Renews once a second, and asks again for all of it; a fleet that is away costs a warning only."""
        now_s = self._clock.now_s()
        if now_s < self._next_s:
            return
        self._next_s = now_s + RENEW_EVERY_S
        try:
            self._client.open_run(self._run, doors)
            self._renew()
            self._away_since_s = None
        except UserRlError as error:
            self._away(error, now_s)

    def holds(self, role: str) -> list[AcceleratorCard] | None:
        """The accelerators for `role`, as they are asked for; None while they are not granted."""
        wanted = getattr(self._ask, role).gpus
        cards = [self._cards[i] for i in self.accelerators.get(role, ()) if i in self._cards]
        return cards if len(cards) == wanted else None

    def give_back(self, ids: tuple[str, ...]) -> None:
        """Gives some back; they are asked for again, behind whoever waits for them."""
        self._client.release(self._run, list(ids))
        self.accelerators = {r: tuple(i for i in held if i not in ids) for r, held in self.accelerators.items()}

    def release(self) -> None:
        """Gives everything back; robots halt and wait."""
        try:
            self._client.release(self._run)
        except UserRlError as error:
            log.warning("%s", error)
        self.granted, self.accelerators = {}, {}

    def _away(self, error: UserRlError, now_s: float) -> None:
        if self.trouble != str(error):
            log.warning("%s", error)
        self.trouble = str(error)
        self._away_since_s = now_s if self._away_since_s is None else self._away_since_s
        if isinstance(error, Unreachable) and now_s - self._away_since_s >= REVIVE_AFTER_S:
            self._away_since_s = now_s
            self._revive()

    def _renew(self) -> None:
        self.wanted_back = self._client.renew(self._run).wanted_back
        held = self._client.request_lease(self._run, self._ask)
        self.accelerators = held.accelerators
        self._look(held)
        if held.granted != self.granted:
            self.granted = dict(held.granted)
            write_json(self._path, self.granted)

    def _look(self, held: LeaseReply) -> None:
        """How what the run holds is, in the fleet's words."""
        found = {r.id: r for r in self._client.list()} if held.granted or held.accelerators else {}
        mine = [found[cell] for cell in held.granted if cell in found]
        self.cells_seen = {r.id: _seen(r) for r in mine}
        self.trouble = held.reason
        ids = [i for held_ids in held.accelerators.values() for i in held_ids]
        self._cards = {i: card for i in ids if i in found and (card := found[i].accelerator) is not None}


def _seen(cell: Resource) -> dict[str, Any]:
    status, card = cell.status, cell.card
    return {
        "state": status.state if cell.alive else f"silent for {cell.silent_s:.0f} s",
        "rate_hz": card.rate_hz if card else 0.0, "site": card.site if card else "", "spool_bytes": status.spool_bytes,
        "disk_free_bytes": status.disk_free_bytes,
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
