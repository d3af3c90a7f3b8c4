"""The edge's own heart against a real fleet in real time: one cell is well, one hangs, one lies about its cameras."""

import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from cloud.authority import Authority
from cloud.fleet import FleetServer, ServeConfig, admin_bundle
from edge.heart import Heart
from user_rl.clock import SystemClock
from user_rl.fleet import Card, FleetClient, Part, Resource, Status

pytestmark = pytest.mark.slow
LONG_S = 60.0
PARTS = (Part(name="robot"), Part(name="wrist"), Part(name="side"))


def card(cell: str) -> Card:
    return Card(
        cell=cell, boot="a" * 32, model="light", rate_hz=10.0, schema_digest="d", action_dim=7, on_silence="stops",
        cameras=("wrist", "side"), dof=7,
    )  # fmt: skip


class Edges:
    """Hearts, each with a bundle of its own, and a look at the inventory."""

    def __init__(self, home: Path, stack: ExitStack) -> None:
        self._stack = stack
        self._fleet = FleetServer(ServeConfig(home=home), clock=SystemClock())
        stack.callback(self._fleet.close)
        self._authority = Authority(home / "authority")
        self.admin = stack.enter_context(FleetClient(admin_bundle(home).at(self._fleet.address), deadline_s=LONG_S))

    def beats(self, cell: str, *parts: Part) -> Heart:
        bundle = self._authority.mint(cell, kind="edge", fleet_address=self._fleet.address)
        heart = Heart(bundle, card(cell), SystemClock(), 0.2)
        heart.status = Status(state="waiting for a lease", parts=parts)
        heart.start()
        self._stack.callback(heart.stop, LONG_S)
        return heart

    def hangs(self, cell: str) -> None:
        bundle = self._authority.mint(cell, kind="edge", fleet_address=self._fleet.address)
        self._stack.enter_context(FleetClient(bundle, deadline_s=LONG_S)).register(card(cell))

    def until(self, *states: str) -> list[Resource]:
        until_s, listed = time.monotonic() + LONG_S, self.admin.list()
        while [resource.state for resource in listed] != list(states):
            assert time.monotonic() < until_s, [(r.id, r.state, r.reason) for r in listed]
            time.sleep(0.02)
            listed = self.admin.list()
        return listed


@pytest.fixture
def edges(home: Path) -> Iterator[Edges]:
    with ExitStack() as stack:
        yield Edges(home, stack)


def test_who_hangs_and_who_lies_is_quarantined_and_the_others_are_free(edges: Edges) -> None:
    edges.hangs("hangs")
    liar = edges.beats("lies", *PARTS[:2])
    edges.beats("well", *PARTS)
    listed = edges.until("quarantined", "quarantined", "free")
    assert [r.reason for r in listed] == [
        "registered, but has not said how its parts are for 2 s",
        "claims camera side; its parts confirm only the robot, camera wrist",
        "",
    ]
    liar.status = Status(state="waiting for a lease", parts=PARTS)
    edges.until("quarantined", "free", "free")


def test_a_camera_that_breaks_and_one_that_is_plugged_in_are_seen(edges: Edges) -> None:
    heart = edges.beats("arm", *PARTS)
    edges.until("free")
    heart.status = Status(state="waiting", parts=(*PARTS[:2], Part(name="side", health="broken", reason="no frames")))
    [seen] = edges.until("degraded")
    assert seen.reason == "camera side is broken: no frames"
    heart.status = Status(state="waiting", parts=PARTS[:2])
    heart.card = Card(**{**vars(card("arm")), "cameras": ("wrist",)})
    edges.until("free")


def test_a_heart_asks_again_soon_then_more_rarely_and_soon_again_after_an_answer(home: Path) -> None:
    bundle = Authority(home / "authority").mint("arm", kind="edge", fleet_address="nowhere:0")
    heart = Heart(bundle, card("arm"), SystemClock(), 1.0)
    assert [heart.pause_s(answered=False) for _ in range(7)] == [0.2, 0.4, 0.8, 1.6, 3.2, 5.0, 5.0]
    assert heart.pause_s(answered=True) == 1.0
    assert heart.pause_s(answered=False) == 0.2
