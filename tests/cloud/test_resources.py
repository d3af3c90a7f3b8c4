"""`user-rl resources`: what a person and a program see of a real fleet, and what they may do there."""

import io
import json
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from rich.console import Console

from cloud.authority import Authority
from cloud.fleet import FleetServer, ServeConfig, admin_bundle
from cloud.main import main
from cloud.resources import table, watch
from user_rl.clock import FakeClock
from user_rl.fleet import AcceleratorCard, Card, FleetClient, Part, Resource, Status
from user_rl.trust import save_bundle

BOOT = "a" * 32
DEVICE = AcceleratorCard(id="gpu:n:0", node="n", site="lab", model="H100", memory_bytes=85 * 10**9, utilisation=0.25)


def card(cell: str) -> Card:
    return Card(
        cell=cell, boot=BOOT, model="panda", rate_hz=20.0, schema_digest="d", action_dim=4, cameras=("wrist", "side"),
        on_silence="stops", site="lab", dof=7, teleop="glove",
    )  # fmt: skip


@pytest.fixture
def home(tmp_path: Path) -> Iterator[Path]:
    """Of a fleet with a cell that is well, one with a broken camera, and an accelerator."""
    server = FleetServer(ServeConfig(home=tmp_path / "home"), clock=FakeClock())
    authority = Authority(tmp_path / "home" / "authority")
    for cell, health in (("arm-1", "ok"), ("arm-2", "broken")):
        parts = tuple(Part(name=name) for name in ("robot", "side", "teleop"))
        wrist = Part(name="wrist", health=health, reason="no frames")  # type: ignore[arg-type]
        with FleetClient(authority.mint(cell, kind="edge", fleet_address=server.address), deadline_s=30) as edge:
            edge.register(card(cell))
            edge.heartbeat(cell, BOOT, Status(state="waiting for a lease", parts=(*parts, wrist)))
    with FleetClient(admin_bundle(tmp_path / "home").at(server.address)) as admin:
        admin.report_accelerators([DEVICE])
    yield tmp_path / "home"
    server.close()


def test_the_table_says_what_there_is_and_what_is_wrong(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["resources", "--home", str(home)]) == 0
    lines = [re.sub(r" {2,}", "  ", line).strip() for line in capsys.readouterr().out.splitlines()]
    assert lines == [
        "2 robots  1 free  1 degraded",
        "1 accelerator  1 free",
        "",
        "resource  state  for  site  model  has  leased to, or why not",
        "arm-2  ▲ degraded  0 s  lab  panda  7 dof, 20 Hz, 2 cam, teleop  camera wrist is broken: no frames",
        "arm-1  ● free  0 s  lab  panda  7 dof, 20 Hz, 2 cam, teleop",
        "gpu:n:0  ● free  0 s  lab  H100  85 GB, 25 %",
    ]


def test_a_program_gets_every_field(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["resources", "--json", "--home", str(home)]) == 0
    listed = json.loads(capsys.readouterr().out)
    assert [(r["id"], r["kind"], r["state"], r["reason"]) for r in listed] == [
        ("arm-1", "cell", "free", ""), ("arm-2", "cell", "degraded", "camera wrist is broken: no frames"),
        ("gpu:n:0", "accelerator", "free", ""),
    ]  # fmt: skip
    assert listed[0]["card"]["cameras"] == ["wrist", "side"]
    assert listed[2]["accelerator"]["memory_bytes"] == 85 * 10**9


def state(home: Path, capsys: pytest.CaptureFixture[str]) -> list[str]:
    capsys.readouterr()
    main(["resources", "--json", "--home", str(home)])
    return [f"{r['state']}: {r['reason']}" for r in json.loads(capsys.readouterr().out)]


