"""The fleet as a process: one per home, on one address, with everything still there after a kill."""

import os
import re
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from cloud.authority import Authority
from cloud.fleet import FleetServer, ServeConfig, admin_bundle, serve
from cloud.fleet.__main__ import main
from cloud.fleet.server import read_address
from user_rl.ask import Ask
from user_rl.clock import FakeClock, SystemClock
from user_rl.errors import ConfigError, StorageBusy
from user_rl.fleet import Card, FleetClient, Status

BOOT = "a" * 32
CARD = Card(cell="arm", boot=BOOT, model="panda", rate_hz=10.0, schema_digest="d", action_dim=4, on_silence="stops")
LONG_S = 60.0


@contextmanager
def running(home: Path, *options: str) -> Iterator["subprocess.Popen[str]"]:
    argv = [sys.executable, "-m", "cloud.fleet", "--home", str(home), *options]
    with subprocess.Popen(argv, stderr=subprocess.PIPE, text=True) as process:
        try:
            yield process
        finally:
            process.kill()


def address_of(process: "subprocess.Popen[str]") -> str:
    assert process.stderr is not None
    for line in process.stderr:
        if found := re.search(r"listens on (\S+)$", line):
            return found[1]
    raise AssertionError("it never listened")


def test_a_second_fleet_of_a_home_is_told_who_holds_it(fleet: FleetServer, home: Path, clock: FakeClock) -> None:
    message = f"{home / 'fleet'} is held by process {os.getpid()}, allowed one; stop it or wait for its end"
    with pytest.raises(StorageBusy, match=re.escape(message)):
        FleetServer(ServeConfig(home=home), clock=clock)


def test_a_port_in_use_is_one_clear_line_and_the_home_is_free_again(
    fleet: FleetServer, tmp_path: Path, clock: FakeClock
) -> None:
    other = tmp_path / "other"
    message = f"cannot listen on {fleet.address}: it is taken or not ours; free it or give --listen HOST:PORT"
    with pytest.raises(ConfigError, match=re.escape(message)):
        FleetServer(ServeConfig(home=other, listen=fleet.address), clock=clock)
    FleetServer(ServeConfig(home=other), clock=clock).close()


def test_a_home_says_where_its_fleet_listens(fleet: FleetServer, home: Path, tmp_path: Path) -> None:
    said = read_address(home)
    assert said is not None
    assert (said.address, said.pid) == (fleet.address, os.getpid())
    assert read_address(tmp_path / "empty") is None
    (home / "fleet" / "address.json").write_text("{")
    assert read_address(home) is None


def test_a_fleet_on_every_interface_is_reached_on_this_machine(home: Path, clock: FakeClock) -> None:
    server = FleetServer(ServeConfig(home=home, listen="0.0.0.0:0"), clock=clock)
    said = read_address(home)
    server.close()
    assert said is not None
    assert said.address == server.address.replace("0.0.0.0", "127.0.0.1")


def test_a_fleet_comes_back_on_its_last_port_or_on_another_if_that_is_taken(home: Path, clock: FakeClock) -> None:
    config = ServeConfig(home=home)
    first = FleetServer(config, clock=clock)
    first.close()
    second = FleetServer(config, clock=clock)
    second.close()
    assert second.address == first.address
    host, port = first.address.split(":")
    with socket.create_server((host, int(port))):
        third = FleetServer(config, clock=clock)
        third.close()
    assert third.address != first.address


def test_everything_is_there_after_a_restart(home: Path, clock: FakeClock, authority: Authority) -> None:
    before = FleetServer(ServeConfig(home=home), clock=clock)
    bundle = authority.mint("arm", kind="edge", fleet_address=before.address)
    with FleetClient(bundle, deadline_s=LONG_S) as arm, FleetClient(admin_bundle(home).at(before.address)) as admin:
        arm.register(CARD)
        arm.heartbeat("arm", BOOT, Status(state="idle"))
        admin.request_lease("demo", Ask())
    before.close()
    after = FleetServer(ServeConfig(home=home), clock=FakeClock())
    with FleetClient(bundle.at(after.address), deadline_s=LONG_S) as arm:
        told = arm.heartbeat("arm", BOOT, Status(state="idle")).assignment
    after.close()
    assert (told.run, told.token, told.wanted) == ("demo", 1, True)


def test_serve_ends_when_it_is_told_to(home: Path) -> None:
    stop = threading.Event()
    stop.set()
    serve(ServeConfig(home=home), stop)
    FleetServer(ServeConfig(home=home), clock=SystemClock()).close()  # the lock is free


@pytest.mark.slow
def test_a_fleet_that_nobody_needs_ends_by_itself(home: Path) -> None:
    with running(home, "--idle-exit", "0.2") as process:
        assert process.wait(LONG_S) == 0
        assert process.stderr is not None
        text = process.stderr.read()
    assert "nobody asked for 0 s and no cell is leased: the fleet ends" in text


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_the_process_cleanly(home: Path, number: signal.Signals) -> None:
    with running(home) as process:
        address_of(process)
        process.send_signal(number)
        assert process.wait(LONG_S) == 0


@pytest.mark.slow
def test_leases_survive_kill_9(home: Path) -> None:
    authority = Authority(home / "authority")
    with running(home) as process:
        address = address_of(process)
        bundle = authority.mint("arm", kind="edge", fleet_address=address)
        with FleetClient(bundle, deadline_s=LONG_S) as arm, FleetClient(admin_bundle(home).at(address)) as admin:
            arm.register(CARD)
            arm.heartbeat("arm", BOOT, Status(state="idle"))
            assert admin.request_lease("demo", Ask()).granted == {"arm": 1}
            process.kill()
    with running(home) as process, FleetClient(admin_bundle(home).at(address_of(process))) as admin:
        assert admin.renew("demo").cells == {"arm": 1}


@pytest.mark.slow
def test_an_error_is_one_line_and_a_status(fleet: FleetServer, tmp_path: Path) -> None:
    with running(tmp_path / "other", "--listen", fleet.address) as process:
        assert process.wait(LONG_S) == 1
        assert process.stderr is not None
        lines = process.stderr.read().splitlines()
    assert "Traceback" not in "\n".join(lines)
    assert f"cannot listen on {fleet.address}: it is taken or not ours; free it or give" in lines[-1]


def test_a_typo_on_the_command_line_is_refused(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["--home", str(home), "--idleexit", "5"])
    assert "--idleexit" in capsys.readouterr().err
    assert not home.exists()
