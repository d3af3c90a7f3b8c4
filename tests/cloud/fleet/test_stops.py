"""Emergency stops over real gRPC and TLS: who may stop whom, who is told, and what is kept of it."""

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pytest

from cloud.authority import Authority
from cloud.fleet import FleetServer, ServeConfig
from cloud.fleet.stops import Stops
from tests.cloud.fleet.test_service import BOOT, CARD, IDLE
from user_rl.ask import Ask, RobotsAsk
from user_rl.clock import FakeClock
from user_rl.emergency import EmergencyClient, Order, Stopped
from user_rl.errors import LeaseLost, Unauthorized, Unreachable, UserRlError
from user_rl.trust import Kind

EDGES = 256
TEXT = "emergency stop by admin:me: smoke"


class Ear:
    """An edge that listens on a thread, and may confirm what it hears."""

    def __init__(self, client: EmergencyClient, cell: str, boot: str = BOOT, *, confirms: bool = True) -> None:
        self.client, self.cell, self.boot, self.confirms = client, cell, boot, confirms
        self.heard: list[Order] = []
        self.confirmed: list[Order] = []
        self.error: UserRlError | None = None
        self.news = threading.Condition()
        self.thread = threading.Thread(target=self._run, daemon=True)
        self.thread.start()

    def wait(self, condition: Callable[[], bool]) -> None:
        with self.news:
            assert self.news.wait_for(condition, 60.0), "it did not happen"

    @property
    def stops(self) -> list[Order]:
        return [order for order in self.heard if order.kind]

    def _run(self) -> None:
        try:
            for order in self.client.watch(self.cell, self.boot):
                self._tell(self.heard, order)
                if order.kind and self.confirms:
                    self.client.confirm(self.cell, self.boot, order.id, done=True, detail="halted")
                    self._tell(self.confirmed, order)
        except UserRlError as error:
            self.error = error
        with self.news:
            self.news.notify_all()

    def _tell(self, to: list[Order], order: Order) -> None:
        with self.news:
            to.append(order)
            self.news.notify_all()


class Site:
    """Enrolled clients of one fleet."""

    def __init__(self, fleet: FleetServer, authority: Authority) -> None:
        self.fleet, self.authority = fleet, authority
        self.clients: list[EmergencyClient] = []
        self.ears: list[Ear] = []

    def client(self, name: str, kind: Kind) -> EmergencyClient:
        bundle = self.authority.mint(name, kind=kind, fleet_address=self.fleet.address)
        self.clients.append(EmergencyClient(bundle, deadline_s=60.0))
        return self.clients[-1]

    def edge(self, cell: str) -> EmergencyClient:
        """Registered and heard."""
        client = self.client(cell, "edge")
        client.register(replace(CARD, cell=cell))
        client.heartbeat(cell, BOOT, IDLE)
        return client

    def ear(self, cell: str, client: EmergencyClient | None = None, *, confirms: bool = True) -> Ear:
        """An edge that listens by now."""
        ear = Ear(client or self.edge(cell), cell, confirms=confirms)
        self.ears.append(ear)
        ear.wait(lambda: bool(ear.heard) or ear.error is not None)
        return ear

    def close(self) -> None:
        for client in self.clients:
            client.end_watch()
            client.close()
        for ear in self.ears:
            ear.thread.join(60.0)


@pytest.fixture
def site(fleet: FleetServer, authority: Authority) -> Iterator[Site]:
    made = Site(fleet, authority)
    yield made
    made.close()


def stop(client: EmergencyClient, *cells: str, wait_s: float = 30.0) -> dict[str, Stopped]:
    return {one.cell: one for one in client.stop_robots(cells, "smoke", wait_s=wait_s)}


def test_everybody_who_listens_is_told_at_once_and_who_does_not_is_not_confirmed(site: Site) -> None:
    ears = [site.ear("arm-1"), site.ear("arm-2")]
    site.edge("arm-3")
    admin = site.client("me", "admin")
    said = stop(admin, wait_s=0.5)
    assert {cell: (one.confirmed, one.detail) for cell, one in said.items()} == {
        "arm-1": (True, "halted"), "arm-2": (True, "halted"), "arm-3": (False, "its edge does not listen to the fleet"),
    }  # fmt: skip
    assert [order.reason for ear in ears for order in ear.stops] == [TEXT, TEXT]
    assert {r.id: (r.state, r.reason) for r in admin.list()} == dict.fromkeys(said, ("quarantined", TEXT))


