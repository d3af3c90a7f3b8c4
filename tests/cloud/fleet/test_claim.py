"""cloud.claim: the run's side of a lease, against a real fleet."""

from dataclasses import replace
from pathlib import Path

import pytest

from cloud.claim import Claim, token_reader
from cloud.fleet import FleetServer
from cloud.run import read_json, write_json
from tests.cloud.fleet.conftest import Enrol
from user_rl.ask import AcceleratorsAsk, Ask, RobotsAsk
from user_rl.clock import FakeClock
from user_rl.fleet import FAULT, AcceleratorCard, Assignment, Card, Doors, FleetClient, Part, RunDoors, Status

WHERE = RunDoors(doors=Doors(experience="tcp://127.0.0.1:1001", weights="tcp://127.0.0.1:1002"))


def register(client: FleetClient, cell: str) -> None:
    boot = cell.encode().hex().ljust(32, "0")[:32]
    client.register(
        Card(cell=cell, boot=boot, model="panda_sim", rate_hz=10, schema_digest="d", action_dim=4, on_silence="stops")
    )
    client.heartbeat(cell, boot, Status(state="waiting for a lease"))


def make_claim(enrol: Enrol, path: Path, clock: FakeClock, *cells: str, count: int = 1) -> Claim:
    ask = Ask(robots=RobotsAsk(count=count, min_count=1, cells=cells))
    return Claim(enrol("r", "run"), path, run="r", ask=ask, clock=clock)


def test_what_is_granted_is_written_down_for_the_gateway(enrol: Enrol, clock: FakeClock, tmp_path: Path) -> None:
    register(enrol("a", "edge"), "a")
    claim = make_claim(enrol, tmp_path / "leases.json", clock, "a")
    claim.tick(WHERE)
    assert claim.granted.keys() == {"a"}
    assert read_json(tmp_path / "leases.json") == claim.granted
    assert token_reader(tmp_path / "leases.json")("a") == claim.granted["a"] > 0


def test_a_queued_request_says_why_and_is_asked_again(enrol: Enrol, clock: FakeClock, tmp_path: Path) -> None:
    claim = make_claim(enrol, tmp_path / "leases.json", clock, "a", "b", count=2)
    register(enrol("a", "edge"), "a")
    claim.tick(WHERE)
    assert claim.granted == {}
    assert "b is not registered" in claim.trouble
    register(enrol("b", "edge"), "b")
    claim.tick(WHERE)
    assert claim.granted == {}, "asked again before its time"
    clock.advance(1.0)
    claim.tick(WHERE)
    assert claim.granted.keys() == {"a", "b"}
    assert claim.trouble == ""


def test_a_lease_is_kept_for_as_long_as_it_is_renewed(enrol: Enrol, clock: FakeClock, tmp_path: Path) -> None:
    edge = enrol("a", "edge")
    register(edge, "a")
    claim = make_claim(enrol, tmp_path / "leases.json", clock, "a")
    claim.tick(WHERE)
    token = claim.granted["a"]
    for _ in range(5):
        clock.advance(30.0)
        claim.tick(WHERE)
    assert claim.granted == {"a": token}


def test_how_the_runs_cells_are_is_seen_with_each_renewal(enrol: Enrol, clock: FakeClock, tmp_path: Path) -> None:
    edge = enrol("a", "edge")
    register(edge, "a")
    register(enrol("other", "edge"), "other")
    claim = make_claim(enrol, tmp_path / "leases.json", clock, "a")
    claim.tick(WHERE)
    boot = b"a".hex().ljust(32, "0")
    edge.heartbeat("a", boot, Status(state="running", token=claim.granted["a"], spool_bytes=5, disk_free_bytes=0))
    clock.advance(1.0)
    claim.tick(WHERE)
    seen = {"state": "running", "rate_hz": 10.0, "site": "", "spool_bytes": 5, "disk_free_bytes": 0}
    assert claim.cells_seen == {"a": seen}
    clock.advance(20.0)
    claim.tick(WHERE)
    assert claim.cells_seen["a"]["state"] == "silent for 21 s"


def test_a_released_cell_is_free_again_and_its_token_old(enrol: Enrol, clock: FakeClock, tmp_path: Path) -> None:
    register(enrol("a", "edge"), "a")
    claim = make_claim(enrol, tmp_path / "leases.json", clock, "a")
    claim.tick(WHERE)
    claim.release()
    assert claim.granted == {}
    assert [r.lease for r in enrol("me", "admin").list()] != ["held"]


