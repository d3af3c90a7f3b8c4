"""A fleet's rules on a clock that the test moves: what most tests of them begin with."""

from dataclasses import replace
from pathlib import Path

from cloud.fleet.leases import FleetConfig, Leases
from cloud.fleet.store import Store
from user_rl.ask import Ask, RobotsAsk
from user_rl.clock import FakeClock
from user_rl.fleet import AcceleratorCard, Assignment, Card, LeaseReply, Part, Resource, Status

IDLE = Status(state="idle")
BOOT, LATER_BOOT = "a" * 32, "b" * 32
CONFIG = FleetConfig()


def card(cell: str = "arm", boot: str = BOOT, model: str = "panda") -> Card:
    return Card(cell=cell, boot=boot, model=model, rate_hz=10.0, schema_digest="d", action_dim=4, on_silence="stops")


class Bench:
    """A fleet that can be restarted, and the calls that most tests make."""

    def __init__(self, path: Path, config: FleetConfig = CONFIG) -> None:
        self.clock, self._path = FakeClock(1000.0), path
        self.store = Store(path)
        self.leases = Leases(self.store, self.clock, config)

    def restart(self, config: FleetConfig = CONFIG) -> None:
        self.store.close()
        self.clock = FakeClock(5.0)  # another zero
        self.store = Store(self._path)
        self.leases = Leases(self.store, self.clock, config)

    def add(self, *cells: str) -> None:
        for cell in cells:
            self.leases.register(card(cell))
            self.beat(cell)

    def beat(self, cell: str = "arm", status: Status = IDLE, boot: str = BOOT) -> Assignment:
        return self.leases.heartbeat(cell, boot, status)

    def ask(self, run: str, count: int = 1, model: str = "", *cells: str) -> LeaseReply:
        return self.leases.request(run, Ask(robots=RobotsAsk(count=count, model=model, cells=cells)))

    def join(self, cell: str = "arm", *cameras: str, **changes: object) -> Card:
        """An edge that speaks of its parts registers, and says nothing yet."""
        speaks = replace(card(cell), dof=7, cameras=cameras, **changes)  # type: ignore[arg-type]
        self.leases.register(speaks)
        return speaks

    def say(self, cell: str = "arm", *parts: str, state: str = "idle", **broken: str) -> Assignment:
        """A heartbeat that names `parts` as well, and others as broken with a reason."""
        well = [Part(name=part) for part in parts]
        bad = [Part(name=part, health="broken", reason=why) for part, why in broken.items()]
        return self.leases.heartbeat(cell, BOOT, Status(state=state, parts=(*well, *bad)))

    def report(self, *ids: str, **changes: object) -> None:
        """These accelerators are there."""
        first = AcceleratorCard(id="", node="n", model="h100")
        self.leases.report([replace(first, id=id, **changes) for id in ids])  # type: ignore[arg-type]

    def state(self, name: str = "arm") -> tuple[str, str]:
        """Its state and the reason."""
        return self.cell(name).state, self.cell(name).reason

    def keep(self, run: str, for_s: float) -> None:
        """The run renews, and nobody else says anything."""
        for _ in range(int(for_s)):
            self.clock.advance(1.0)
            self.leases.renew(run)

    def cell(self, name: str = "arm") -> Resource:
        return next(r for r in self.leases.resources() if r.id == name)
