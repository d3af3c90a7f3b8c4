"""user-rl-edge status: what it finds, what it calls trouble, and how it looks."""

import fcntl
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest

from edge.fault import latch
from edge.main import main
from edge.orders import State
from edge.standing import FILE, Standing, StatusFile, read_standing
from edge.status import Look, look
from edge.status_view import as_text, duration, size
from user_rl.clock import FakeClock

OPEN = {"fleet": "open", "experience": "open", "weights": "open"}
WELL = Standing(
    written_s=100.0, time="2026-01-01T00:00:00+00:00", link_pid=12, cell="arm", run="peg", token=7, lease_left_s=852.0,
    state=State.RUNNING, episode=41, step=12_345, steps_per_s=10.0, late=3, version=17, fetched=18, rows=12_346,
    backlog_rows=1234, spool_bytes=1_200_000_000, spool_bound_bytes=8_600_000_000, disk_free_bytes=61_000_000_000,
    connections=OPEN, tunnel={"fleet": "open"},
)  # fmt: skip


@pytest.fixture
def home(tmp_path: Path) -> Iterator[Path]:
    """A home that a daemon holds, whose processes are in a /proc of the test's."""
    folder = tmp_path / "edge"
    folder.mkdir()
    for pid, name in ((10, "main"), (11, "control"), (12, "link"), (13, "tunnel")):
        process = tmp_path / "proc" / str(pid)
        (process / "task" / str(pid)).mkdir(parents=True)
        (process / "cmdline").write_text(f"python\0-m\0edge.{name}\0--shared\x003")
    (tmp_path / "proc/10/task/10/children").write_text("11 12 13 ")
    (tmp_path / "proc/10/stat").write_text(f"10 (python (x)) S {' '.join(map(str, range(4, 22)))} 500 9")
    (tmp_path / "proc/uptime").write_text("95.5 80.0")
    (folder / "lock").write_text("10\n")
    write(folder, WELL)
    with (folder / "lock").open() as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield folder


def write(home: Path, standing: Standing, **changes: Any) -> None:  # noqa: ANN401
    (home / FILE).write_bytes(msgspec.json.encode(msgspec.structs.replace(standing, **changes)))


def looked(home: Path, now_s: float = 101.0) -> Look:
    return look(home, now_s=now_s, proc=home.parent / "proc")


def test_a_daemon_that_is_well_has_four_processes_and_no_trouble(home: Path) -> None:
    found = looked(home)
    assert found.pids == {"halt": 10, "control": 11, "link": 12, "tunnel": 13}
    assert found.up_s == pytest.approx(90.5)
    assert (found.troubles, found.code, found.age_s) == ((), 0, 1.0)
    assert found.standing == WELL


@pytest.mark.parametrize(
    ("changes", "line"),
    [
        ({"state": State.NO_SENSOR, "reason": "front is stale"}, "waiting for a sensor: front is stale"),
        ({"state": State.NO_SPACE}, "waiting for space: no reason is said"),
        ({"blocked": "no space left"}, "the spool takes no rows: no space left"),
        ({"connections": {**OPEN, "fleet": "no answer"}}, "fleet: no answer"),
        ({"connections": {**OPEN, "weights": "nothing heard yet"}}, "weights: nothing heard yet"),
        ({"tunnel": {"live": "lost: x"}}, "tunnel, live: lost: x"),
        ({"written_s": 95.0}, "link does not say how it stands; see the daemon's log"),
        ({"written_s": 102.0}, "link does not say how it stands; see the daemon's log"),
    ],
)
def test_each_trouble_is_a_line_and_exit_status_1(home: Path, changes: dict[str, Any], line: str) -> None:
    write(home, WELL, **changes)
    found = looked(home)
    assert (found.troubles, found.code) == ((line,), 1)
    assert f"! {line}" in as_text(found, colour=False)


