"""The rules of leasing: who may act, under which token, and when a cell may be given to another run.

A cell is *free*, *held* by a run, or *releasing*: the lease has ended, but its edge may not know. It is free again when
the edge says that it has released the token, or when `autonomy_s` (by which the edge halts by itself) and a margin have
passed since its last sign of life. A run's lease ends without RenewLease within `lease_ttl_s`.

All times are the monotonic clock's and none is stored. After a restart every cell counts as having lived, and every run
as having renewed, at the restart: a wait may begin anew, but neither a jump of the wall clock nor a crash ever shortens
one. Heartbeats therefore cost no disk write. Calls come from one thread at a time.
"""

from dataclasses import dataclass, replace

from cloud.fleet.queue import Ask, Queue
from cloud.fleet.store import CellRecord, Store
from user_rl.clock import Clock
from user_rl.errors import LeaseLost, Unreachable, WireError
from user_rl.fleet import FAULT, Assignment, Card, LeaseReply, LeaseState, Resource, Status

LARGEST_TOKEN = 2**53  # an edge that has heard of a larger one is broken
UNKNOWN = Status(state="unknown", reason="not heard since the fleet started")


@dataclass(frozen=True, kw_only=True)
class FleetConfig:
    """The times of leases, seconds."""

    command_ttl_s: float = 5.0  # how long a command of the cloud is worth anything
    autonomy_s: float = 900.0  # how long an edge acts without hearing from the fleet
    margin_s: float = 30.0  # for clocks that run at different rates
    lease_ttl_s: float = 60.0  # a run that does not renew loses its cells
    silent_after_s: float = 10.0  # a cell that is silent for longer is not granted
    queue_ttl_s: float = 10.0  # a request that is not repeated is forgotten


