"""Nothing is ever leased twice: random histories of fleets, runs, edges, lost messages, late messages and restarts.

The edges here are models that do no more than `user_rl.fleet.Assignment` asks of an edge. The claim is about the world:
at the moment when a cell is granted, its edge does not act, and it never acts again under an older token.
"""

import tempfile
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from cloud.fleet.leases import FleetConfig, Leases
from cloud.fleet.queue import Ask
from cloud.fleet.store import Store
from user_rl.clock import FakeClock
from user_rl.errors import LeaseLost, Unreachable
from user_rl.fleet import Assignment, Card, Status

pytestmark = pytest.mark.slow
CELLS, RUNS = ("arm", "leg"), ("red", "blue")
DEADLINE_S = 5.0  # an edge does not listen to an answer that comes later
CONFIG = FleetConfig()
cells, runs = st.sampled_from(CELLS), st.sampled_from(RUNS)


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
    on_the_way: list[Message] = field(default_factory=list)

    @property
    def boot(self) -> str:
        return f"{self.boots:032x}"

    @property
    def card(self) -> Card:
        return Card(
            cell=self.cell, boot=self.boot, model="panda", rate_hz=10.0, schema_digest="d", action_dim=4,
            on_silence="stops",
        )  # fmt: skip

    def hear(self, told: Assignment, sent_s: float) -> None:
        if told.token < self.token:
            return
        self.token = told.token
        if told.wanted and told.token > self.released:
            self.acts_until_s = sent_s + told.autonomy_s
        else:
            self.halt()

    def halt(self) -> None:
        self.released, self.acts_until_s = self.token, -1.0


class History(RuleBasedStateMachine):
    """The fleet is real, with its database; time and the network are hypothesis's."""

    def __init__(self) -> None:
        super().__init__()
        self.folder = tempfile.TemporaryDirectory()
        self.clock, self.newest = FakeClock(), dict.fromkeys(CELLS, 0)
        self.edges = {cell: Edge(cell) for cell in CELLS}
        self.given: set[int] = set()
        self.open()
        for cell in CELLS:
            self.edge_boots(cell, lost=False)

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
        status = Status(state="idle", token=edge.token, released=edge.released)
        edge.on_the_way.append(Message(edge.boot, status, self.clock.now_s()))

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
        self.run_asks(run, 1, cell)
        self.all_is_well(cell)

    @rule(cell=cells, run=runs, silent_s=st.sampled_from([0.0, 61.0, 891.0, 931.0]), restart=st.booleans())
    def a_cell_goes_to_another_run(self, cell: str, run: str, silent_s: float, restart: bool) -> None:
        self.run_releases(run, cell)
        self.clock.advance(silent_s)
        if restart:
            self.fleet_restarts()
        self.edge_sends(cell)
        self.network_delivers(cell, len(self.edges[cell].on_the_way) - 1, answered=False)
        self.run_asks(RUNS[run == RUNS[0]], 1, cell)

    @rule(cell=cells)
    def edge_gives_up(self, cell: str) -> None:
        self.edges[cell].halt()

    @rule(run=runs, count=st.integers(1, 2), cell=st.none() | cells)
    def run_asks(self, run: str, count: int, cell: str | None) -> None:
        ask = Ask(count=1, cells=(cell,)) if cell else Ask(count=count)
        granted = self.leases.request(run, ask).granted
        assert len(granted) >= ask.count or not granted
        for name, token in granted.items():
            if token not in self.given:
                self.granted_anew(name, token)

    def granted_anew(self, cell: str, token: int) -> None:
        assert token > max(self.given, default=0)
        assert self.edges[cell].acts_until_s <= self.clock.now_s(), f"{cell} still acts under {self.edges[cell].token}"
        self.given.add(token)
        self.newest[cell] = token

    @rule(run=runs)
    def run_renews(self, run: str) -> None:
        for cell, token in self.leases.renew(run).items():
            assert token == self.newest[cell]

    @rule(run=runs, cell=st.none() | cells)
    def run_releases(self, run: str, cell: str | None) -> None:
        self.leases.release(run, (cell,) if cell else ())

    @invariant()
    def an_edge_acts_under_the_newest_token_only(self) -> None:
        for cell, edge in self.edges.items():
            if edge.acts_until_s > self.clock.now_s():
                assert edge.token == self.newest[cell] > edge.released

    @invariant()
    def what_is_on_disk_is_what_is_true(self) -> None:
        assert self.store.cells() == self.leases._cells


TestHistory = History.TestCase
TestHistory.settings = settings(max_examples=60, stateful_step_count=40, deadline=None)
