"""Nothing is ever leased twice: random histories of fleets, runs, edges, lost messages, late messages and restarts.

Cells break, lie and hang, persons take things out of use, higher priorities ask for what others have, accelerators
come and go. The edges here are models that do no more than `user_rl.fleet.Assignment` asks of an edge. The claim is
about the world: at the moment when a cell is granted, its edge does not act, and it never acts again under an older
token; when an accelerator is granted, no other run believes that it has it; nothing in quarantine is granted at all.
"""

import tempfile
from dataclasses import dataclass, field, replace
from pathlib import Path

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from cloud.fleet.leases import FleetConfig, Leases
from cloud.fleet.store import Store
from user_rl.ask import AcceleratorsAsk, Ask, RobotsAsk
from user_rl.clock import FakeClock
from user_rl.errors import LeaseLost, Unreachable
from user_rl.fleet import AcceleratorCard, Accelerators, Assignment, Card, Part, Status

pytestmark = pytest.mark.slow
CELLS, RUNS, GPUS = ("arm", "leg"), ("red", "blue", "green"), ("gpu:n:0", "gpu:n:1")
WELL = (Part(name="robot"), Part(name="wrist"))
CONDITIONS = {
    "well": Status(state="idle", parts=WELL),
    "opening": Status(state="starting"),
    "a broken camera": Status(state="idle", parts=(Part(name="robot"), Part(name="wrist", health="broken"))),
    "a broken robot": Status(state="idle", parts=(Part(name="robot", health="broken"), Part(name="wrist"))),
    "a lie": Status(state="idle", parts=(Part(name="robot"),)),
    "a fault": Status(state="fault", parts=WELL),
}
DEADLINE_S = 5.0  # an edge does not listen to an answer that comes later
CONFIG = FleetConfig()
cells, runs, ids = st.sampled_from(CELLS), st.sampled_from(RUNS), st.sampled_from(CELLS + GPUS)


@dataclass
class Message:
    """A heartbeat on its way."""

    boot: str
    status: Status
    sent_s: float


@dataclass
class Edge:
    """What the durable file and the running daemon of one edge hold."""

    cell: str
    boots: int = 0
    token: int = 0
    released: int = 0
    acts_until_s: float = -1.0
    condition: str = "well"
    finishing: bool = False
    on_the_way: list[Message] = field(default_factory=list)

    @property
    def boot(self) -> str:
        return f"{self.boots:032x}"

    @property
    def card(self) -> Card:
        return Card(
            cell=self.cell, boot=self.boot, model="panda", rate_hz=10.0, schema_digest="d", action_dim=4,
            on_silence="stops", dof=4, cameras=("wrist",),
        )  # fmt: skip

    @property
    def status(self) -> Status:
        return replace(CONDITIONS[self.condition], token=self.token, released=self.released)

    def hear(self, told: Assignment, sent_s: float) -> None:
        if told.token < self.token:
            return
        self.token = told.token
        if told.wanted and told.token > self.released:
            self.acts_until_s, self.finishing = sent_s + told.autonomy_s, told.finish_episode
        else:
            self.halt()

    def halt(self) -> None:
        self.released, self.acts_until_s, self.finishing = self.token, -1.0, False