def test_an_edge_that_does_not_answer_is_not_confirmed(site: Site) -> None:
    site.ear("arm-1", confirms=False)
    assert stop(site.client("me", "admin"), "arm-1", wait_s=0.2)["arm-1"] == Stopped(
        "arm-1", False, 0.0, "told, and no answer came"
    )  # the test's clock stands


def test_a_name_that_nobody_has_keeps_no_other_robot_from_being_stopped(site: Site) -> None:
    ear = site.ear("arm-1")
    said = stop(site.client("me", "admin"), "arm-1", "arm-9", wait_s=0.5)
    assert said["arm-9"].detail == "no cell has this name"
    assert said["arm-1"].confirmed
    assert len(ear.stops) == 1


def test_a_run_stops_what_it_holds_and_nothing_else(site: Site) -> None:
    held, other = site.ear("arm-1"), site.ear("arm-2")
    run = site.client("demo", "run")
    run.request_lease("demo", Ask(robots=RobotsAsk(cells=("arm-1",))))
    with pytest.raises(Unauthorized, match="run:demo may not stop arm-2, allowed an admin, and a run what it holds"):
        stop(run, "arm-2")
    with pytest.raises(Unauthorized, match="may not stop arm-1, arm-2"):
        stop(run, "arm-1", "arm-2")
    assert list(stop(run)) == ["arm-1"]
    assert [len(ear.stops) for ear in (held, other)] == [1, 0]
    assert not site.clients[0].heartbeat("arm-1", BOOT, IDLE).assignment.wanted
    with pytest.raises(Unauthorized, match=r"run:demo may not stop arm-1, allowed .* \(nothing\)"):
        stop(run, "arm-1")


@pytest.mark.parametrize("kind", ["edge", "labeller"])
def test_nobody_else_stops_anything(site: Site, kind: Kind) -> None:
    ear = site.ear("arm-1")
    with pytest.raises(Unauthorized, match=f"{kind}:arm-2 may not stop every robot, allowed an admin"):
        stop(site.client("arm-2", kind))
    assert ear.stops == []


def test_nobody_listens_or_answers_for_another(site: Site) -> None:
    site.ear("arm-1")
    for kind in ("admin", "run", "edge"):
        client = site.client("arm-2", kind)
        with pytest.raises(Unauthorized, match=f"{kind}:arm-2 may not speak for edge:arm-1"):
            next(client.watch("arm-1", BOOT))
        with pytest.raises(Unauthorized, match="may not speak for edge:arm-1"):
            client.confirm("arm-1", BOOT, 1, done=True, detail="")


def test_one_stream_for_a_cell_the_newer_ends_the_older(site: Site) -> None:
    first = site.ear("arm-1")
    second = site.ear("arm-1", first.client)
    first.thread.join(60.0)
    assert not first.thread.is_alive()
    stop(site.client("me", "admin"), "arm-1")
    assert len(second.stops) == 1
    assert first.stops == []


def test_a_superseded_boot_is_not_told_any_more(site: Site) -> None:
    ear = site.ear("arm-1")
    ear.client.register(replace(CARD, boot="f" * 32))
    ear.thread.join(60.0)
    assert isinstance(ear.error, LeaseLost)
    with pytest.raises(LeaseLost, match="is superseded by boot ffffffff"):
        next(ear.client.watch("arm-1", BOOT))


def test_a_revoked_names_stream_ends(site: Site) -> None:
    ear = site.ear("arm-1")
    site.authority.revoke("arm-1", kind="edge")
    ear.thread.join(60.0)
    assert isinstance(ear.error, Unauthorized)


def test_a_cell_that_never_registered_has_to_do_that_first(site: Site) -> None:
    with pytest.raises(Unreachable, match="the fleet does not know the cell arm-1; register it again"):
        next(site.client("arm-1", "edge").watch("arm-1", BOOT))


