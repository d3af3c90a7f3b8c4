"""What a machine has becomes what the inventory takes, and the fleet says its own machine's to itself."""

import socket
import threading
from collections.abc import Sequence

import pytest

from cloud.fleet.machine import accelerator_cards, look, report_own
from hal.resources import Accelerator, Capabilities, Condition, Health, Resource, ResourceKind
from user_rl.fleet import AcceleratorCard


def device(id: str, **fields: object) -> Resource:
    accelerator = Accelerator(vendor="nvidia", memory_bytes=80, **fields)  # type: ignore[arg-type]
    return Resource(
        id=id, kind=ResourceKind.ACCELERATOR, model="H100", address="cuda:0", health=Health(condition=Condition.OK),
        capabilities=Capabilities(accelerator=accelerator),
    )  # fmt: skip


def test_devices_and_slices_become_cards_and_nothing_else_does() -> None:
    whole = device("GPU-1", multiprocessors=132, utilisation=0.5, slices=("MIG-1",))
    part = device("MIG-1", mig_profile="1g.10gb", parent="GPU-1")
    camera = Resource(id="c", kind=ResourceKind.CAMERA, model="m")
    assert accelerator_cards([whole, part, camera], node="n", site="lab") == [
        AcceleratorCard(
            id="GPU-1", node="n", site="lab", model="H100", address="cuda:0", memory_bytes=80, multiprocessors=132,
            utilisation=0.5, slices=("MIG-1",),
        ),
        AcceleratorCard(
            id="MIG-1", node="n", site="lab", model="H100", address="cuda:0", memory_bytes=80, mig_profile="1g.10gb",
            parent="GPU-1",
        ),
    ]  # fmt: skip


def test_a_device_that_does_not_answer_is_broken_and_named_after_its_machine() -> None:
    mute = Resource(
        id="nvidia-0", kind=ResourceKind.ACCELERATOR, model="", health=Health(condition=Condition.BROKEN, reason="why")
    )
    assert accelerator_cards([mute], node="n", site="") == [
        AcceleratorCard(id="n:nvidia-0", node="n", model="", health="broken", reason="why")
    ]
    unsure = Resource(id="GPU-1", kind=ResourceKind.ACCELERATOR, model="m")
    assert accelerator_cards([unsure], node="n", site="")[0].health == "degraded"


def test_a_machine_is_looked_at_again_and_again_until_the_fleet_ends() -> None:
    ended, reports = threading.Event(), list[Sequence[AcceleratorCard]]()

    def report(cards: Sequence[AcceleratorCard]) -> float:
        reports.append(cards)
        if len(reports) == 3:
            ended.set()
        return 0.003

    report_own(report, ended, site="lab", look=lambda: [device("GPU-1")])
    assert len(reports) == 3
    assert [(c.id, c.node, c.site) for c in reports[-1]] == [("GPU-1", socket.gethostname(), "lab")]


def test_a_machine_without_accelerators_is_not_looked_at_again() -> None:
    looks = []

    def nothing() -> list[Resource]:
        looks.append(1)
        return []

    report_own(lambda _: pytest.fail("there is nothing to report"), threading.Event(), site="", look=nothing)
    assert len(looks) == 1


def test_a_fleet_that_has_ended_is_told_nothing() -> None:
    ended = threading.Event()

    def slow() -> list[Resource]:
        ended.set()
        return [device("GPU-1")]

    report_own(lambda _: pytest.fail("it has ended"), ended, site="", look=slow)


@pytest.mark.slow
def test_the_real_look_finds_accelerators_or_nothing() -> None:
    assert all(resource.kind is ResourceKind.ACCELERATOR for resource in look())
