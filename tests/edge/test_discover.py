"""What the command line says of what was found."""

import json
import socket

import pytest

from edge.discover import as_json, as_text, look
from edge.main import main
from hal.discovery import Finding
from hal.resources import Accelerator, Capabilities, Condition, Health, Resource, ResourceKind

GPU = Resource(
    id="GPU-aaaa", kind=ResourceKind.ACCELERATOR, model="NVIDIA H100", address="cuda:0",
    health=Health(condition=Condition.OK),
    capabilities=Capabilities(accelerator=Accelerator(
        vendor="nvidia", memory_bytes=80 * 2**30, free_bytes=60 * 2**30, multiprocessors=132, utilisation=0.07,
        slices=("a", "b"),
    )),
)  # fmt: skip
ARM = Resource(
    id="left", kind=ResourceKind.ROBOT, model="", health=Health(condition=Condition.BROKEN, reason="no answer")
)
FINDINGS = [
    Finding(probe="nvidia", resources=(GPU,), took_s=0.1),
    Finding(probe="v4l2", resources=(), took_s=0.2),
    Finding(probe="left", resources=(ARM,), reason="cut off", took_s=0.3),
]


def test_the_table_says_what_each_thing_has_and_how_it_is() -> None:
    lines = as_text(FINDINGS, width=200).splitlines()
    assert lines[0].split() == ["KIND", "ID", "MODEL", "AT", "HAS", "HEALTH"]
    assert "60 of 80 GiB free, 132 SMs, 7% busy, 2 slices" in lines[1]
    assert lines[1].endswith("ok")
    assert lines[2].split() == ["robot", "left", "-", "-", "-", "broken:", "no", "answer"]


def test_what_was_looked_for_in_vain_stands_below_with_the_reason() -> None:
    below = as_text(FINDINGS, width=200).split("\n\n")[1].splitlines()
    assert [line.split(maxsplit=1) for line in below[1:]] == [["v4l2", "nothing is connected"], ["left", "cut off"]]


def test_json_holds_the_resources_and_the_probes() -> None:
    told = json.loads(as_json(FINDINGS))
    assert [r["id"] for r in told["resources"]] == ["GPU-aaaa", "left"]
    assert told["resources"][0]["capabilities"]["accelerator"]["multiprocessors"] == 132
    assert told["probes"][2] == {"name": "left", "found": 1, "reason": "cut off", "took_s": 0.3}


@pytest.mark.slow
def test_robots_of_the_configuration_and_of_the_environment_are_looked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        monkeypatch.setenv("ROBOT_IP_SPARE", f"127.0.0.1:{port}")
        findings = look({"robot": {"name": "ur", "host": "127.0.0.1", "port": port}}, deadline_s=60.0)
    robots = {r.id: r for f in findings for r in f.resources if r.kind is ResourceKind.ROBOT}
    assert {name: r.health.condition for name, r in robots.items()} == {"spare": Condition.OK, "robot": Condition.OK}


@pytest.mark.slow
def test_the_command_prints_what_there_is(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("ROBOT_IP", raising=False)
    assert main(["discover", "--json", "--deadline-s", "60"]) == 0
    assert {p["name"] for p in json.loads(capsys.readouterr().out)["probes"]} == {
        "nvidia",
        "realsense",
        "v4l2",
        "serial",
    }
    assert main(["discover"]) == 0
    assert "nvidia" in capsys.readouterr().out
