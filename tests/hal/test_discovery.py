import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest

from hal.discovery import Probe, discover, hosts_in, machine_probes, robot_probes
from hal.resources import Resource, ResourceKind
from user_rl.errors import HardwareError

HERE = "tests.hal.test_discovery"


def probing(argument: Any) -> Iterator[Any]:  # noqa: ANN401
    """A probe that finds `names` and then ends as it is told."""
    for name in argument["names"]:
        yield msgspec.to_builtins(Resource(id=name, kind=ResourceKind.SERIAL, model="m"))
    if argument["end"] == "hang":
        time.sleep(600)
    if argument["end"] == "refuse":
        raise HardwareError("no driver; install it")
    while argument["end"] == "talk":
        yield msgspec.to_builtins(Resource(id="again", kind=ResourceKind.SERIAL, model="m"))


def probe(name: str, end: str = "", names: tuple[str, ...] = ()) -> Probe:
    return Probe(name=name, function=f"{HERE}:probing", argument={"names": names, "end": end})


@pytest.mark.slow
def test_a_probe_that_hangs_costs_its_deadline_and_nothing_of_the_others() -> None:
    probes = [
        probe("first", "hang", ("a",)),
        probe("second", "hang"),
        probe("third", "refuse", ("b",)),
        probe("fourth"),
    ]
    start_s = time.monotonic()
    first, second, third, fourth = discover(probes, deadline_s=4.0, site="lab")
    took_s = time.monotonic() - start_s
    assert took_s < first.took_s + second.took_s  # not one after the other
    assert [r.id for r in first.resources] == ["a"]
    assert first.reason == second.reason == "no answer within 4 s"
    assert ([r.id for r in third.resources], third.reason) == (["b"], "no driver; install it")
    assert (fourth.probe, fourth.resources, fourth.reason) == ("fourth", (), "")
    assert first.resources[0].site == "lab"
    assert fourth.took_s < first.took_s


@pytest.mark.slow
def test_a_probe_that_never_ends_talking_is_cut_off() -> None:
    [finding] = discover([probe("one", "talk")], deadline_s=1.5)
    assert finding.reason == "was still finding things at its deadline; what it found until then is listed"
    assert finding.resources


@pytest.mark.slow
def test_this_machine_is_looked_at_whole(tmp_path: Path) -> None:
    findings = discover(machine_probes(str(tmp_path)), deadline_s=60.0)
    assert [f.probe for f in findings] == ["nvidia", "realsense", "v4l2", "serial"]
    assert all(isinstance(r, Resource) for f in findings for r in f.resources)
    assert (findings[2].reason, findings[3].reason) == ("", "")


def test_no_probe_is_no_finding() -> None:
    assert discover([]) == []


def test_the_robots_of_a_configuration_are_looked_for_by_their_addresses() -> None:
    tree = {
        "name": "two",
        "left": {"name": "ur", "host": "10.0.0.2"},
        "right": {"arm": {"ip": "10.0.0.3", "port": 502}},
    }
    found = hosts_in(tree)
    assert found == {"robot.left": "10.0.0.2", "robot.right.arm": "10.0.0.3:502"}
    assert hosts_in({"name": "fake", "host": ""}) == {}
    spare, left, right = robot_probes(found, {"ROBOT_IP_SPARE": "10.0.0.9", "HOME": "/"})
    assert [p.name for p in (spare, left, right)] == ["spare", "robot.left", "robot.right.arm"]
    assert right.argument == {"name": "robot.right.arm", "address": "10.0.0.3:502", "timeout_s": 2.0}