def test_who_was_away_is_told_when_it_listens_until_it_confirms_or_a_person_admits_it(site: Site) -> None:
    arm, other, admin = site.edge("arm-1"), site.edge("arm-2"), site.client("me", "admin")
    stop(admin, wait_s=0.0)
    admin.admit("arm-2")
    first = site.ear("arm-1", arm, confirms=False)
    first.wait(lambda: len(first.stops) == 1)
    second = site.ear("arm-1", arm)  # it has not confirmed
    second.wait(lambda: len(second.confirmed) == 1)
    assert second.stops == first.stops
    third, fourth = site.ear("arm-1", arm), site.ear("arm-2", other)
    for ear in (third, fourth):  # a sign of life later nothing has come
        ear.wait(lambda ear=ear: len(ear.heard) > 1)  # type: ignore[misc]
        assert ear.stops == []
    assert {r.id: r.state for r in admin.list()} == {"arm-1": "quarantined", "arm-2": "free"}


def test_a_stop_that_was_not_confirmed_outlives_the_fleet(home: Path, authority: Authority) -> None:
    with started(home, authority) as site:
        site.edge("arm-1")
        stop(site.client("me", "admin"), wait_s=0.0)
    with started(home, authority) as site:
        ear = site.ear("arm-1")
        ear.wait(lambda: len(ear.confirmed) == 1)
        assert ear.stops[0].reason == TEXT
        assert site.client("me", "admin").list()[0].state == "quarantined"
    with started(home, authority) as site:
        ear = site.ear("arm-1")
        ear.wait(lambda: len(ear.heard) > 1)
        assert ear.stops == []


@contextmanager
def started(home: Path, authority: Authority) -> Iterator[Site]:
    server = FleetServer(ServeConfig(home=home), clock=FakeClock(100.0))
    site = Site(server, authority)
    try:
        yield site
    finally:
        site.close()
        server.close()


def test_an_answer_to_another_order_settles_nothing(site: Site) -> None:
    ear = site.ear("arm-1", confirms=False)
    admin = site.client("me", "admin")
    stop(admin, "arm-1", wait_s=0.0)
    ear.wait(lambda: len(ear.stops) == 1)
    for _ in range(2):
        ear.client.confirm("arm-1", BOOT, ear.stops[0].id + 7, done=True, detail="")
    ear.client.confirm("arm-1", BOOT, ear.stops[0].id, done=False, detail="the halt command failed")
    again = site.ear("arm-1", ear.client)
    again.wait(lambda: len(again.stops) == 1)


def test_streams_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("cloud.fleet.stops.WATCHES", 2)
    stops = Stops(FakeClock())
    first = stops.open("arm-1", BOOT, "")
    stops.open("arm-2", BOOT, "")
    with pytest.raises(Unreachable, match="the fleet tells 2 edges already, allowed 2; try again"):
        stops.open("arm-3", BOOT, "")
    stops.open("arm-1", BOOT, "")  # in place of its older one
    stops.close(first)  # which is not the newest: nothing is freed
    with pytest.raises(Unreachable):
        stops.open("arm-3", BOOT, "")


def test_a_call_too_many_is_carried_out_and_not_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("cloud.fleet.stops.WAITERS", 0)
    stops = Stops(FakeClock())
    stream = stops.open("arm-1", BOOT, "")
    answers = list(stops.answers(stops.stop(["arm-1"], "x", 0.0), 60.0))
    assert [(one.cell, one.confirmed) for one in answers] == [("arm-1", False)]
    assert stream.next(1.0) == Order(1, "stop", "x")


@pytest.mark.slow
def test_two_hundred_and_fifty_six_edges_listen_and_the_fleet_still_answers_and_tells_all(site: Site) -> None:
    for i in range(EDGES):
        site.edge(f"arm-{i:03d}")
    for i, client in enumerate(list(site.clients)):
        site.ears.append(Ear(client, f"arm-{i:03d}"))
    for ear in site.ears:
        ear.wait(lambda ear=ear: bool(ear.heard))  # type: ignore[misc]
    admin = site.client("me", "admin")
    assert len(admin.list()) == EDGES
    said = stop(admin)
    assert len(said) == EDGES
    assert all(one.confirmed for one in said.values())