def test_a_person_takes_things_out_of_use_and_brings_them_back(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    argv = ["resources", "quarantine", "arm-1", "gpu:n:0", "--reason", "moved", "--home", str(home)]
    assert main(argv) == 0
    assert "arm-1 is quarantined; bring it back with user-rl resources admit arm-1" in capsys.readouterr().out
    taken = "quarantined: taken out of use by admin:local: moved"
    assert state(home, capsys)[::2] == [taken, taken]
    assert main(["resources", "--home", str(home), "admit", "arm-1", "gpu:n:0"]) == 0
    assert state(home, capsys)[::2] == ["free: ", "free: "]


def test_an_id_that_nobody_has_is_one_line_and_a_status(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["resources", "admit", "arm-9", "--home", str(home)]) == 1
    assert "no resource has the id 'arm-9', known are arm-1, arm-2, gpu:n:0" in capsys.readouterr().err


def test_another_fleet_is_asked_with_a_bundle(home: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    address = json.loads((home / "fleet" / "address.json").read_text())["address"]
    bundle = Authority(home / "authority").mint("demo", kind="run", fleet_address=address)
    save_bundle(bundle, tmp_path / "demo.json")
    assert main(["resources", "--json", "--bundle", str(tmp_path / "demo.json")]) == 0
    assert len(json.loads(capsys.readouterr().out)) == 3
    assert main(["resources", "quarantine", "arm-1", "--bundle", str(tmp_path / "demo.json")]) == 1
    assert "run:demo may not do that, allowed admin; use such a bundle" in capsys.readouterr().err


def test_a_home_without_a_fleet_is_one_line_and_left_alone(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["resources", "--home", str(tmp_path / "none")]) == 1
    assert f"no fleet has ever run in {tmp_path / 'none'}; start one with user-rl fleet" in capsys.readouterr().err
    assert not (tmp_path / "none").exists()


def watched(home: Path, looks: int, *, as_json: bool, terminal: bool) -> str:
    console = Console(file=io.StringIO(), force_terminal=terminal, width=120, height=40)
    clock = FakeClock()
    address = json.loads((home / "fleet" / "address.json").read_text())["address"]
    with FleetClient(admin_bundle(home).at(address), deadline_s=30) as client:
        watch(client, console, as_json=as_json, clock=clock, most=looks)
    assert clock.sleeps_s == [1.0] * (looks - 1)
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue()


def test_watching_refreshes_in_place(home: Path) -> None:
    text = watched(home, 3, as_json=False, terminal=True)
    assert text.count("▲ degraded") == 3 + 1, "once more at the end"
    assert text.count("\x1b[1A") >= 2 * 6, "the cursor goes back up over the table before it is drawn again"


def test_watching_for_programs_is_one_line_for_each_look(home: Path) -> None:
    lines = watched(home, 2, as_json=True, terminal=False).splitlines()
    assert [[r["id"] for r in json.loads(line)] for line in lines] == [["arm-1", "arm-2", "gpu:n:0"]] * 2


def test_watching_into_a_file_prints_every_look(home: Path) -> None:
    text = watched(home, 2, as_json=False, terminal=False)
    assert text.count("▲ degraded") == 2
    assert "\x1b" not in text


@pytest.mark.slow
def test_a_watch_outlives_the_fleet_and_shows_what_it_saw_last(tmp_path: Path) -> None:
    server = FleetServer(ServeConfig(home=tmp_path), clock=FakeClock())
    console = Console(file=io.StringIO(), force_terminal=True, width=120)

    class Closing(FakeClock):
        def sleep_until(self, deadline_s: float) -> None:
            server.close()

    with FleetClient(admin_bundle(tmp_path).at(server.address), deadline_s=2.0) as client:
        client.report_accelerators([DEVICE])
        watch(client, console, as_json=False, clock=Closing(), most=2)
    assert isinstance(console.file, io.StringIO)
    assert console.file.getvalue().count("gpu:n:0") == 2 + 1
    assert "no answer from the fleet" in console.file.getvalue()


def rendered(resource: Resource, width: int) -> str:
    console = Console(file=io.StringIO(), width=width)
    console.print(table([resource], width=width))
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue()


def listed(**changes: object) -> Resource:
    fields = {
        "id": "arm", "kind": "cell", "model": "panda", "site": "", "state": "leased", "since_s": 90.0, "reason": "",
        "lease": "held", "run": "demo", "role": "robots", "token": 1, "alive": True, "silent_s": 0.0,
        "card": card("arm"),
    }  # fmt: skip
    return Resource(**(fields | changes))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("resource", "words"),
    [
        (listed(), "demo"), (listed(reason="finishes its episode"), "demo: finishes its episode"),
        (listed(lease="releasing"), "was demo's"), (listed(kind="accelerator", role="learner"), "demo (learner)"),
        (listed(), "90 s"), (listed(since_s=120.0), "2 min"), (listed(since_s=7200.0), "2 h"),
        (listed(since_s=200_000.0), "2 d"), (listed(state="lost"), "○ lost"),
        (listed(status=Status(state="held by a watch", reason="no proposal")), "demo: no proposal"),
        (listed(reason="finishes", status=Status(state="running", reason="no proposal")), "demo: finishes"),
    ],
)  # fmt: skip
def test_a_row_says_who_has_it_and_for_how_long_it_has_been_so(resource: Resource, words: str) -> None:
    assert words in rendered(resource, 120)


def test_a_narrow_terminal_keeps_the_id_and_the_reason_whole() -> None:
    text = rendered(listed(id="a-very-long-name-of-a-cell", reason="a reason that is quite long, too"), 70)
    assert "…" not in text
    assert "7 dof" not in text


def test_an_empty_fleet_says_what_to_do() -> None:
    console = Console(file=io.StringIO(), width=120)
    console.print(table([], width=120))
    assert isinstance(console.file, io.StringIO)
    assert console.file.getvalue().strip().endswith("see user-rl enroll")
