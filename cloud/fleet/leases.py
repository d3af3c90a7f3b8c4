"""The rules of leasing: who may act, under which token, and when a cell may be given to another run.

A cell is *free*, *held* by a run, or *releasing*: the lease has ended, but its edge may not know. It is free again when
the edge says that it has released the token, or when `autonomy_s` (by which the edge halts by itself) and a margin have
passed since its last sign of life. A run's lease ends without RenewLease within `lease_ttl_s`.

All times are the monotonic clock's and none is stored. After a restart every cell counts as having lived, and every run
as having renewed, at the restart: a wait may begin anew, but neither a jump of the wall clock nor a crash ever shortens
one. Heartbeats therefore cost no disk write. Calls come from one thread at a time.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

from cloud.fleet.accelerators import AcceleratorConfig, Accelerators
from cloud.fleet.cells import Cells
from cloud.fleet.checks import CheckConfig
from cloud.fleet.requests import Requests
from cloud.fleet.store import CellRecord, Store
from hal.placement import ROBOTS, Grant, Plan, needs_of, plan
from hal.placement_reason import reason
from user_rl.ask import Ask
from user_rl.clock import Clock
from user_rl.errors import LeaseLost, Unreachable, WireError
from user_rl.fleet import AcceleratorCard, Assignment, Card, Held, LeaseReply, Resource, RunDoors, State, Status

LARGEST_TOKEN = 2**53  # an edge that has heard of a larger one is broken
SWEEP_S = 0.25  # heartbeats look at all cells no more often


@dataclass(frozen=True, kw_only=True)
class FleetConfig:
    """The times of leases, seconds."""

    command_ttl_s: float = 5.0  # how long a command of the cloud is worth anything
    autonomy_s: float = 900.0  # how long an edge acts without hearing from the fleet
    margin_s: float = 30.0  # for clocks that run at different rates
    lease_ttl_s: float = 60.0  # a run that does not renew loses its cells
    silent_after_s: float = 10.0  # a cell that is silent for longer is lost
    queue_ttl_s: float = 10.0  # a request that is not repeated is forgotten
    finish_s: float = 300.0  # an episode that goes on for longer is cut off for a higher priority
    checks: CheckConfig = field(default_factory=CheckConfig)
    accelerators: AcceleratorConfig = field(default_factory=AcceleratorConfig)


class Leases:
    """Every cell, every accelerator and every lease."""

    def __init__(self, store: Store, clock: Clock, config: FleetConfig) -> None:
        self._store, self._clock, self._config = store, clock, config
        self._cells = Cells(store, clock, config.checks, silent_after_s=config.silent_after_s, margin_s=config.margin_s)
        self._devices = Accelerators(store, clock, config.accelerators)
        self._doors = store.doors()
        now_s = clock.now_s()
        self._swept_s = now_s
        self._ends_s = dict.fromkeys(self._holders(), now_s + config.lease_ttl_s)
        self._requests = Requests(ttl_s=config.queue_ttl_s)
        self._finish: dict[str, tuple[str, float]] = {}  # by id: for which run, since when
        self._states: dict[str, tuple[State, float]] = {}  # by id: which, since when

    def register(self, card: Card) -> int:
        """The sequence number of the card's boot; raises LeaseLost when a newer boot has taken its place."""
        old = self._cells.get(card.cell)
        sequence = self._store.boot(card.cell, card.boot)
        if old and sequence < old.sequence:
            raise LeaseLost(_superseded(card.cell, card.boot, old))
        self._cells.register(card, sequence)
        return sequence

    def heartbeat(self, cell: str, boot: str, status: Status) -> Assignment:
        """A sign of life, and what the cell shall do; raises LeaseLost for a boot that is not the newest."""
        self.check_boot(cell, boot)
        if max(status.token, status.released) > LARGEST_TOKEN:
            raise WireError(f"{cell} has heard of token {status.token}, allowed {LARGEST_TOKEN}; mend its lease file")
        if self._clock.now_s() - self._swept_s >= SWEEP_S:
            self._sweep()
        self._cells.hear(cell, status)
        record = self._heard(self._cells[cell], status)
        self._note(cell, self._cells.state(record)[0])
        return self._assignment(record)

    def check_boot(self, cell: str, boot: str) -> None:
        """Raises Unreachable for a cell that never registered, LeaseLost for a boot that is not its newest."""
        record = self._cells.get(cell)
        if record is None:
            raise Unreachable(f"the fleet does not know the cell {cell}; register it again")
        if boot != record.card.boot:
            raise LeaseLost(_superseded(cell, boot, record))

    def has_cell(self, cell: str) -> bool:
        """Whether it has ever registered."""
        return cell in self._cells

    def cells_of(self, run: str | None) -> tuple[str, ...]:
        """What the run holds; None: every cell."""
        return tuple(c.card.cell for c in (self._cells if run is None else self._cells.of(run)))

    def stop(self, cells: Sequence[str], why: str) -> None:
        """A person has stopped these robots: nobody has them until a person admits them."""
        self._cells.stop(cells, why)

    def unconfirmed_stop(self, cell: str) -> str:
        """Why the cell was stopped, if its edge has not confirmed that; else nothing."""
        found = self._cells[cell].quarantine
        return found.reason if found is not None and found.is_unconfirmed else ""

    def stop_confirmed(self, cell: str) -> None:
        """The cell's edge has carried out its stop."""
        self._cells.stop_confirmed(cell)

    def open_run(self, run: str, doors: RunDoors) -> None:
        """Where the run listens."""
        if self._doors.get(run) != doors:
            self._store.open_run(run, doors)
            self._doors[run] = doors

    def request(self, run: str, ask: Ask) -> LeaseReply:
        """Everything that was asked for, counting what the run holds already, or a place in the queue and why."""
        self._sweep()
        now_s = self._clock.now_s()
        self._requests.ask(run, ask, now_s)
        entries = [self._cells.entry(record) for record in self._cells] + self._devices.entries()
        made = plan(entries, self._requests.waiting(), self._requests.asks())
        self._told_to_finish(made, now_s)
        if run in made.grants:
            self._grant(run, made.grants[run])
        if run in self._holders():
            self._ends_s[run] = now_s + self._config.lease_ttl_s
        if run in made.waiting:
            why = reason(run, entries, made)
            return replace(self._reply(run, ask), position=made.waiting[run].position, reason=why)
        self._requests.satisfied(run)
        return self._reply(run, ask)

    def renew(self, run: str) -> Held:
        """Keeps the run's lease; what it still holds."""
        self._sweep()
        cells, accelerators = {c.card.cell: c.token for c in self._cells.of(run)}, self._devices.of(run)
        if cells or accelerators:
            self._ends_s[run] = self._clock.now_s() + self._config.lease_ttl_s
        own = {*cells, *(id for ids in accelerators.values() for id in ids)}
        return Held(cells=cells, accelerators=accelerators, wanted_back=tuple(id for id in self._finish if id in own))

    def release(self, run: str, ids: tuple[str, ...]) -> None:
        """Ends the run's lease of these, or of all when none is named. What it does not hold is left alone."""
        self._sweep()
        self._requests.satisfied(run)
        self._cells.end([c for c in self._cells.of(run) if not ids or c.card.cell in ids])
        self._devices.release(run, ids)

    def report(self, cards: Sequence[AcceleratorCard]) -> float:
        """These accelerators are there; returns their time to live."""
        taken = [card.id for card in cards if card.id in self._cells]
        if taken:
            raise WireError(f"an accelerator has the id {taken[0]}, which is a cell's; give it another")
        return self._devices.report(cards)

    def quarantine(self, id: str, why: str) -> None:
        """A person takes a resource out of use."""
        self._owner(id).quarantine(id, why)

    def admit(self, id: str) -> None:
        """A person ends a quarantine; a check that still fails brings it back."""
        self._owner(id).admit(id)

    def expel(self, cell: str, why: str) -> None:
        """Ends the lease of a cell that nobody may trust; it is leased again once it lives and all is well."""
        self._cells.expel(cell, why)

    def cells(self) -> list[str]:
        """Every cell's name."""
        return [record.card.cell for record in self._cells]

    def held(self) -> dict[str, str]:
        """What is leased, by id: to which run, under which token or for which role."""
        cells = {c.card.cell: f"{c.run} under token {c.token}" for c in self._cells if c.held}
        return cells | {d.card.id: f"{d.run} for {d.role}" for d in self._devices if d.run}

    def resources(self) -> list[Resource]:
        """Every cell, then every accelerator, by id."""
        self._sweep()
        cells = [self._cells.resource(c, self._since_s(c.card.cell)) for c in self._cells]
        devices = [self._devices.resource(r, self._since_s(r.card.id)) for r in self._devices]
        return [self._told(resource) for resource in (*cells, *devices)]

    def busy(self) -> bool:
        """Whether any run holds anything. Writes nothing."""
        now_s = self._clock.now_s()
        return any(now_s < self._ends_s[run] for run in self._holders())

    def _sweep(self) -> None:
        now_s = self._swept_s = self._clock.now_s()
        ended = {run for run, end_s in self._ends_s.items() if now_s >= end_s}
        self._cells.end([c for c in self._cells if c.held and c.run in ended])
        for run in ended:
            self._devices.release(run)
            del self._ends_s[run]
        self._cells.sweep()
        self._devices.sweep()
        self._requests.forget(now_s, self._holders())
        self._finish = {id: told for id, told in self._finish.items() if self._requests.waits(told[0])}
        late = {id for id, (_, since_s) in self._finish.items() if now_s - since_s >= self._config.finish_s}
        self._cells.end([c for c in self._cells if c.held and c.card.cell in late])
        for record in self._cells:
            self._note(record.card.cell, self._cells.state(record)[0])
        for device in self._devices:
            self._note(device.card.id, self._devices.state(device)[0])

    def _note(self, id: str, state: State) -> None:
        if id not in self._states or self._states[id][0] != state:
            self._states[id] = (state, self._clock.now_s())

    def _told_to_finish(self, made: Plan, now_s: float) -> None:
        told = self._finish
        since_s = {id: told[id][1] if id in told and told[id][0] == run else now_s for id, run in made.finish.items()}
        self._finish = {id: (run, since_s[id]) for id, run in made.finish.items()}

    def _grant(self, run: str, grant: Grant) -> None:
        """What is replaced is given back first; then all that is new is kept in one transaction."""
        self._cells.end([c for c in self._cells.of(run) if c.card.cell in grant.dropped])
        if devices := [id for id in grant.dropped if id in self._devices]:
            self._devices.release(run, devices)
        cells = [self._cells[id] for id in grant.ids.get(ROBOTS, ())]
        others = self._devices.granted(run, {role: ids for role, ids in grant.ids.items() if role != ROBOTS})
        if cells or others:
            self._cells.keep(self._store.grant(cells, others, run, autonomy_s=self._config.autonomy_s))
            self._devices.keep(others)

    def _reply(self, run: str, ask: Ask) -> LeaseReply:
        need = needs_of(ask)[0].blind()
        granted = {c.card.cell: c.token for c in self._cells.of(run) if need.means(self._cells.entry(c).resource)}
        return LeaseReply(granted=granted, accelerators=self._devices.of(run))

    def _owner(self, id: str) -> Cells | Accelerators:
        if id in self._cells:
            return self._cells
        if id in self._devices:
            return self._devices
        known = [*(c.card.cell for c in self._cells), *(r.card.id for r in self._devices)]
        raise WireError(
            f"no resource has the id {id!r}, known are {', '.join(known[:20]) or 'none'}; give one of these"
        )

    def _told(self, resource: Resource) -> Resource:
        told = self._finish.get(resource.id)
        if told is None or resource.state != "leased" or resource.lease != "held":
            return resource
        return replace(resource, reason=f"finishes its episode, then goes to {told[0]}")

    def _heard(self, record: CellRecord, status: Status) -> CellRecord:
        after, token = record, max(record.token, status.token, status.released)
        if token > record.token:  # this fleet has lost its store once: the edge knows better
            after = replace(after, token=token, run="", held=False, autonomy_s=self._config.autonomy_s)
        if status.released >= token:
            after = replace(after, released=token, held=False)
        if after != record:
            self._cells.save(after)
        return after

    def _assignment(self, record: CellRecord) -> Assignment:
        run = self._doors.get(record.run, RunDoors())
        doors = run.of(record.card.cell)
        return Assignment(
            run=record.run, token=record.token, command_ttl_s=self._config.command_ttl_s, autonomy_s=record.autonomy_s,
            experience_address=doors.experience, weights_address=doors.weights, live_address=doors.live,
            inference=run.inference, wanted=record.held,
            finish_episode=record.held and record.card.cell in self._finish,
        )  # fmt: skip

    def _since_s(self, id: str) -> float:
        now_s = self._clock.now_s()
        return now_s - self._states.get(id, ("", now_s))[1]

    def _holders(self) -> set[str]:
        return {c.run for c in self._cells if c.held} | self._devices.runs()


def _superseded(cell: str, boot: str, record: CellRecord) -> str:
    return (
        f"boot {boot[:8]} of {cell} is superseded by boot {record.card.boot[:8]} (number {record.sequence}), "
        "allowed the newest; halt, and start again if this is the right machine"
    )
