"""Cells in the fleet's inventory: what each is, how it is, who has it, and whether it could be granted.

A cell in quarantine is granted to nobody. A check that fails, a fault, or silence while leased puts it there and leaves
its lease alone: the edge may come back to it, but its run's request counts it as missing, and when another takes its
place the lease on it ends. A check that is passed ends such a quarantine. A person's is ended by a person only.

Records are durable; times are the monotonic clock's and are not. Calls come from one thread at a time.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace

from cloud.fleet.checks import CheckConfig, Checks, doubt, trouble, working_cameras
from cloud.fleet.store import CellRecord, Quarantine, Store
from hal.placement import ROBOTS, Entry
from hal.resources import Capabilities, ResourceKind
from hal.resources import Resource as Thing
from user_rl.clock import Clock
from user_rl.fleet import Card, LeaseState, Resource, State, Status

UNHEARD = Status(state="unknown", reason="not heard since it registered or the fleet started")


class Cells:
    """Every cell. A record that is changed is on disk first."""

    def __init__(
        self, store: Store, clock: Clock, checks: CheckConfig, *, silent_after_s: float, margin_s: float
    ) -> None:
        self._store, self._clock, self._silent_after_s, self._margin_s = store, clock, silent_after_s, margin_s
        self._records = store.cells()
        self._checks = Checks(checks)
        self._alive_s = dict.fromkeys(self._records, clock.now_s())

    def __contains__(self, cell: str) -> bool:
        return cell in self._records

    def __getitem__(self, cell: str) -> CellRecord:
        return self._records[cell]

    def __iter__(self) -> Iterator[CellRecord]:
        """By name."""
        return iter(self._records.values())

    def get(self, cell: str) -> CellRecord | None:
        """Its record; None when it never registered."""
        return self._records.get(cell)

    def of(self, run: str) -> list[CellRecord]:
        """What the run holds."""
        return [c for c in self if c.held and c.run == run]

    def register(self, card: Card, sequence: int) -> None:
        """The card of the newest boot; another card or boot must be confirmed anew."""
        old = self._records.get(card.cell)
        record = replace(old, card=card, sequence=sequence) if old else CellRecord(card=card, sequence=sequence)
        if record != old:
            self.save(record)
        now_s = self._alive_s[card.cell] = self._clock.now_s()
        self._checks.begin(card.cell, now_s, anew=old is None or old.card != card)

    def hear(self, cell: str, status: Status) -> None:
        """A heartbeat."""
        now_s = self._alive_s[cell] = self._clock.now_s()
        self._checks.hear(self._records[cell].card, status, now_s)

    def end(self, records: Iterable[CellRecord]) -> None:
        """Ends the leases of these."""
        self.save(*(replace(record, held=False) for record in records))

    def save(self, *records: CellRecord) -> None:
        """Keeps the records, on disk first."""
        if records:
            self._store.save(*records)
            self.keep(records)

    def keep(self, records: Sequence[CellRecord]) -> None:
        """What the store has kept already."""
        known = len(self._records)
        self._records |= {record.card.cell: record for record in records}
        if len(self._records) > known:
            self._records = dict(sorted(self._records.items()))

    def sweep(self) -> None:
        """What time alone changes: edges that have halted by themselves, checks that are failed or passed."""
        self.save(*(replace(c, released=c.token) for c in self if c.releasing and self._wait_s(c) <= 0))
        now_s = self._clock.now_s()
        self.save(*(after for record in self if (after := self._judged(record, now_s)) != record))

    def quarantine(self, cell: str, why: str) -> None:
        """A person takes it out of use; its lease ends."""
        self.save(replace(self._records[cell], held=False, quarantine=Quarantine(cause="person", reason=why)))

    def stop(self, cells: Sequence[str], why: str) -> None:
        """A person has stopped these: as `quarantine`, all or none, until their edges confirm and a person admits."""
        found = Quarantine(cause="person", reason=why, is_unconfirmed=True)
        self.save(*(replace(self._records[cell], held=False, quarantine=found) for cell in cells))

    def stop_confirmed(self, cell: str) -> None:
        """The edge has carried its stop out: from now on its own latch holds it."""
        record = self._records[cell]
        if record.quarantine is not None and record.quarantine.is_unconfirmed:
            self.save(replace(record, quarantine=replace(record.quarantine, is_unconfirmed=False)))

    def expel(self, cell: str, why: str) -> None:
        """Its name does not count any more: its lease ends, and signs of life under a new one bring it back."""
        old = self._records[cell]
        self._checks.miss(cell)
        if old.held or old.quarantine is None:
            self.save(replace(old, held=False, quarantine=old.quarantine or Quarantine(cause="lost", reason=why)))

    def admit(self, cell: str) -> None:
        """A person ends a quarantine; what is not confirmed has to be, within its time."""
        self.save(replace(self._records[cell], quarantine=None))
        self._checks.again(cell, self._clock.now_s())

    def entry(self, record: CellRecord) -> Entry:
        """As placement sees it."""
        card, status = record.card, self._checks.status(record.card.cell)
        can = Capabilities(
            degrees_of_freedom=card.dof or None, control_modes=card.control_modes, rate_hz=card.rate_hz,
            cameras=working_cameras(card, status),
        )  # fmt: skip
        owner, role = (record.run, ROBOTS) if record.held else ("", "")
        thing = Thing(
            id=card.cell, kind=ResourceKind.CELL, model=card.model, site=card.site, owner=owner, capabilities=can
        )
        coming = record.releasing and record.quarantine is None and self._alive(record)
        degraded = trouble(status) if status else ""
        return Entry(resource=thing, blocked=self._blocked(record), coming=coming, degraded=degraded, role=role)

    def state(self, record: CellRecord) -> tuple[State, str]:
        """The worst that holds, and why."""
        status = self._checks.status(record.card.cell)
        if record.quarantine is not None:
            return "quarantined", record.quarantine.reason
        if status is None or self._lost(record):
            return "lost", f"{'not heard yet,' if status is None else 'silent for'} {self._silent_s(record):.0f} s"
        if why := doubt(record.card, status) or trouble(status):
            return "degraded", why
        if record.releasing:
            return "leased", f"given back, not confirmed yet, {self._wait_s(record):.0f} s at most"
        return ("leased" if record.held else "free"), ""

    def resource(self, record: CellRecord, since_s: float) -> Resource:
        """For whoever lists the inventory; in its state since `since_s` seconds."""
        card, (state, why) = record.card, self.state(record)
        lease: LeaseState = "held" if record.held else "releasing" if record.releasing else "free"
        return Resource(
            id=card.cell, kind="cell", model=card.model, site=card.site, state=state, since_s=since_s, reason=why,
            lease=lease, run=record.run, role=ROBOTS if record.held else "", token=record.token,
            alive=self._alive(record), silent_s=self._silent_s(record), sequence=record.sequence, card=card,
            status=self._checks.status(card.cell) or UNHEARD,
        )  # fmt: skip

    def _judged(self, record: CellRecord, now_s: float) -> CellRecord:
        """In quarantine when it has failed a check, out of it when it has passed all of them."""
        cell, old = record.card.cell, record.quarantine
        if self._lost(record):
            self._checks.miss(cell)
        found = self._checks.failed(record.card, now_s)
        if found is None and record.held and self._lost(record):
            why = f"lost while {record.run} had it, silent for more than {self._silent_after_s:.0f} s"
            found = Quarantine(cause="lost", reason=why)
        if found is not None and (old is None or old.cause not in ("person", found.cause)):
            return replace(record, quarantine=found)
        over = old is not None and old.cause != "person" and self._checks.passed(cell, now_s)
        return replace(record, quarantine=None) if over else record

    def _blocked(self, record: CellRecord) -> str:
        """Why nobody can have it now, and whoever holds it is not served by it either; empty: it is fine."""
        quarantine, silent_s = record.quarantine, self._silent_s(record)
        back = record.held and quarantine is not None and quarantine.cause == "lost" and not self._lost(record)
        if quarantine is not None and not back:
            return f"is quarantined: {quarantine.reason}"
        if record.releasing:
            return f"has not confirmed its release, waits {self._wait_s(record):.0f} s at most"
        if self._lost(record):
            return f"is silent for {silent_s:.0f} s"
        if record.held:
            return ""
        status = self._checks.status(record.card.cell)
        if status is None:
            return f"has not been heard yet, {silent_s:.0f} s after it registered or the fleet started"
        return f"is not checked yet: {why}" if (why := doubt(record.card, status)) else ""

    def _alive(self, record: CellRecord) -> bool:
        return self._checks.status(record.card.cell) is not None and not self._lost(record)

    def _lost(self, record: CellRecord) -> bool:
        return self._silent_s(record) > self._silent_after_s

    def _silent_s(self, record: CellRecord) -> float:
        return self._clock.now_s() - self._alive_s[record.card.cell]

    def _wait_s(self, record: CellRecord) -> float:
        """Until an edge that is silent has halted by itself."""
        return record.autonomy_s + self._margin_s - self._silent_s(record)