def test_a_fleet_that_is_away_costs_one_warning_and_keeps_what_was_granted(
    enrol: Enrol, fleet: FleetServer, clock: FakeClock, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    register(enrol("a", "edge"), "a")
    claim = make_claim(enrol, tmp_path / "leases.json", clock, "a")
    claim.tick(WHERE)
    granted = dict(claim.granted)
    fleet.close()
    for _ in range(3):
        clock.advance(1.0)
        claim.tick(WHERE)
    assert claim.granted == granted
    assert claim.trouble
    assert len(caplog.records) == 1


def test_a_fault_of_a_leased_cell_is_told(enrol: Enrol, clock: FakeClock, tmp_path: Path) -> None:
    edge = enrol("a", "edge")
    register(edge, "a")
    claim = make_claim(enrol, tmp_path / "leases.json", clock, "a")
    claim.tick(WHERE)
    edge.heartbeat("a", b"a".hex().ljust(32, "0"), Status(state=FAULT, reason="joint 3 is hot; let it cool"))
    for _ in range(2):
        clock.advance(1.0)
        claim.tick(WHERE)
    assert claim.trouble == "0 of 1 cell is free: a is quarantined: fault: joint 3 is hot; let it cool"


def test_a_fleet_that_stays_away_is_started_again(
    enrol: Enrol, fleet: FleetServer, clock: FakeClock, tmp_path: Path
) -> None:
    revived: list[float] = []
    claim = Claim(
        enrol("r", "run"), tmp_path / "leases.json", run="r", ask=Ask(), clock=clock,
        revive=lambda: revived.append(clock.now_s()),
    )  # fmt: skip
    fleet.close()
    start_s = clock.now_s()
    for _ in range(12):
        claim.tick(WHERE)
        clock.advance(1.0)
    assert revived == [start_s + 5, start_s + 10]


def test_tokens_are_read_again_when_they_change(tmp_path: Path) -> None:
    path = tmp_path / "leases.json"
    token = token_reader(path)
    assert token("a") is None
    write_json(path, {"a": 7})
    assert token("a") == 7
    write_json(path, {"a": 8, "b": 9})
    assert (token("a"), token("b"), token("c")) == (8, 9, None)


class Robot:
    """A cell's edge as far as the fleet sees it: it says how it is, and obeys."""

    def __init__(self, enrol: Enrol, cell: str) -> None:
        self.cell, self.boot = cell, cell.encode().hex().ljust(32, "0")[:32]
        self._client = enrol(cell, "edge")
        self.status = Status(state="waiting for a lease", parts=(Part(name="robot"),))
        self._client.register(
            Card(cell=cell, boot=self.boot, model="fake", rate_hz=10, schema_digest="d", action_dim=2, dof=2,
                 on_silence="stops")
        )  # fmt: skip
        self.beat()

    def beat(self) -> Assignment:
        """One heartbeat; a robot that is not wanted, or is to finish, is halted at once and says so."""
        told = self._client.heartbeat(self.cell, self.boot, self.status).assignment
        if not told.wanted or told.finish_episode:
            self.status = replace(self.status, token=told.token, released=told.token)
            told = self._client.heartbeat(self.cell, self.boot, self.status).assignment
        return told


def passes(clock: FakeClock, seconds: float, claims: list[Claim], robots: list[Robot]) -> None:
    """So many seconds in which everybody who is there says so."""
    for _ in range(round(seconds)):
        clock.advance(1.0)
        for robot in robots:
            robot.beat()
        for claim in claims:
            claim.tick(WHERE)


def claim_of(enrol: Enrol, path: Path, clock: FakeClock, run: str, ask: Ask) -> Claim:
    return Claim(enrol(run, "run"), path / f"{run}.json", run=run, ask=ask, clock=clock)


def test_a_lost_robot_is_replaced_from_the_free_ones(enrol: Enrol, clock: FakeClock, tmp_path: Path) -> None:
    a, b, c = robots = [Robot(enrol, cell) for cell in "abc"]
    claim = claim_of(enrol, tmp_path, clock, "r", Ask(robots=RobotsAsk(count=2, min_count=1)))
    passes(clock, 3, [claim], robots)
    assert claim.granted.keys() == {"a", "b"}
    passes(clock, 13, [claim], [b, c])
    assert claim.granted.keys() == {"b", "c"}
    assert a.beat().wanted is False
    assert claim.trouble == ""


def test_with_no_robot_to_replace_it_the_run_goes_on_with_fewer_and_says_why(
    enrol: Enrol, clock: FakeClock, tmp_path: Path
) -> None:
    a, b = robots = [Robot(enrol, cell) for cell in "ab"]
    claim = claim_of(enrol, tmp_path, clock, "r", Ask(robots=RobotsAsk(count=2, min_count=1)))
    passes(clock, 3, [claim], robots)
    granted = dict(claim.granted)
    passes(clock, 13, [claim], [b])
    assert claim.granted == granted
    assert "a is quarantined" in claim.trouble
    assert claim.cells_seen["a"]["state"] == "silent for 13 s"
    passes(clock, 5, [claim], [a, b])  # it is back, and passes its check
    assert (claim.granted, claim.trouble) == (granted, "")


def test_a_higher_priority_gets_a_robot_at_the_end_of_its_episode(
    enrol: Enrol, clock: FakeClock, tmp_path: Path
) -> None:
    robot = Robot(enrol, "a")
    low = claim_of(enrol, tmp_path, clock, "low", Ask(preemptible=True))
    high = claim_of(enrol, tmp_path, clock, "high", Ask(priority=5))
    passes(clock, 3, [low], [robot])
    assert low.granted.keys() == {"a"}
    passes(clock, 3, [low, high], [robot])
    assert not low.granted
    assert high.granted.keys() == {"a"}
    high.release()
    passes(clock, 3, [low], [robot])
    assert low.granted.keys() == {"a"}


def test_accelerators_are_held_by_role_and_given_back_for_a_higher_priority(
    enrol: Enrol, clock: FakeClock, tmp_path: Path
) -> None:
    robots = [Robot(enrol, cell) for cell in "ab"]
    gpu = AcceleratorCard(id="gpu:n:0", node="n", model="H100")
    enrol("watch", "admin").report_accelerators([gpu])
    one = AcceleratorsAsk(gpus=1)
    low = claim_of(enrol, tmp_path, clock, "low", Ask(learner=one, preemptible=True))
    assert low.holds("learner") is None
    passes(clock, 3, [low], robots)
    held = low.holds("learner")
    assert held is not None
    assert [card.id for card in held] == ["gpu:n:0"]
    assert low.holds("inference") == []
    high = claim_of(enrol, tmp_path, clock, "high", Ask(learner=one, priority=5))
    passes(clock, 2, [low, high], robots)
    assert low.wanted_back == ("gpu:n:0",)
    assert high.holds("learner") is None
    low.give_back(("gpu:n:0",))
    passes(clock, 2, [high, low], robots)
    assert high.holds("learner") is not None
    assert low.holds("learner") is None