class History(RuleBasedStateMachine):
    """The fleet is real, with its database; time and the network are hypothesis's."""

    def __init__(self) -> None:
        super().__init__()
        self.folder = tempfile.TemporaryDirectory()
        self.clock, self.newest = FakeClock(), dict.fromkeys(CELLS, 0)
        self.edges = {cell: Edge(cell) for cell in CELLS}
        self.given: set[int] = set()
        self.believed: dict[str, dict[str, float]] = {run: {} for run in RUNS}  # accelerators, until when
        self.open()
        for cell in CELLS:
            self.edge_boots(cell, lost=False)
        self.accelerators_are_reported(2)

    def open(self) -> None:
        self.store = Store(Path(self.folder.name) / "fleet.sqlite")
        self.leases = Leases(self.store, self.clock, CONFIG)

    def teardown(self) -> None:
        self.store.close()
        self.folder.cleanup()

    @rule(by_s=st.sampled_from([0.5, 3.0, 9.0]))
    def time_passes(self, by_s: float) -> None:
        self.clock.advance(by_s)

    @rule(by_s=st.sampled_from([61.0, 400.0, 871.0, 931.0]))
    def much_time_passes(self, by_s: float) -> None:
        self.clock.advance(by_s)

    @rule()
    def fleet_restarts(self) -> None:
        self.store.close()
        self.open()

    @rule(cell=cells, lost=st.booleans())
    def edge_boots(self, cell: str, lost: bool) -> None:
        edge = self.edges[cell]
        edge.boots, edge.acts_until_s = edge.boots + 1, -1.0
        if not lost:
            self.edge_registers(cell)

    @rule(cell=cells)
    def edge_registers(self, cell: str) -> None:
        self.leases.register(self.edges[cell].card)

    @rule(cell=cells)
    def edge_loses_its_disk(self, cell: str) -> None:
        edge = self.edges[cell]
        self.edges[cell] = Edge(cell, boots=edge.boots, on_the_way=edge.on_the_way)
        self.edge_boots(cell, lost=False)

    @rule(cell=cells)
    def edge_sends(self, cell: str) -> None:
        edge = self.edges[cell]
        edge.on_the_way.append(Message(edge.boot, edge.status, self.clock.now_s()))

    @rule(cell=cells, condition=st.sampled_from([*CONDITIONS, "well", "well"]))
    def a_part_changes(self, cell: str, condition: str) -> None:
        self.edges[cell].condition = condition

    @rule(cell=cells)
    def an_episode_ends(self, cell: str) -> None:
        if self.edges[cell].finishing:
            self.edges[cell].halt()

    @rule(cell=cells)
    def a_cell_passes_its_checks(self, cell: str) -> None:
        self.edges[cell].condition = "well"
        self.edge_registers(cell)
        for _ in range(3):
            self.all_is_well(cell)
            self.clock.advance(1.5)
        self.all_is_well(cell)

    @rule(count=st.integers(1, 2))
    def accelerators_are_reported(self, count: int) -> None:
        self.leases.report([AcceleratorCard(id=gpu, node="n", model="m") for gpu in GPUS[:count]])

    @rule(what=ids)
    def a_person_takes_it_out_of_use(self, what: str) -> None:
        if what in {resource.id for resource in self.leases.resources()}:
            self.leases.quarantine(what, "why")

    @rule(what=ids)
    def a_person_brings_it_back(self, what: str) -> None:
        if what in {resource.id for resource in self.leases.resources()}:
            self.leases.admit(what)

    @rule(cell=cells, which=st.integers(0, 5), answered=st.booleans())
    def network_delivers(self, cell: str, which: int, answered: bool) -> None:
        edge = self.edges[cell]
        if not edge.on_the_way:
            return
        message = edge.on_the_way.pop(which % len(edge.on_the_way))
        try:
            told = self.leases.heartbeat(cell, message.boot, message.status)
        except (LeaseLost, Unreachable):
            return
        in_time = self.clock.now_s() - message.sent_s <= DEADLINE_S
        if answered and in_time and message.boot == edge.boot:
            edge.hear(told, message.sent_s)

    @rule(cell=cells)
    def all_is_well(self, cell: str) -> None:
        self.edge_sends(cell)
        self.network_delivers(cell, len(self.edges[cell].on_the_way) - 1, answered=True)

    @rule(cell=cells, run=runs)
    def a_run_gets_a_cell(self, cell: str, run: str) -> None:
        self.edge_registers(cell)
        self.all_is_well(cell)
        self.run_asks(run, 1, cell, 0, 0, 0)
        self.all_is_well(cell)

    @rule(cell=cells, run=runs, silent_s=st.sampled_from([0.0, 61.0, 891.0, 931.0]), restart=st.booleans())
    def a_cell_goes_to_another_run(self, cell: str, run: str, silent_s: float, restart: bool) -> None:
        self.run_releases(run, cell)
        self.clock.advance(silent_s)
        if restart:
            self.fleet_restarts()
        self.edge_sends(cell)
        self.network_delivers(cell, len(self.edges[cell].on_the_way) - 1, answered=False)
        self.run_asks(RUNS[run == RUNS[0]], 1, cell, 0, 0, 0)

    @rule(cell=cells, run=runs, obeys=st.booleans())
    def a_higher_priority_takes_over(self, cell: str, run: str, obeys: bool) -> None:
        self.a_cell_passes_its_checks(cell)
        self.run_asks(run, 1, cell, 0, -5, 0)
        self.all_is_well(cell)
        other = RUNS[run == RUNS[0]]
        self.run_asks(other, 1, cell, 0, 5, 0)
        self.all_is_well(cell)
        if obeys:
            self.an_episode_ends(cell)
            self.all_is_well(cell)
        self.run_asks(other, 1, cell, 0, 5, 0)

    @rule(run=runs, gpus=st.integers(1, 2), later_s=st.sampled_from([0.0, 31.0, 61.0]))
    def two_runs_want_accelerators(self, run: str, gpus: int, later_s: float) -> None:
        for asks, cell in zip((run, RUNS[run == RUNS[0]]), CELLS, strict=True):
            self.a_cell_passes_its_checks(cell)
            self.accelerators_are_reported(2)
            self.run_asks(asks, 1, cell, gpus, 0, 0)
            self.clock.advance(later_s)

    @rule(cell=cells)
    def edge_gives_up(self, cell: str) -> None:
        self.edges[cell].halt()

    @rule(
        run=runs, count=st.integers(1, 2), cell=st.none() | cells, gpus=st.integers(0, 2),
        priority=st.sampled_from([-5, 0, 0, 5]), enough=st.integers(0, 1),
    )  # fmt: skip
    def run_asks(self, run: str, count: int, cell: str | None, gpus: int, priority: int, enough: int) -> None:
        robots = RobotsAsk(cells=(cell,)) if cell else RobotsAsk(count=count, min_count=enough)
        learner = AcceleratorsAsk(gpus=gpus)
        barred = {r.id for r in self.leases.resources() if r.state == "quarantined"}
        before = self.leases.renew(run)
        ask = Ask(robots=robots, learner=learner, priority=priority, preemptible=priority < 0)
        reply = self.leases.request(run, ask)
        held = sum(map(len, reply.accelerators.values()))
        if reply.position == 0:
            assert len(reply.granted) >= robots.count
            assert held >= gpus
        elif not before.cells:
            assert not reply.granted, "neither whole nor queued"
        for name, token in reply.granted.items():
            if token not in self.given:
                assert name not in barred
                self.granted_anew(name, token)
        self.run_believes(run, reply.accelerators, barred)

    def granted_anew(self, cell: str, token: int) -> None:
        assert token > max(self.given, default=0)
        assert self.edges[cell].acts_until_s <= self.clock.now_s(), f"{cell} still acts under {self.edges[cell].token}"
        self.given.add(token)
        self.newest[cell] = token

    def run_believes(self, run: str, accelerators: Accelerators, barred: set[str]) -> None:
        now_s, old = self.clock.now_s(), self.believed[run]
        new = {gpu for found in accelerators.values() for gpu in found}
        for gpu in new - {gpu for gpu, until_s in old.items() if until_s > now_s}:
            holders = [r for r in RUNS if r != run and self.believed[r].get(gpu, -1.0) > now_s]
            assert not holders, f"{gpu} is given to {run} and held by {holders}"
            assert gpu not in barred or gpu in old
        self.believed[run] = dict.fromkeys(new, now_s + CONFIG.lease_ttl_s)

    @rule(run=runs)
    def run_renews(self, run: str) -> None:
        held = self.leases.renew(run)
        for cell, token in held.cells.items():
            assert token == self.newest[cell]
        self.run_believes(run, held.accelerators, set())

    @rule(run=runs, what=st.none() | ids)
    def run_releases(self, run: str, what: str | None) -> None:
        self.leases.release(run, (what,) if what else ())
        self.believed[run] = {gpu: u for gpu, u in self.believed[run].items() if what not in (None, gpu)}

    @invariant()
    def an_edge_acts_under_the_newest_token_only(self) -> None:
        for cell, edge in self.edges.items():
            if edge.acts_until_s > self.clock.now_s():
                assert edge.token == self.newest[cell] > edge.released

    @invariant()
    def what_is_on_disk_is_what_is_true(self) -> None:
        assert self.store.cells() == {record.card.cell: record for record in self.leases._cells}
        assert self.store.accelerators() == self.leases._devices._records


TestHistory = History.TestCase
TestHistory.settings = settings(max_examples=60, stateful_step_count=40, deadline=None)