class Leases:
    """Every cell and every lease."""

    def __init__(self, store: Store, clock: Clock, config: FleetConfig) -> None:
        self._store, self._clock, self._config = store, clock, config
        self._cells, self._runs = store.cells(), store.runs()
        now_s = clock.now_s()
        self._start_s = now_s
        self._alive_s = dict.fromkeys(self._cells, now_s)
        self._status: dict[str, Status] = {}  # of cells whose current boot has sent a heartbeat
        self._ends_s = {c.run: now_s + config.lease_ttl_s for c in self._cells.values() if c.held}
        self._queue = Queue(ttl_s=config.queue_ttl_s)

    def register(self, card: Card) -> int:
        """The sequence number of the card's boot; raises LeaseLost when a newer boot has taken its place."""
        old = self._cells.get(card.cell)
        sequence = self._store.boot(card.cell, card.boot)
        if old and sequence < old.sequence:
            raise LeaseLost(_superseded(card.cell, card.boot, old))
        record = replace(old, card=card, sequence=sequence) if old else CellRecord(card=card, sequence=sequence)
        if record != old:
            self._save(record)
        if old is None or old.card.boot != card.boot:
            self._status.pop(card.cell, None)
        self._alive_s[card.cell] = self._clock.now_s()
        return sequence

    def heartbeat(self, cell: str, boot: str, status: Status) -> Assignment:
        """A sign of life, and what the cell shall do; raises LeaseLost for a boot that is not the newest."""
        record = self._cells.get(cell)
        if record is None:
            raise Unreachable(f"the fleet does not know the cell {cell}; register it again")
        if boot != record.card.boot:
            raise LeaseLost(_superseded(cell, boot, record))
        if max(status.token, status.released) > LARGEST_TOKEN:
            raise WireError(f"{cell} has heard of token {status.token}, allowed {LARGEST_TOKEN}; mend its lease file")
        self._sweep()
        self._alive_s[cell], self._status[cell] = self._clock.now_s(), status
        return self._assignment(self._heard(self._cells[cell], status))

    def open_run(self, run: str, experience_address: str, weights_address: str) -> None:
        """Where the run's gateway listens."""
        if self._runs.get(run) != (experience_address, weights_address):
            self._store.open_run(run, experience_address, weights_address)
            self._runs[run] = (experience_address, weights_address)

    def request(self, run: str, ask: Ask) -> LeaseReply:
        """Everything that was asked for, counting what the run holds already, or a place in the queue."""
        self._sweep()
        now_s = self._clock.now_s()
        held = {c: self._held(c) for c in {run, *self._queue.runs()}}
        free = [c.card for c in self._cells.values() if self._why_not(c) is None]
        position, chosen = self._queue.ask(run, ask, now_s=now_s, free=free, held=held)
        if chosen is None:
            return LeaseReply(granted={}, position=position, reason=self._reason(run, ask, position))
        if chosen:
            records = [self._cells[card.cell] for card in chosen]
            for record in self._store.grant(records, run, autonomy_s=self._config.autonomy_s):
                self._cells[record.card.cell] = record
        self._ends_s[run] = now_s + self._config.lease_ttl_s
        return LeaseReply(granted={c.card.cell: c.token for c in self._of(run) if ask.matches(c.card)})

    def renew(self, run: str) -> dict[str, int]:
        """Keeps the run's lease; the tokens of the cells that it still holds."""
        self._sweep()
        held = {c.card.cell: c.token for c in self._of(run)}
        if held:
            self._ends_s[run] = self._clock.now_s() + self._config.lease_ttl_s
        return held

    def release(self, run: str, cells: tuple[str, ...]) -> None:
        """Ends the run's lease of these cells, or of all when none is named. What it does not hold is left alone."""
        self._sweep()
        self._queue.forget(run)
        self._end([c for c in self._of(run) if not cells or c.card.cell in cells])

    def resources(self) -> list[Resource]:
        """Every cell, by name."""
        self._sweep()
        return [self._resource(record) for _, record in sorted(self._cells.items())]

    def busy(self) -> bool:
        """Whether any run holds any cell. Writes nothing."""
        now_s = self._clock.now_s()
        return any(record.held and now_s < self._ends_s[record.run] for record in self._cells.values())

    def _sweep(self) -> None:
        now_s = self._clock.now_s()
        ended = {run for run, end_s in self._ends_s.items() if now_s >= end_s}
        self._end([c for c in self._cells.values() if c.held and c.run in ended])
        for run in ended:
            del self._ends_s[run]
        silent = [c for c in self._cells.values() if c.in_doubt and not c.held and self._doubt_s(c) <= 0]
        if silent:  # their edges have halted by themselves
            self._save(*(replace(c, released=c.token) for c in silent))

    def _heard(self, record: CellRecord, status: Status) -> CellRecord:
        after, token = record, max(record.token, status.token, status.released)
        if token > record.token:  # this fleet has lost its store once: the edge knows better
            after = replace(after, token=token, run="", held=False, autonomy_s=self._config.autonomy_s)
        if status.released >= token:
            after = replace(after, released=token, held=False)
        if after != record:
            self._save(after)
        return after

    def _assignment(self, record: CellRecord) -> Assignment:
        experience_address, weights_address = self._runs.get(record.run, ("", ""))
        return Assignment(
            run=record.run, token=record.token, command_ttl_s=self._config.command_ttl_s, autonomy_s=record.autonomy_s,
            experience_address=experience_address, weights_address=weights_address, wanted=record.held,
        )  # fmt: skip

    def _why_not(self, record: CellRecord) -> str | None:
        cell, silent_s = record.card.cell, self._silent_s(record)
        status = self._status.get(cell)
        if record.held:
            return f"{cell} is held by {record.run}"
        if record.in_doubt:
            return f"{cell} has not confirmed its release, waits {self._doubt_s(record):.0f} s at most"
        if status is None or silent_s > self._config.silent_after_s:
            return f"{cell} is silent for {silent_s:.0f} s"
        return f"{cell} has a fault: {status.reason}" if status.state == FAULT else None

    def _reason(self, run: str, ask: Ask, position: int) -> str:
        cells = [c for c in self._cells.values() if ask.matches(c.card) and not (c.held and c.run == run)]
        missing = [f"{name} is not registered" for name in ask.cells if name not in self._cells]
        why = missing + [text for c in cells if (text := self._why_not(c))]
        ahead = [f"{position - 1} requests are ahead"] if position > 1 else []
        free = sum(self._why_not(c) is None for c in cells)
        found = f"{len(self._held_matching(run, ask))} of {ask.count} cells held, {free} more free"
        return "; ".join([found, *ahead, *why[:8]]) + ("; and more" if len(why) > 8 else "")

    def _resource(self, record: CellRecord) -> Resource:
        lease: LeaseState = "held" if record.held else "releasing" if record.in_doubt else "free"
        silent_s, status = self._silent_s(record), self._status.get(record.card.cell)
        return Resource(
            card=record.card, sequence=record.sequence, lease=lease, run=record.run, token=record.token,
            alive=status is not None and silent_s <= self._config.silent_after_s, silent_s=silent_s,
            status=status or UNKNOWN,
        )  # fmt: skip

    def _silent_s(self, record: CellRecord) -> float:
        return self._clock.now_s() - self._alive_s[record.card.cell]

    def _doubt_s(self, record: CellRecord) -> float:
        return record.autonomy_s + self._config.margin_s - self._silent_s(record)

    def _of(self, run: str) -> list[CellRecord]:
        return [c for c in self._cells.values() if c.held and c.run == run]

    def _held(self, run: str) -> list[Card]:
        return [c.card for c in self._of(run)]

    def _held_matching(self, run: str, ask: Ask) -> list[Card]:
        return [card for card in self._held(run) if ask.matches(card)]

    def _end(self, records: list[CellRecord]) -> None:
        if records:
            self._save(*(replace(record, held=False) for record in records))

    def _save(self, *records: CellRecord) -> None:
        self._store.save(*records)
        self._cells |= {record.card.cell: record for record in records}


def _superseded(cell: str, boot: str, record: CellRecord) -> str:
    return (
        f"boot {boot[:8]} of {cell} is superseded by boot {record.card.boot[:8]} (number {record.sequence}), "
        "allowed the newest; halt, and start again if this is the right machine"
    )
