"""Whoever needs a fleet gets the one fleet, and no process is left behind by these tests."""

import os
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from cloud.authority import Authority
from cloud.fleet import FleetServer, admin_bundle, ensure_fleet
from cloud.fleet.server import address_path, read_address
from user_rl.errors import Unreachable
from user_rl.fleet import FleetClient

pytestmark = pytest.mark.slow
LONG_S = 60.0
CODE = """
import pathlib, sys
from cloud.fleet import ensure_fleet
print(ensure_fleet(pathlib.Path(sys.argv[1]), deadline_s=60.0))
"""


def alive(pid: int) -> bool:
    with suppress(ChildProcessError):
        os.waitpid(pid, os.WNOHANG)  # if it is ours, it is no zombie after this
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return Path(f"/proc/{pid}/stat").read_text().split()[2] != "Z"


def end(pid: int) -> None:
    if alive(pid):
        os.kill(pid, signal.SIGKILL)
    for _ in range(round(LONG_S / 0.02)):
        if not alive(pid):
            return
        time.sleep(0.02)
    raise AssertionError(f"process {pid} did not end")


@pytest.fixture(autouse=True)
def _nothing_is_left(home: Path) -> Iterator[None]:
    yield
    said = read_address(home)
    if said and said.pid != os.getpid():
        end(said.pid)


def ensured(home: Path) -> str:
    return ensure_fleet(home, idle_exit_s=LONG_S, deadline_s=LONG_S)


def test_a_fleet_is_started_once_and_then_found(home: Path) -> None:
    address = ensured(home)
    said = read_address(home)
    assert said is not None
    assert said.address == address
    assert ensured(home) == address
    assert read_address(home) == said
    with FleetClient(admin_bundle(home).at(address), deadline_s=LONG_S) as client:
        assert [resource for resource in client.list() if resource.kind == "cell"] == []
    assert "listens on" in (home / "fleet" / "fleet.log").read_text()


def test_a_fleet_that_runs_already_is_used(fleet: FleetServer, home: Path) -> None:
    assert ensured(home) == fleet.address
    assert not (home / "fleet" / "fleet.log").exists()  # no other was even tried


def test_a_fleet_outlives_whoever_started_it(home: Path) -> None:
    argv = [sys.executable, "-c", CODE, str(home)]
    started = subprocess.run(argv, check=True, capture_output=True, text=True, timeout=LONG_S)
    said = read_address(home)
    assert said is not None
    assert os.getsid(said.pid) == said.pid  # a session of its own: no terminal's signal reaches it
    assert ensured(home) == started.stdout.strip()


def test_launches_that_race_end_with_one_fleet(home: Path) -> None:
    argv = [sys.executable, "-c", CODE, str(home)]
    racing = [subprocess.Popen(argv, stdout=subprocess.PIPE, text=True) for _ in range(3)]
    said = {process.communicate(timeout=LONG_S)[0] for process in racing}
    assert said == {ensured(home) + "\n"}
    assert (home / "fleet" / "fleet.log").read_text().count("listens on") == 1


@pytest.mark.parametrize("taken", [True, False])
def test_an_address_where_no_fleet_answers_is_not_believed(home: Path, taken: bool) -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        address = f"127.0.0.1:{other.getsockname()[1]}"
        if not taken:
            other.close()
        address_path(home).parent.mkdir(parents=True)
        address_path(home).write_text(f'{{"address": "{address}", "pid": {os.getpid()}}}')
        assert (ensured(home) == address) is not taken


def test_a_fleet_that_was_killed_is_started_again_at_its_address(home: Path) -> None:
    address = ensured(home)
    first = read_address(home)
    assert first is not None
    end(first.pid)
    assert ensured(home) == address
    second = read_address(home)
    assert second is not None
    assert second.pid != first.pid


def test_a_fleet_that_cannot_start_says_why_and_where_to_look(home: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        listen = f"127.0.0.1:{other.getsockname()[1]}"
        message = (
            rf"the fleet of {re.escape(str(home))} does not answer: .* cannot listen on {listen}: .*; see .*fleet.log"
        )
        with pytest.raises(Unreachable, match=message):
            ensure_fleet(home, listen=listen, deadline_s=LONG_S)


def test_the_admins_bundle_is_kept_and_made_again_when_it_was_revoked(home: Path) -> None:
    first = admin_bundle(home)
    assert admin_bundle(home) == first
    assert (home / "admin.json").stat().st_mode & 0o777 == 0o600
    Authority(home / "authority").revoke("local", kind="admin")
    assert admin_bundle(home) != first