def test_what_a_cell_without_a_lease_does_not_hear_is_no_trouble(home: Path) -> None:
    shut = {**OPEN, "experience": "no address yet", "weights": "no address yet"}
    write(home, WELL, connections=shut, lease_left_s=0.0, state=State.NO_LEASE)
    assert looked(home).code == 0


def test_a_latched_fault_is_trouble(home: Path) -> None:
    write(home, WELL, state=State.FAULT, reason="limit")
    latch(home, "ur", "limit")
    (line,) = looked(home).troubles
    assert line.startswith("fault: limit (since ")


def test_a_child_that_is_gone_is_trouble(home: Path) -> None:
    (home.parent / "proc/10/task/10/children").write_text("12")
    assert looked(home).troubles == ("control is not running; the daemon's log says why",)


def test_a_lock_that_nobody_holds_is_a_daemon_that_does_not_run(home: Path) -> None:
    with (home / "lock").open() as lock:
        other = home.parent / "other"
        other.mkdir()
        (other / "lock").write_text("10\n")
        write(other, WELL)
        assert lock is not None
    found = looked(other)
    assert (found.code, found.pids) == (3, {})
    assert as_text(found, colour=False).splitlines() == [
        "● arm: does not run", "  last seen     2026-01-01T00:00:00+00:00, running, 1,234 rows to send",
    ]  # fmt: skip


def test_the_page_says_all_of_it(home: Path) -> None:
    more = {"actor": "acts from here: it is near", "pace": "2.10 MB/s (steady), round trip 81 ms, queue 0 ms"}
    write(home, WELL, waiting_rows=5, trouble="late", trouble_time="now", **more)
    assert as_text(looked(home), colour=False).splitlines() == [
        "● arm: running, run peg  up 1 min 30 s",
        "  episode       41, step 12,345, 10.0 steps/s; late 3, left out 0, held 0",
        "  weights       version 17, 18 is fetched",
        "  actor         acts from here: it is near",
        "  lease         7, for 14 min 12 s more without an answer of the fleet",
        "  spool         1.2 GB of 8.6 GB, 1,234 rows to send, 5 of other runs, 61.0 GB free on its disk",
        "  fleet         open",
        "  experience    open",
        "  weights       open",
        "  pace          2.10 MB/s (steady), round trip 81 ms, queue 0 ms",
        "  tunnel        fleet open",
        "  processes     halt 10, control 11, link 12, tunnel 13",
        "  last trouble  now: late",
    ]  # fmt: skip
    assert "\033[32m" in as_text(looked(home), colour=True)


def test_numbers_are_for_people() -> None:
    assert [duration(s) for s in (0.0, 59.4, 61.0, 3_700.0, 90_000.0)] == ["0 s", "59 s", "1 min 1 s", "1 h 1 min",
                                                                           "1 d 1 h"]  # fmt: skip
    assert [size(n) for n in (12, 1_200, 3_400_000, 5_600_000_000)] == ["12 bytes", "1.2 kB", "3.4 MB", "5.6 GB"]


def test_a_home_that_never_was_is_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["status", "--home", str(tmp_path)]) == 2
    assert "no daemon ever ran there; give the home that its configuration names" in capsys.readouterr().err


def test_the_file_is_whole_and_written_once_a_second(tmp_path: Path) -> None:
    clock = FakeClock(50.0)
    file = StatusFile(tmp_path, clock)
    assert file.due(clock.now_s())
    file.write(WELL)
    assert not file.due(clock.now_s() + 0.99)
    assert file.due(clock.now_s() + 1.0)
    assert read_standing(tmp_path) == WELL
    assert [p.name for p in tmp_path.iterdir()] == [FILE]
    (tmp_path / FILE).write_text("{")
    assert read_standing(tmp_path) is None
    later = json.loads(msgspec.json.encode(WELL)) | {"of_a_later_version": 1}
    (tmp_path / FILE).write_text(json.dumps(later))
    assert read_standing(tmp_path) == WELL
