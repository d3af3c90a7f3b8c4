"""Accelerators in the fleet's inventory: reported with a time to live, leased for a role, free as soon as given back.

An accelerator has no life of its own, so there is no token and no doubt: its holder is the run that renews. What is not
reported for `accelerator_ttl_s` is lost; lost, unleased and not in quarantine for `forget_s`, it is forgotten. A device
that has slices is not leased: its slices are.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

from cloud.fleet.store import AcceleratorRecord, Quarantine, Store
from hal.placement import Entry
from hal.resources import Accelerator, Capabilities, ResourceKind
from hal.resources import Resource as Thing
from user_rl.clock import Clock
from user_rl.fleet import AcceleratorCard, Resource, State


@dataclass(frozen=True, kw_only=True)
class AcceleratorConfig:
    """The times of accelerators, seconds."""

    ttl_s: float = 30.0  # what is not reported again for so long is lost
    forget_s: float = 3600.0  # what has been lost for so long and belongs to nobody is forgotten


class Accelerators:
    """Every accelerator. Calls come from one thread at a time."""

    def __init__(self, store: Store, clock: Clock, config: AcceleratorConfig) -> None:
        self._store, self._clock, self.config = store, clock, config
        self._records = store.accelerators()
        self._cards: dict[str, AcceleratorCard] = {}  # with what changes, of those reported since the fleet's start
        self._seen_s = dict.fromkeys(self._records, clock.now_s())

    def __contains__(self, id: str) -> bool:
        return id in self._records

    def __iter__(self) -> Iterator[AcceleratorRecord]:
        """By id; the cards are the newest."""
        return (replace(r, card=self._cards.get(id, r.card)) for id, r in self._records.items())

    def report(self, cards: Sequence[AcceleratorCard]) -> float:
        """They are there now; returns their time to live."""
        changed = []
        for card in cards:
            self._cards[card.id], self._seen_s[card.id] = card, self._clock.now_s()
            kept = replace(card, utilisation=0.0, health="ok", reason="")
            old = self._records.get(card.id)
            record = replace(old, card=kept) if old else AcceleratorRecord(card=kept)
            if record != old:
                changed.append(record)
        self._save(changed)
        return self.config.ttl_s

    def sweep(self) -> None:
        """Forgets what has been away for long and is nobody's."""
        gone = [
            id for id, r in self._records.items()
            if self.silent_s(id) > self.config.forget_s and not r.run and r.quarantine is None
        ]  # fmt: skip
        if gone:
            self._store.forget_accelerators(*gone)
            for id in gone:
                del self._records[id], self._seen_s[id]
                self._cards.pop(id, None)

    def granted(self, run: str, ids: Mapping[str, Sequence[str]]) -> list[AcceleratorRecord]:
        """The records of a grant by role, for the store to keep together with the cells'; then call `keep`."""
        return [replace(self._records[id], run=run, role=role) for role, found in ids.items() for id in found]

    def keep(self, records: Iterable[AcceleratorRecord]) -> None:
        """What the store has kept."""
        known = len(self._records)
        self._records |= {record.card.id: record for record in records}
        if len(self._records) > known:
            self._records = dict(sorted(self._records.items()))

    def release(self, run: str, ids: Sequence[str] = ()) -> None:
        """The run gives these back, or all when none is named."""
        own = [r for r in self._records.values() if r.run == run and (not ids or r.card.id in ids)]
        self._save([replace(record, run="", role="") for record in own])

    def quarantine(self, id: str, why: str) -> None:
        """A person takes one out of use. A lease on it goes on, for nothing here could stop what runs there."""
        self._save([replace(self._records[id], quarantine=Quarantine(cause="person", reason=why))])

    def admit(self, id: str) -> None:
        """A person ends a quarantine."""
        self._save([replace(self._records[id], quarantine=None)])

    def of(self, run: str) -> dict[str, tuple[str, ...]]:
        """What the run holds: ids by role."""
        held: dict[str, tuple[str, ...]] = {}
        for id, record in self._records.items():
            if record.run == run:
                held[record.role] = (*held.get(record.role, ()), id)
        return held

    def runs(self) -> set[str]:
        """Who holds any."""
        return {record.run for record in self._records.values() if record.run}

    def silent_s(self, id: str) -> float:
        """Since it was reported, or since the fleet's start."""
        return self._clock.now_s() - self._seen_s[id]

    def alive(self, id: str) -> bool:
        """Whether it has been reported in time, in this life of the fleet."""
        return id in self._cards and self.silent_s(id) <= self.config.ttl_s

    def state(self, record: AcceleratorRecord) -> tuple[State, str]:
        """The worst that holds, and why."""
        card = record.card
        if record.quarantine is not None:
            return "quarantined", record.quarantine.reason
        if not self.alive(card.id):
            return "lost", f"not reported for {self.silent_s(card.id):.0f} s"
        if card.health != "ok":
            return "degraded", card.reason or f"is {card.health}"
        return ("leased", "") if record.run else ("free", "its slices are leased" * bool(card.slices))

    def resource(self, record: AcceleratorRecord, since_s: float) -> Resource:
        """For whoever lists the inventory; in its state since `since_s` seconds."""
        card, (state, why) = record.card, self.state(record)
        return Resource(
            id=card.id, kind="accelerator", model=card.model, site=card.site, state=state, since_s=since_s, reason=why,
            lease="held" if record.run else "free", run=record.run, role=record.role, token=0,
            alive=self.alive(card.id), silent_s=self.silent_s(card.id), accelerator=card,
        )  # fmt: skip

    def entries(self) -> list[Entry]:
        """All of them as placement sees them."""
        records = list(self)
        cut = {r.card.parent: r.card.id for r in records if r.card.parent and r.run}
        return [
            Entry(resource=_thing(r), blocked=self._blocked(r, cut), role=r.role, node=r.card.node) for r in records
        ]

    def _blocked(self, record: AcceleratorRecord, cut: Mapping[str, str]) -> str:
        """`cut`: a slice that is held, by its device."""
        card, (state, why) = record.card, self.state(record)
        unheard = card.id not in self._cards and self.silent_s(card.id) <= self.config.ttl_s
        if record.run and unheard and record.quarantine is None:
            return ""  # the fleet has just started: nobody had the time to report it
        if state in ("quarantined", "lost") or card.health == "broken":
            return f"is {state}: {why}"
        if record.run:
            return ""
        if card.slices or card.id in cut:
            return f"has slices, which are leased instead ({cut.get(card.id, card.slices)})"
        whole = self._records.get(card.parent)
        return f"is part of {card.parent}, which {whole.run} holds" if whole and whole.run else ""

    def _save(self, records: Sequence[AcceleratorRecord]) -> None:
        if records:
            self._store.save_accelerators(*records)
            self.keep(records)


def _thing(record: AcceleratorRecord) -> Thing:
    card = record.card
    device = Accelerator(
        vendor="", memory_bytes=card.memory_bytes, multiprocessors=card.multiprocessors or None,
        utilisation=card.utilisation, mig_profile=card.mig_profile, parent=card.parent, slices=card.slices,
    )  # fmt: skip
    return Thing(
        id=card.id, kind=ResourceKind.ACCELERATOR, model=card.model, site=card.site, address=card.address,
        capabilities=Capabilities(accelerator=device), owner=record.run,
    )  # fmt: skip
